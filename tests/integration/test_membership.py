"""Nodes that come, go and are replaced while the cluster works, as real processes (A3)."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator

import pytest

from agent_sdk import Client, errors
from coordinator.cli.exits import Exit
from coordinator.cli.local_cluster import LocalCluster
from coordinator.config import DEFAULT, Given, build
from coordinator.consensus.membership import Member, Membership
from tests.integration.conftest import StartCluster, eventually_sync


class Writer:
    """A client that writes without a pause, and remembers what was acknowledged."""

    def __init__(self, endpoints: list[str]) -> None:
        self.acknowledged: list[str] = []
        self.failed: list[Exception] = []
        self._endpoints = endpoints
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _write(self) -> None:
        with Client(self._endpoints) as client:
            for number in itertools.count():
                if self._over.is_set():
                    return
                try:
                    client.kv.put(f"key {number}", b"value")
                except errors.QuorumflowError as error:
                    self.failed.append(error)
                    return
                self.acknowledged.append(f"key {number}")


@pytest.fixture
def cluster(start_cluster: StartCluster) -> LocalCluster:
    """Three nodes."""
    return start_cluster(nodes=3)


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of it."""
    with Client(cluster.endpoints) as connected:
        yield connected


def kinds(client: Client) -> dict[str, str]:
    """What each member is."""
    return {member.id: member.kind for member in client.members.list()}


def join(cluster: LocalCluster, client: Client, node_id: str) -> None:
    """Add a node that becomes a voter by itself."""
    node = cluster.add_node(node_id)
    client.members.add(node_id, node.raft, node.grpc, promote=True)
    eventually_sync(lambda: kinds(client)[node_id] == "voter", f"{node_id} votes")


def test_nodes_come_and_go_under_load(cluster: LocalCluster, client: Client) -> None:
    """A fourth node joins and votes, the leader itself is removed, and no write that was acknowledged is
    lost or fails."""
    with Writer(cluster.endpoints) as writer:
        join(cluster, client, "n4")
        leader = client.cluster_status().leader
        client.members.remove(leader)
        eventually_sync(lambda: not cluster.alive(leader), "the removed leader stops")
        assert cluster.exit_code(leader) == Exit.REFUSED
        assert "does not belong to the cluster any more" in cluster.log(leader).read_text()
        assert set(kinds(client)) == {"n1", "n2", "n3", "n4"} - {leader}
        count = len(writer.acknowledged)
        eventually_sync(lambda: len(writer.acknowledged) > count + 10, "writes go on")
    assert writer.failed == []
    assert {item.key for item in client.kv.range("key ")} >= set(writer.acknowledged)
    cluster.forget_node(leader)
    status = client.cluster_status()
    assert {node.kind for node in status.nodes} == {"voter"}
    assert status.leader in cluster.nodes


def test_a_dead_node_is_replaced_by_another(cluster: LocalCluster, client: Client) -> None:
    status = client.cluster_status()
    dead = next(node.id for node in status.nodes if node.id != status.leader)
    client.kv.put("key", b"value")
    cluster.kill_node(dead)
    node = cluster.add_node("n4")
    for _ in range(2):
        client.members.replace(dead, "n4", node.raft, node.grpc)
    eventually_sync(lambda: kinds(client).get("n4") == "voter", "the new node votes")
    cluster.restart_node(dead)
    eventually_sync(lambda: not cluster.alive(dead), "the old node hears of it and stops")
    assert cluster.exit_code(dead) == Exit.REFUSED
    cluster.forget_node(dead)
    client.members.transfer("n4")
    with Client([node.grpc]) as there:
        item = there.kv.get("key")
        assert item is not None
        assert item.value == b"value"
        assert there.cluster_status().leader == "n4"


def test_a_learner_is_promoted_by_hand_and_the_configuration_outlives_all(
    cluster: LocalCluster, client: Client
) -> None:
    node = cluster.add_node("n4")
    with pytest.raises(errors.NotFound):
        client.members.promote("n4")
    client.members.add("n4", node.raft, node.grpc)
    eventually_sync(
        lambda: [one for one in client.members.list() if one.id == "n4" and one.connected and not one.lag],
        "it has caught up",
    )
    assert kinds(client)["n4"] == "learner"
    client.members.promote("n4")
    before = {(member.id, member.kind, member.incarnation) for member in client.members.list()}
    for node_id in cluster.nodes:
        cluster.kill_node(node_id)
    for node_id in cluster.nodes:
        cluster.restart_node(node_id)
    cluster.wait_until_ready()
    assert {(one.id, one.kind, one.incarnation) for one in client.members.list()} == before
    assert [kind for _, kind, _ in before] == ["voter"] * 4


def test_a_data_folder_of_another_node_is_refused_at_start(cluster: LocalCluster, client: Client) -> None:
    status = client.cluster_status()
    one, other = (node.id for node in status.nodes if node.id != status.leader)
    for node_id in (one, other):
        cluster.kill_node(node_id)
    shutil.rmtree(cluster.nodes[one].data_dir)
    shutil.copytree(cluster.nodes[other].data_dir, cluster.nodes[one].data_dir)
    cluster.restart_node(one)
    eventually_sync(lambda: not cluster.alive(one), "it refuses to start")
    assert f"the data folder belongs to node '{other}'" in cluster.log(one).read_text()


def test_what_a_node_is_told_of_members_and_routes() -> None:
    three = "n1=h1:1/h1:2,n2=h2:1/h2:2"
    given = {
        "node_id": "n1",
        "cluster_nodes": three,
        "tls.mode": "off",
        "raft_routes": "n2=127.0.0.1:9, n3=p:1",
    }
    config = build({key: Given(value, DEFAULT) for key, value in given.items()})
    assert config.routes == {"n2": "127.0.0.1:9", "n3": "p:1"}
    founders = (Member("n1", "h1:1", "h1:2"), Member("n2", "h2:1", "h2:2"))
    assert config.founders == Membership(founders)
    joining = build({key: Given(value, DEFAULT) for key, value in (given | {"join": "true"}).items()})
    assert joining.founders == Membership()
