"""A backup is taken from real processes under load and becomes a new cluster: everything acknowledged before
it is there, time and work go on, and the old cluster's nodes stay outside (A2, A7)."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from agent_sdk import Client, Dag, Task
from agent_sdk.errors import Unavailable
from coordinator.cli.agent_spec import AgentSpec
from coordinator.cli.client import main
from coordinator.cli.exits import Exit
from coordinator.cli.local_cluster import ClusterFile, LocalCluster, NodeEntry
from coordinator.cli.ports import free_ports
from coordinator.cli.processes import Process, end
from tests.integration.conftest import WAIT_S, StartCluster, eventually_sync

NEW = "restored"


def coordctl(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["--output", "json", *map(str, arguments)])


def succeed(*arguments: str | Path) -> dict[str, Any]:
    done = coordctl(*arguments)
    assert done.exit_code == Exit.OK, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def back_up(cluster: LocalCluster, path: Path) -> dict[str, Any]:
    return succeed("--endpoints", ",".join(cluster.endpoints), "backup", path)


def single(name: str, seconds: float = 0.0) -> Dag:
    return Dag(name=name).add(Task(id="t", type="sleep", payload={"seconds": seconds}))


def new_layout(folder: Path) -> list[NodeEntry]:
    """Three nodes that are nowhere yet."""
    ports = free_ports("127.0.0.1", 6)
    addresses = [f"127.0.0.1:{port}" for port in ports]
    return [
        NodeEntry(node, 0, grpc, raft, str(folder / "data" / node))
        for node, grpc, raft in zip(("n1", "n2", "n3"), addresses[::2], addresses[1::2], strict=True)
    ]


def members(nodes: list[NodeEntry]) -> str:
    return ",".join(f"{node.id}={node.raft}/{node.grpc}" for node in nodes)


def restore(backup: Path, folder: Path) -> list[NodeEntry]:
    """The folders of a new cluster, each made from the backup."""
    nodes = new_layout(folder)
    (folder / "data").mkdir(parents=True)
    for node in nodes:
        succeed(
            *("restore", backup, "--data-dir", node.data_dir, "--node-id", node.id),
            *("--cluster-id", NEW, "--cluster-nodes", members(nodes)),
        )
    (folder / "cluster.json").write_bytes(msgspec.json.encode(ClusterFile(nodes)))
    return nodes


@pytest.fixture
def agent() -> AgentSpec:
    return AgentSpec(id="worker", slots=4)


class Load:
    """Submits small DAGs all the while; `acknowledged` holds the ids."""

    def __init__(self, endpoints: list[str]) -> None:
        self.acknowledged: list[str] = []
        self._client = Client(endpoints)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            self.acknowledged.append(self._client.submit(single("load")))


def test_a_backup_under_load_becomes_a_new_cluster_that_goes_on(
    start_cluster: StartCluster, agent: AgentSpec, tmp_path: Path
) -> None:
    old = start_cluster(nodes=3, agents=[agent])
    with Client(old.endpoints) as client, Load(old.endpoints) as load:
        running = client.submit(single("runs on", 3600.0))
        eventually_sync(lambda: client.task(running, "t").state == "RUNNING", "a task runs")
        eventually_sync(lambda: len(load.acknowledged) >= 50, "there is load")
        before = list(load.acknowledged)
        made = back_up(old, tmp_path / "backup")
        eventually_sync(lambda: len(load.acknowledged) >= len(before) + 20, "the load goes on")
        assert made["node"] != client.cluster_status().leader, "a follower was asked"
    assert succeed("backup", "--verify", tmp_path / "backup") == made

    restore(tmp_path / "backup", tmp_path / "new")
    other = AgentSpec(id="another", slots=4)
    with (
        LocalCluster.start(tmp_path / "new", nodes=3, agents=[other], settings={"cluster_id": NEW}) as new,
        Client(new.endpoints) as client,
    ):
        assert client.cluster_status().cluster_id == NEW
        known = {dag.dag_id: dag for dag in client.list()}
        assert set(before) <= known.keys()
        # The agent that ran it does not know of this cluster: it is lost, and its work goes to another.
        taken_over = eventually_sync(
            lambda: client.task(running, "t").attempts[1:], "the task runs at the other agent"
        )
        first, second = client.task(running, "t").attempts
        assert (first.agent, first.outcome, second.agent) == ("worker", "LOST", "another")
        assert taken_over[0].assigned_ms >= first.assigned_ms
        assert client.wait(client.submit(single("new")), WAIT_S).state == "COMPLETED"
        nodes = eventually_sync(lambda: at_rest(client), "all nodes stand at the same entry")
        assert nodes[0][0] > made["index"]
        assert len({digest for _, digest in nodes}) == 1


def at_rest(client: Client) -> list[tuple[int, str]] | None:
    """(applied index, digest) of every node, once they stand at the same entry."""
    found = [(node.applied_index, node.digest) for node in client.cluster_status().nodes]
    return found if len({index for index, _ in found}) == 1 else None


def test_the_restored_state_is_the_one_that_was_backed_up_and_the_old_nodes_stay_outside(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    old = start_cluster(nodes=3)
    with Client(old.endpoints) as client:
        for name in ("a", "b"):
            client.submit(single(name))
        client.kv.put("key", b"value")
        kept = client.reservations.set("sale", "shop", slots=1)
        (index, digest), *_ = eventually_sync(lambda: at_rest(client), "all nodes stand at the same entry")
    made = back_up(old, tmp_path / "backup")
    assert (made["index"], made["digest"]) == (index, digest)
    nodes = restore(tmp_path / "backup", tmp_path / "new")
    # A leader that stops hands over, and whoever comes next writes an entry of its own behind the backup's.
    leader = old.leader()
    for node_id in sorted(old.nodes, key=lambda node_id: node_id == leader):
        old.kill_node(node_id)
    old.stop()

    with (
        LocalCluster.start(tmp_path / "new", nodes=3, settings={"cluster_id": NEW}) as new,
        Client(new.endpoints) as client,
    ):
        assert {found for _, found in eventually_sync(lambda: at_rest(client), "equal")} == {digest}
        assert client.kv.get("key").value == b"value"
        assert client.reservations.list() == (kept,)
        leader = client.cluster_status().leader_address
        out = next(node for node in nodes if node.grpc != leader)
        new.kill_node(out.id)
        with intruder(old, out, nodes, tmp_path / "intruder.log"):
            for address in (leader, out.grpc):
                eventually_sync(lambda at=address: refusals(client, at), f"{address} refuses the other")
            assert client.kv.put("key", b"other").version > 0
            eventually_sync(lambda: role_of(client, out.id) == "unreachable", "nobody takes it for a member")
            assert client.node_status(out.grpc).applied_index == index, "it got nothing of the new cluster"


def role_of(client: Client, node_id: str) -> str:
    """What the cluster sees the node as."""
    return next(node.role for node in client.cluster_status().nodes if node.id == node_id)


def refusals(client: Client, address: str) -> float:
    """How many handshakes the node has refused."""
    try:
        return client.node_status(address).counters.get("handshakes_refused", 0)
    except Unavailable:
        return 0


@contextlib.contextmanager
def intruder(old: LocalCluster, place: NodeEntry, nodes: list[NodeEntry], log: Path) -> Iterator[None]:
    """A node of the old cluster, with the old state, at the address of the node of the new one that has the
    same id; it knows how to reach the others."""
    settings = {
        "node_id": place.id,
        "cluster_nodes": members(nodes),
        "raft_routes": ",".join(f"{node.id}={node.raft}" for node in nodes if node.id != place.id),
        "data_dir": old.nodes[place.id].data_dir,
        "tls.mode": "off",
    }
    arguments = ["serve", *(f"--set={key}={value}" for key, value in settings.items())]
    process = Process.start("coordinator", arguments, log)
    try:
        yield
    finally:
        end([process], 5.0)


@pytest.fixture(scope="module")
def small_backup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalCluster, Path]]:
    """A node alone, and a backup of it."""
    folder = tmp_path_factory.mktemp("small")
    with LocalCluster.start(folder / "cluster", nodes=1) as cluster, Client(cluster.endpoints) as client:
        client.submit(single("a"))
        back_up(cluster, folder / "backup")
        yield cluster, folder / "backup"


def test_a_node_alone_is_backed_up_by_itself(small_backup: tuple[LocalCluster, Path]) -> None:
    assert succeed("backup", "--verify", small_backup[1])["node"] == "n1"


def test_a_full_disk_leaves_no_half_backup(small_backup: tuple[LocalCluster, Path], tmp_path: Path) -> None:
    (tmp_path / "backup.partial").symlink_to("/dev/full")
    done = coordctl("--endpoints", small_backup[0].endpoints[0], "backup", tmp_path / "backup")
    assert done.exit_code == Exit.UNAVAILABLE
    assert "No space left on device" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_bad_files_are_refused_and_nothing_is_made(
    small_backup: tuple[LocalCluster, Path], tmp_path: Path
) -> None:
    content = small_backup[1].read_bytes()
    bad = tmp_path / "bad"
    for spoilt in (content[:-1], content + b"x", b"#!/bin/sh\n", content[:99] + b"?" + content[100:]):
        bad.write_bytes(spoilt)
        wanted = ("--data-dir", tmp_path / "new", "--node-id", "n1", "--cluster-id", NEW)
        for arguments in (("backup", "--verify", bad), ("restore", bad, *wanted)):
            done = coordctl(*arguments)
            assert (done.exit_code, "UNREADABLE_BACKUP" in done.stderr) == (Exit.INVALID, True)
    assert coordctl("backup", "--verify", tmp_path / "nowhere").exit_code == Exit.INVALID
    assert list(tmp_path.iterdir()) == [bad]


def test_a_file_that_is_there_is_not_overwritten(
    small_backup: tuple[LocalCluster, Path], tmp_path: Path
) -> None:
    cluster, backup = small_backup
    done = coordctl("--endpoints", cluster.endpoints[0], "backup", backup)
    assert (done.exit_code, "ALREADY_EXISTS" in done.stderr) == (Exit.REFUSED, True)
    unknown = coordctl("--endpoints", cluster.endpoints[0], "backup", tmp_path / "b", "--node", "nobody")
    assert (unknown.exit_code, "nobody" in unknown.stderr) == (Exit.NOT_FOUND, True)
