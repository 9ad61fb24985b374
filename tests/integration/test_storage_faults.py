"""Disks that fill up, files that are damaged, states that differ: on real processes, a node hands over or
stops before it can lie, and a damaged one never serves (A4, A5, H1)."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from agent_sdk import AsyncClient, Client, Dag, NodeStatus, Task, errors
from coordinator.api.server import Server
from coordinator.cli.agent_spec import alike
from coordinator.cli.local_cluster import LocalCluster
from coordinator.config import DEFAULT, Given, build
from coordinator.core.outcome import Table
from coordinator.errors import StateCorrupt
from coordinator.storage.engine import RocksEngine
from coordinator.storage.layout import FAMILIES, PLACES, decode
from quorumflow_proto.v1 import client_pb2
from quorumflow_proto.v1.client_pb2_grpc import ClientServiceStub
from tests.integration.conftest import WAIT_S, StartCluster, eventually_sync, serve

MIB = 1 << 20
FAILED = 1
"""The exit code of a node that a fault stopped, as docs/cli.md lists them."""


def last_error(cluster: LocalCluster, node_id: str) -> dict[str, Any]:
    """The last line that the node logged."""
    found: dict[str, Any] = json.loads(cluster.log(node_id).read_text().splitlines()[-1])
    return found


def gone(cluster: LocalCluster, node_id: str) -> Callable[[], bool]:
    return lambda: not cluster.alive(node_id)


def agree(client: Client) -> bool:
    """Whether all nodes stand at the same entry, with the same digest."""
    nodes = client.cluster_status().nodes
    return len({(one.applied_index, one.digest) for one in nodes}) == 1


# States that differ.


def spoil(cluster: LocalCluster, node_id: str, key: str) -> None:
    """Change what a stopped node has stored at a key into something that is as readable."""
    home = Path(cluster.nodes[node_id].data_dir) / "state"
    engine = RocksEngine(home / (home / "CURRENT").read_text(), FAMILIES, damage=StateCorrupt)
    place = PLACES[Table.KV]
    stored = engine.get(place.family, place.prefix + key.encode())
    assert stored is not None
    record = decode(Table.KV, stored)
    spoilt = msgspec.structs.replace(record, created=record.created + 1)
    batch = engine.batch()
    batch.put(place.family, place.prefix + key.encode(), msgspec.msgpack.encode(spoilt))
    engine.write(batch)
    engine.sync()
    engine.close()


def spoil_one_of(cluster: LocalCluster, client: Client, *, leader: bool) -> str:
    """Stop a node, spoil its state, start it again; with `leader`, have it lead. Returns its id."""
    client.kv.put("k", b"before")
    eventually_sync(lambda: agree(client), "all nodes have the key")
    spoilt = next(node.id for node in client.cluster_status().nodes if node.role == "follower")
    cluster.kill_node(spoilt)
    spoil(cluster, spoilt, "k")
    cluster.restart_node(spoilt)
    cluster.wait_until_ready()
    if leader:
        eventually_sync(lambda: leads(client, spoilt), f"{spoilt} leads")
    client.kv.put("k", b"after")
    return spoilt


def leads(client: Client, node_id: str) -> bool:
    """Have the others give up leadership until this one has it."""
    status = client.cluster_status()
    if status.leader == node_id:
        return True
    client.drain_node(status.leader)
    return False


@pytest.mark.parametrize("leader", [False, True], ids=["follower", "leader"])
def test_a_node_whose_state_differs_stops_and_names_the_entry(
    start_cluster: StartCluster, leader: bool
) -> None:
    cluster = start_cluster(nodes=3)
    with Client(cluster.endpoints) as client:
        spoilt = spoil_one_of(cluster, client, leader=leader)
        eventually_sync(gone(cluster, spoilt), "the node has stopped")
        error = last_error(cluster, spoilt)
        assert error["reason"] == "STATE_DIVERGED"
        assert int(error["first_different"]) > int(error["last_equal"]) > 0
        assert f"after entry {error['first_different']}" in error["error"]
        item = client.kv.get("k")
        assert item is not None
        assert item.value == b"after"
        client.kv.put("k", b"goes on")
        status = client.cluster_status()
        if not leader:
            (seen,) = [node for node in status.nodes if node.id == spoilt]
            assert seen.differs_at == int(error["first_different"])
    shown = coordctl(cluster, "cluster", "status")
    assert leader or f"differs from the leader's after entry {error['first_different']}" in shown


def coordctl(cluster: LocalCluster, *arguments: str) -> str:
    """What the program prints, as one line of JSON."""
    command = [sys.executable, "-m", "coordinator.cli.client", "--endpoints", ",".join(cluster.endpoints)]
    return subprocess.run(
        [*command, *arguments, "--output", "json"], capture_output=True, text=True, check=True, timeout=WAIT_S
    ).stdout


def test_of_two_that_differ_both_stop(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=2)
    with Client(cluster.endpoints, timeout_s=WAIT_S) as client:
        spoil_one_of(cluster, client, leader=False)
        for node_id in cluster.nodes:
            eventually_sync(gone(cluster, node_id), f"{node_id} has stopped")
            assert last_error(cluster, node_id)["reason"] == "STATE_DIVERGED"


# Disks that fill up.


@pytest.fixture
def small_disks(tmp_path: Path) -> Iterator[Path]:
    """A folder for a cluster of three whose nodes have disks of their own, 96 MiB each."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs")
    folder, mounted = tmp_path / "cluster", []
    for node_id in ("n1", "n2", "n3"):
        disk = folder / "data" / node_id
        disk.mkdir(parents=True)
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip(f"cannot mount a small tmpfs: {made.stderr.decode().strip()}")
        mounted.append(disk)
    yield folder
    for disk in mounted:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(cluster: LocalCluster, node_id: str, *, but: int) -> None:
    """Leave only so many bytes free on a node's disk."""
    disk = cluster.nodes[node_id].data_dir
    usage = os.statvfs(disk)
    size = usage.f_bavail * usage.f_frsize - but
    with open(Path(disk) / "ballast", "wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, size)


def empty(cluster: LocalCluster, node_id: str) -> None:
    (Path(cluster.nodes[node_id].data_dir) / "ballast").unlink()


def test_a_disk_that_fills_up_costs_the_leadership_and_no_more(small_disks: Path) -> None:
    settings = {"limits.min_free_bytes": str(24 * MIB), "limits.free_bytes_check_ms": "50"}
    with (
        LocalCluster.start(small_disks, nodes=3, agents=alike(1, 2), settings=settings) as cluster,
        Client(cluster.endpoints) as client,
    ):
        first = client.cluster_status().leader
        fill(cluster, first, but=16 * MIB)
        eventually_sync(lambda: client.cluster_status().leader != first, "another leads")
        eventually_sync(lambda: node(client, first).low_on_space, "the new leader knows why")
        assert "its disk is nearly full" in coordctl(cluster, "cluster", "status")
        assert client.node_status(cluster.nodes[first].grpc).free_bytes < 24 * MIB

        running = client.submit(Dag(dag_id="running").add(Task(id="t", type="sleep", payload={"seconds": 2})))
        for node_id in cluster.nodes.keys() - {first}:
            fill(cluster, node_id, but=16 * MIB)
        eventually_sync(lambda: refused(client), "new work is refused")
        assert client.wait(running, WAIT_S).state == "COMPLETED", "what has begun goes on"
        for node_id in cluster.nodes:
            empty(cluster, node_id)
        eventually_sync(lambda: not refused(client), "new work is taken again")
        eventually_sync(lambda: not node(client, first).low_on_space, "all is well again")


def node(client: Client, node_id: str) -> NodeStatus:
    return next(one for one in client.cluster_status().nodes if one.id == node_id)


def refused(client: Client) -> bool:
    """Whether the cluster refuses new work, with an error that says what to do."""
    try:
        client.submit(Dag().add(Task(id="t", type="noop")))
    except errors.OutOfSpace as error:
        return "limits.min_free_bytes" in error.message and error.fields["limit"] == str(24 * MIB)
    return False


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_disk_that_is_truly_full_stops_the_node_and_loses_nothing(small_disks: Path, role: str) -> None:
    settings = {"limits.min_free_bytes": "0"}
    with (
        LocalCluster.start(small_disks, nodes=3, agents=alike(1, 2), settings=settings) as cluster,
        Client(cluster.endpoints) as client,
    ):
        victim = next(
            one.id for one in client.cluster_status().nodes if (one.role == "leader") == (role == "leader")
        )
        acknowledged: list[str] = []
        fill(cluster, victim, but=0)

        def stopped() -> bool:
            payload = random.randbytes(100_000)
            task = Task(id="t", type="noop", payload=payload)
            acknowledged.append(client.submit(Dag(dag_id=f"d{len(acknowledged)}").add(task)))
            return not cluster.alive(victim)

        eventually_sync(stopped, "the node has stopped")
        assert last_error(cluster, victim)["reason"] == "STORAGE_FAULT"
        states = {client.wait(dag_id, WAIT_S).state for dag_id in acknowledged}
        assert states == {"COMPLETED"}
        empty(cluster, victim)
        cluster.restart_node(victim)
        cluster.wait_until_ready()
        eventually_sync(lambda: agree(client), "all nodes hold the same state")


# Files that are damaged.

MARK = b"a result that lies on the disk: " + random.Random(7).randbytes(100_000)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a node that was stopped, with a finished DAG whose result lies in a table file, and no
    longer in memory."""
    folder = tmp_path_factory.mktemp("intact")
    with LocalCluster.start(folder, nodes=1, agents=alike(1, 1)) as cluster:
        with Client(cluster.endpoints) as client:
            # The first result fills a block, so that the second lies in one that starting does not read.
            for dag_id, payload in (("first", bytes(10_000)), ("d", MARK)):
                client.submit(Dag(dag_id=dag_id).add(Task(id="t", type="echo", payload=payload)))
                assert client.wait(dag_id, WAIT_S).state == "COMPLETED"
        # Starting, RocksDB writes what its log holds to table files.
        cluster.kill_node("n1")
        cluster.restart_node("n1")
        cluster.wait_until_ready()
    return folder / "data" / "n1"


@pytest.fixture
def data(intact: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(intact, tmp_path / "data"))


def state(data: Path) -> Path:
    return data / "state" / (data / "state" / "CURRENT").read_text()


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(content)


def flip_all(folder: Path, pattern: str) -> None:
    """A bit in the middle of every such file that holds anything."""
    files = [path for path in folder.glob(pattern) if path.stat().st_size > 100]
    assert files, f"{folder} has no {pattern}"
    for path in files:
        flip(path, path.stat().st_size // 2)


def remove_all(folder: Path, pattern: str) -> None:
    files = list(folder.glob(pattern))
    assert files, f"{folder} has no {pattern}"
    for path in files:
        path.unlink()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "log, tables": lambda data: flip_all(data / "log", "*.sst"),
    "log, manifest": lambda data: flip_all(data / "log", "MANIFEST-*"),
    "log, tables gone": lambda data: remove_all(data / "log", "*.sst"),
    "log, pointer gone": lambda data: remove_all(data / "log", "CURRENT"),
    "log gone": lambda data: remove_all(data / "log", "*"),
    "state, tables": lambda data: flip_all(state(data), "*.sst"),
    "state, manifest": lambda data: flip_all(state(data), "MANIFEST-*"),
    "state, tables gone": lambda data: remove_all(state(data), "*.sst"),
    "state, pointer gone": lambda data: remove_all(state(data), "CURRENT"),
    "home, pointer gone": lambda data: remove_all(data / "state", "CURRENT"),
    "home, pointer": lambda data: flip(data / "state" / "CURRENT", 0),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_node_whose_files_are_damaged_never_serves(data: Path, damage: str) -> None:
    DAMAGE[damage](data)
    code, log = serve(data)
    assert code == FAILED
    assert log["reason"] == "LOG_CORRUPT" if damage.startswith("log") else "STATE_CORRUPT"
    assert "folder" in log["error"], "it says what to do"


async def test_damage_that_is_met_when_it_is_read_stops_the_node(data: Path) -> None:
    tables = [path for path in state(data).glob("*.sst") if MARK in path.read_bytes()]
    assert tables
    for table in tables:
        flip(table, table.read_bytes().index(MARK) + 50_000)
    given = {"node_id": "n1", "data_dir": str(data), "grpc_port": 0, "raft_port": 0}
    server = Server(build({key: Given(value, DEFAULT) for key, value in given.items()}))
    addresses = await server.start()
    async with AsyncClient(addresses.grpc, timeout_s=5) as client:
        assert (await client.get("d")).state == "COMPLETED", "this lies elsewhere"
        with pytest.raises(errors.QuorumflowError):
            await client.result("d", "t")
    with pytest.raises(StateCorrupt, match="is damaged"):
        await asyncio.wait_for(server.node.failed, WAIT_S)
    await server.stop()


# A disk that takes its time.


async def test_nobody_waits_for_a_node_that_closes_its_databases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"node_id": "n1", "data_dir": str(tmp_path), "grpc_port": 0, "raft_port": 0}
    server = Server(build({key: Given(value, DEFAULT) for key, value in given.items()}))
    addresses = await server.start()
    really_close, answers = server.node.close, list[grpc.StatusCode]()

    def close() -> None:
        # The event loop stands still meanwhile, as it does while a failing disk is closed.
        with grpc.insecure_channel(addresses.grpc) as channel, pytest.raises(grpc.RpcError) as refused:
            ClientServiceStub(channel).GetDag(client_pb2.GetDagRequest(dag_id="d"), timeout=2)
        answers.append(refused.value.code())
        really_close()

    monkeypatch.setattr(server.node, "close", close)
    await server.stop()
    assert answers == [grpc.StatusCode.UNAVAILABLE]
