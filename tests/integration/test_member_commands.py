"""What operators see of membership: every refusal of `coordctl member` by a real node says what to do, and a
wiped node is refused, replaced, and votes again (A3, G4)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner

from agent_sdk import Client, errors
from coordinator.cli.client import main
from coordinator.cli.exits import Exit
from coordinator.cli.local_cluster import LocalCluster
from tests.integration.conftest import StartCluster, eventually_sync

Told = Callable[..., str]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """One node, and a learner that was added and never started."""
    with LocalCluster.start(tmp_path_factory.mktemp("alone"), nodes=1) as cluster:
        with Client(cluster.endpoints) as client:
            client.members.add("n2", "127.0.0.1:1", "127.0.0.1:2")
        yield cluster


@pytest.fixture
def told(alone: LocalCluster) -> Told:
    """Runs `coordctl member`, which must end with this code, and returns what it says."""

    def run(code: int, *command: str) -> str:
        result = CliRunner().invoke(main, ["--endpoints", alone.endpoints[0], "member", *command])
        assert result.exit_code == code, result.output
        return result.stdout + result.stderr

    return run


REFUSALS: list[tuple[int, list[str], list[str]]] = [
    (3, ["promote", "n9"], ["there are n1, n2", "coordctl member add n9"]),
    (3, ["remove", "n9"], ["there are n1, n2"]),
    (3, ["update", "n9", "--raft", "h:1"], ["there are n1, n2", "coordctl member add n9"]),
    (3, ["transfer", "n9"], ["there are n1, n2"]),
    (3, ["replace", "n9", "n8", "--raft", "h:1", "--grpc", "h:2"], ["there are n1, n2"]),
    (5, ["promote", "n2"], ["has not heard from it", "join=true", "empty data folder"]),
    (5, ["remove", "n1"], ["the only voter", "add and promote another"]),
    (5, ["replace", "n2", "n1"], ["a voter already", "coordctl member remove n2"]),
    (5, ["replace", "n1", "n1"], ["lives", "repeat this in a moment", "coordctl member list"]),
    (5, ["transfer", "n2"], ["a learner", "coordctl member promote n2"]),
    (5, ["transfer"], ["no other voter", "coordctl member list"]),
    (5, ["add", "n2", "--raft", "h:1", "--grpc", "h:2"], ["127.0.0.1:1", "coordctl member update"]),
    (
        5,
        ["add", "n3", "--raft", "127.0.0.1:1", "--grpc", "h:2"],
        ["the address of 'n2'", "coordctl member replace n2 n3"],
    ),
    (5, ["update", "n1", "--raft", "127.0.0.1:2"], ["the address of 'n2'"]),
    (2, ["add", "n 3", "--raft", "h:1", "--grpc", "h:2"], ["add.id", "letters, digits"]),
    (2, ["add", "n3", "--raft", "h", "--grpc", "h:2"], ["add.raft_address", "host:port"]),
    (2, ["add", "n3", "--raft", "h:1", "--grpc", "h:0"], ["add.grpc_address", "host:port"]),
    (2, ["replace", "n2", "", "--raft", "h:1", "--grpc", "h:2"], ["replace.new.id", "letters, digits"]),
    (2, ["update", "n1", "--grpc", "h:x"], ["update.grpc_address", "host:port"]),
]


@pytest.mark.parametrize(
    ("code", "command", "says"), REFUSALS, ids=[" ".join(command) for _, command, _ in REFUSALS]
)
def test_a_refusal_says_what_to_do(told: Told, code: int, command: list[str], says: list[str]) -> None:
    answer = told(code, *command)
    for part in says:
        assert part in answer
    assert {line.split()[0] for line in told(0, "list").splitlines()[1:]} == {"n1", "n2"}


def test_what_has_been_done_already_is_no_error(told: Told) -> None:
    for command in (
        ["add", "n2", "--raft", "127.0.0.1:1", "--grpc", "127.0.0.1:2"],
        ["promote", "n1"],
        ["update", "n2", "--raft", "127.0.0.1:1"],
        ["transfer", "n1"],
    ):
        told(0, *command)


def test_a_wiped_node_is_refused_replaced_and_votes_again(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=3)
    with Client(cluster.endpoints) as client:
        status = client.cluster_status()
        wiped = next(node.id for node in status.nodes if node.id != status.leader)
        before = {one.id: one.incarnation for one in client.members.list()}
        client.kv.put("key", b"value")
        cluster.kill_node(wiped)
        shutil.rmtree(cluster.nodes[wiped].data_dir)
        cluster.restart_node(wiped)
        eventually_sync(lambda: not cluster.alive(wiped), "the others refuse it, and it stops")
        assert cluster.exit_code(wiped) == Exit.REFUSED
        assert f"coordctl member replace {wiped} {wiped}" in cluster.log(wiped).read_text()

        place = cluster.nodes[wiped].raft, cluster.nodes[wiped].grpc

        def replaced() -> bool:
            try:
                client.members.replace(wiped, wiped, *place)
            except errors.WrongState:
                return False
            return True

        eventually_sync(replaced, "the leader holds it for dead")
        cluster.restart_node(wiped)
        cluster.wait_until_ready()
        eventually_sync(
            lambda: all(one.kind == "voter" and one.incarnation for one in client.members.list()),
            "all three vote",
        )
        after = {one.id: one.incarnation for one in client.members.list()}
        assert {one for one in before if before[one] != after[one]} == {wiped}
        client.members.transfer(wiped)
        with Client([cluster.nodes[wiped].grpc]) as there:
            item = there.kv.get("key")
            assert item is not None
            assert item.value == b"value"
