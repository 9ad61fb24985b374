"""What a node makes of ports, folders and disks that it cannot use: it names the thing and ends, the cluster
goes on, and nothing acknowledged is lost. Answers A4, H1, H3, I3."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_sdk import Client, Dag, Task
from coordinator.cli.agent_spec import alike
from coordinator.cli.local_cluster import LocalCluster
from tests.integration.conftest import WAIT_S, StartCluster, eventually_sync, serve

UNAVAILABLE, FAILED = 4, 1
"""Exit codes, as docs/cli.md lists them."""


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize("key", ["grpc_port", "raft_port"])
def test_a_port_that_is_taken(tmp_path: Path, taken: int, key: str) -> None:
    code, log = serve(tmp_path / "data", **{key: taken})
    assert (code, log["reason"]) == (UNAVAILABLE, "START_FAILED")
    assert f"127.0.0.1:{taken}" in log["error"]
    assert key in log["error"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, log = serve(tmp_path / "file" / "data")
    assert (code, log["reason"]) == (UNAVAILABLE, "START_FAILED")
    assert str(tmp_path / "file" / "data") in log["error"]
    assert "data_dir" in log["error"]


def test_a_folder_that_another_node_holds(start_cluster: StartCluster) -> None:
    held = Path(start_cluster(nodes=1).nodes["n1"].data_dir)
    code, log = serve(held)
    assert (code, log["reason"]) == (UNAVAILABLE, "START_FAILED")
    assert "is held by another process" in log["error"]
    assert str(held) in log["error"]


def submit(client: Client, dag_id: str, payload: bytes = b"") -> str:
    return client.submit(Dag(dag_id=dag_id).add(Task(id="t", type="noop", payload=payload)))


def write_ahead_log(cluster: LocalCluster, node_id: str) -> Path:
    """The newest file of the engine that holds the node's log."""
    return max((Path(cluster.nodes[node_id].data_dir) / "log").glob("*.log"))


def test_a_log_that_was_damaged_in_the_middle(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=1)
    with Client(cluster.endpoints) as client:
        for number in range(20):
            submit(client, f"d{number}", payload=bytes(2_000))
    cluster.kill_node("n1")
    file = write_ahead_log(cluster, "n1")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    code, log = serve(Path(cluster.nodes["n1"].data_dir))
    assert (code, log["reason"]) == (FAILED, "LOG_CORRUPT")
    assert str(file.parent) in log["error"]
    assert "rejoin with an empty folder" in log["error"]


def test_a_log_whose_last_write_was_torn(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=3, agents=alike(1, 2))
    with Client(cluster.endpoints) as client:
        dag_ids = [submit(client, f"d{number}") for number in range(20)]
        status = client.cluster_status()
        torn = next(node.id for node in status.nodes if node.id != status.leader)
        cluster.kill_node(torn)
        file = write_ahead_log(cluster, torn)
        file.write_bytes(file.read_bytes()[:-7])
        cluster.restart_node(torn)
        cluster.wait_until_ready()
        assert [client.wait(dag_id, WAIT_S).state for dag_id in dag_ids] == ["COMPLETED"] * 20
        await_agreement(client)


def await_agreement(client: Client) -> None:
    """Until all nodes stand at the same entry, with the same digest."""

    def agree() -> bool:
        nodes = client.cluster_status().nodes
        return len({(node.applied_index, node.digest) for node in nodes}) == 1

    eventually_sync(agree, "all nodes hold the same state")


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_a_disk_that_is_full(start_cluster: StartCluster, victim: str) -> None:
    """A bound on the size of files stands in for it: the next write fails as it does without space."""
    cluster = start_cluster(nodes=3, agents=alike(1, 2))
    with Client(cluster.endpoints) as client:
        status = client.cluster_status()
        node_id = next(one.id for one in status.nodes if (one.id == status.leader) == (victim == "leader"))
        acknowledged = [submit(client, f"before-{number}", payload=bytes(100_000)) for number in range(10)]
        room = write_ahead_log(cluster, node_id).stat().st_size + 150_000
        resource.prlimit(cluster.nodes[node_id].pid, resource.RLIMIT_FSIZE, (room, room))

        def stopped() -> bool:
            number = len(acknowledged)
            acknowledged.append(submit(client, f"after-{number}", payload=bytes(100_000)))
            return not cluster.alive(node_id)

        eventually_sync(stopped, "the node has stopped")
        error = last_error(cluster, node_id)
        assert error["reason"] == "STORAGE_FAULT"
        assert cluster.nodes[node_id].data_dir in error["error"]
        assert "Free space" in error["error"]
        assert [client.wait(dag_id, WAIT_S).state for dag_id in acknowledged] == ["COMPLETED"] * len(
            acknowledged
        )
        cluster.restart_node(node_id)
        cluster.wait_until_ready()
        await_agreement(client)


def last_error(cluster: LocalCluster, node_id: str) -> dict[str, Any]:
    """The last line that the node logged."""
    found: dict[str, Any] = json.loads(cluster.log(node_id).read_text().splitlines()[-1])
    return found
