"""Three real nodes on the loopback interface: what is acknowledged stays, whoever stops (A1, A2, A4, A5,
A7)."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import msgspec
import pytest
import uvloop

from coordinator.consensus.changes import Change, Remove
from coordinator.consensus.membership import Membership
from coordinator.consensus.messages import AppendEntries
from coordinator.consensus.port import Abstention, Role
from coordinator.consensus.settings import RaftSettings
from coordinator.errors import (
    LimitExceeded,
    NotFound,
    NotLeader,
    QueueFull,
    StartFailed,
    Unavailable,
    WrongState,
)
from tests.consensus.conftest import MakeCluster
from tests.consensus.loopback import PATIENCE_S, Cluster, WatchedReplica, number


async def test_a_single_node_leads_itself_and_keeps_what_it_acknowledged(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1, None)
    await cluster.start()
    assert await cluster.led() == "n1"
    for value in range(5):
        await cluster.write(number(value))
    assert await cluster.nodes["n1"].read_index() == cluster.nodes["n1"].status().commit_index
    await cluster.kill("n1", forget_state=True)
    await cluster.start("n1")
    await cluster.until(lambda: len(cluster.replicas["n1"].commands) == 5)
    assert cluster.replicas["n1"].commands == [number(value) for value in range(5)]


async def test_entries_reach_every_node_in_one_order(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, None)
    await cluster.start()
    leader = await cluster.led()
    placed = [cluster.nodes[leader].propose(number(value)) for value in range(200)]
    await cluster.all_applied(placed[-1][0])
    # Where a leader was late, one node may already have the empty entry of the next.
    await cluster.until(lambda: len({replica.applied.index for replica in cluster.replicas.values()}) == 1)
    assert {tuple(replica.commands) for replica in cluster.replicas.values()} == {
        tuple(number(value) for value in range(200))
    }
    assert len({replica.applied.digest for replica in cluster.replicas.values()}) == 1


async def test_what_is_pushed_leaves_at_once_and_together(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make_cluster(3, None)
    await cluster.start()
    await cluster.write(number(0))
    await cluster.all_applied(cluster.nodes[await cluster.led()].status().last_index)
    leader = cluster.nodes[await cluster.led()]
    sent: list[int] = []

    def send(node: object, message: object) -> bool:
        sent.append(len(message.entries) if isinstance(message, AppendEntries) else 0)
        return True

    monkeypatch.setattr(cluster.links(await cluster.led()), "send", send)
    leader.propose(number(1))
    leader.propose(number(2))
    assert sent == []
    leader.push()
    assert sent == [2, 2]
    leader.push()
    assert sent == [2, 2]


async def test_followers_name_the_leader_and_its_address(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, None)
    await cluster.start()
    leader = await cluster.led()
    follower = next(node for node in cluster.ids if node != leader)
    with pytest.raises(NotLeader) as refusal:
        cluster.nodes[follower].propose(b"x")
    assert (refusal.value.leader_id, refusal.value.leader_address) == (leader, f"{leader}:grpc")
    with pytest.raises(NotLeader):
        await cluster.nodes[follower].read_index()


async def test_a_leader_that_dies_takes_nothing_acknowledged_with_it(make_cluster: MakeCluster) -> None:
    """Three leaders in a row are stopped without a word, each in the middle of proposals, and started
    again."""
    cluster = make_cluster(3, None)
    await cluster.start()
    acknowledged: list[bytes] = []
    for turn in range(3):
        for value in range(20):
            command = number(100 * turn + value)
            await cluster.write(command)
            acknowledged.append(command)
        leader = await cluster.led()
        for value in range(20, 40):
            cluster.nodes[leader].propose(number(100 * turn + value))
        await cluster.kill(leader, forget_state=turn == 1)
        acknowledged.append(number(100 * turn + 99))
        index, _ = await cluster.write(acknowledged[-1])
        await cluster.start(leader)
        await cluster.all_applied(index)
    logs = [replica.commands for replica in cluster.replicas.values()]
    shortest = min(len(commands) for commands in logs)
    assert len({tuple(commands[:shortest]) for commands in logs}) == 1
    # A write that met a change of leaders was proposed again, and may be there twice: ids are not
    # consensus's.
    found = dict.fromkeys(command for command in logs[0] if command in set(acknowledged))
    assert list(found) == acknowledged


async def test_all_nodes_stop_at_once_and_go_on(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, None)
    await cluster.start()
    index = await cluster.write_all(number(value) for value in range(10))
    for node in cluster.ids:
        await cluster.kill(node, forget_state=True)
    await cluster.start()
    await cluster.led()
    await cluster.all_applied(index)
    assert {tuple(replica.commands) for replica in cluster.replicas.values()} == {
        tuple(number(value) for value in range(10))
    }


SMALL_LOG = RaftSettings(compact_after_entries=50, keep_entries=5, tail_entries=20, max_append_entries=8)


async def test_a_follower_that_was_away_catches_up_by_log(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, RaftSettings(max_append_entries=8, tail_entries=20))
    await cluster.start()
    leader = await cluster.led()
    away = next(node for node in cluster.ids if node != leader)
    await cluster.kill(away)
    index = await cluster.write_all(number(value) for value in range(100))
    await cluster.start(away)
    await cluster.all_applied(index)
    leader = await cluster.led()
    assert cluster.replicas[leader].snapshots_read == 0
    assert cluster.replicas[away].commands == cluster.replicas[leader].commands


async def test_a_follower_that_was_away_too_long_catches_up_by_snapshot(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, SMALL_LOG)
    await cluster.start()
    leader = await cluster.led()
    away = next(node for node in cluster.ids if node != leader)
    await cluster.kill(away, forget_state=True)
    index = await cluster.write_all(number(value) for value in range(300))
    leader = await cluster.led()
    assert cluster.nodes[leader].status().first_index > 100
    await cluster.start(away)
    await cluster.all_applied(index)
    assert cluster.replicas[away].commands == cluster.replicas[leader].commands
    assert cluster.nodes[away].status().counters["snapshots_installed"] >= 1
    await cluster.write(number(300))
    assert sum(replica.snapshots_open for replica in cluster.replicas.values()) == 0


async def test_a_snapshot_goes_on_where_a_lost_connection_stopped_it(make_cluster: MakeCluster) -> None:
    pace = WatchedReplica.chunk_bytes * 20
    cluster = make_cluster(3, msgspec.structs.replace(SMALL_LOG, snapshot_bytes_per_s=pace))
    await cluster.start()
    leader = await cluster.led()
    away = next(node for node in cluster.ids if node != leader)
    await cluster.kill(away, forget_state=True)
    index = await cluster.write_all(number(value) for value in range(300))
    leader = await cluster.led()
    await cluster.start(away)
    await cluster.until(lambda: cluster.replicas[away].chunks_received > 3)
    cluster.break_links(away)
    await cluster.all_applied(index)
    content = len(msgspec.msgpack.encode(cluster.replicas[leader].commands))
    assert cluster.nodes[leader].status().counters["snapshots_begun"] == 1
    assert cluster.replicas[away].chunks_received == math.ceil(content / WatchedReplica.chunk_bytes)


async def test_leadership_is_handed_over_without_an_election_timeout(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, None)
    await cluster.start()
    leader = await cluster.led()
    target = next(node for node in cluster.ids if node != leader)
    await cluster.write(b"before")
    assert await cluster.nodes[leader].transfer_leadership(target) == target
    assert cluster.nodes[target].status().role is Role.LEADER
    assert cluster.nodes[target].status().counters["transfers_received"] == 1
    await cluster.write(b"after")
    with pytest.raises(NotFound, match="there are n1, n2, n3"):
        await cluster.nodes[target].transfer_leadership("nobody")
    with pytest.raises(WrongState, match="leads already"):
        await cluster.nodes[target].transfer_leadership(target)


async def changed(cluster: Cluster, leader: str, change: Change) -> Membership:
    """Make a change as soon as the leader has heard everybody and is through with changes of its own."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await cluster.nodes[leader].change_membership(change)
            except (Unavailable, WrongState):
                await cluster.write(b"meanwhile")


async def test_a_leader_commits_its_own_removal_and_hands_over(make_cluster: MakeCluster) -> None:
    """The others go by the configuration without it from the moment that they have it, and must go on taking
    what it sends."""
    cluster = make_cluster(3, None)
    await cluster.start()
    leader = await cluster.led()
    others = [node for node in cluster.ids if node != leader]
    membership = await changed(cluster, leader, Remove(leader))
    assert [voter.id for voter in membership.voters] == others
    await cluster.until(lambda: any(cluster.nodes[node].status().role is Role.LEADER for node in others))
    assert sum(cluster.nodes[node].status().counters.get("transfers_received", 0) for node in others) == 1


async def test_a_node_that_abstains_is_passed_over_and_leads_again_when_it_may(
    make_cluster: MakeCluster,
) -> None:
    """A drained node (A3): whoever of the others dies, it does not stand, though its vote counts."""
    cluster = make_cluster(3, None)
    await cluster.start()
    drained = await cluster.led()
    cluster.nodes[drained].abstain(Abstention.DRAINED)
    second = await cluster.nodes[drained].transfer_leadership()
    await cluster.kill(second)
    third = next(node for node in cluster.ids if node not in (drained, second))
    await cluster.until(lambda: cluster.nodes[third].status().role is Role.LEADER)
    await cluster.start(second)
    await cluster.all_applied((await cluster.write(b"x"))[0])
    for node in (second, third):
        cluster.nodes[node].abstain(Abstention.DRAINED)
    cluster.nodes[drained].abstain(Abstention.NONE)
    await cluster.kill(third)
    await cluster.until(lambda: cluster.nodes[drained].status().role is Role.LEADER)


async def test_a_leader_that_stops_hands_over_first(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, None)
    await cluster.start()
    leader = await cluster.led()
    await cluster.nodes[leader].stop()
    others = [node for node in cluster.ids if node != leader]
    await cluster.until(lambda: any(cluster.nodes[node].status().role is Role.LEADER for node in others))
    assert sum(cluster.nodes[node].status().counters.get("transfers_received", 0) for node in others) == 1


async def test_reads_wait_for_a_majority(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, None)
    await cluster.start()
    index, _ = await cluster.write(b"x")
    leader = await cluster.led()
    answers = await asyncio.gather(*(cluster.nodes[leader].read_index() for _ in range(50)))
    assert min(answers) >= index
    for node in cluster.ids:
        if node != leader:
            await cluster.kill(node)
    with pytest.raises(NotLeader):
        await cluster.nodes[leader].read_index()
    assert cluster.nodes[leader].status().role is not Role.LEADER


async def test_limits_are_named(make_cluster: MakeCluster) -> None:
    settings = RaftSettings(max_entry_bytes=1000, max_uncommitted_entries=10)
    cluster = make_cluster(1, settings)
    await cluster.start()
    node = cluster.nodes[await cluster.led()]
    with pytest.raises(LimitExceeded, match="max_entry_bytes"):
        node.propose(b"x" * 1001)
    await cluster.write(b"first")
    for _ in range(10):
        node.propose(b"x")
    with pytest.raises(QueueFull, match="max_uncommitted_entries"):
        node.propose(b"one too many")
    await cluster.write(b"room again")


async def test_a_port_that_is_taken_is_named(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(2, None)
    await cluster.start("n1")
    port = cluster.nodes["n1"].bound_port
    cluster._ports["n2"] = port
    with pytest.raises(StartFailed, match=str(port)):
        await cluster.start("n2")


def test_the_cluster_runs_on_uvloop(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = Cluster(tmp_path, 3)
        await cluster.start()
        index, _ = await cluster.write(b"x")
        leader = await cluster.led()
        await cluster.kill(leader)
        index, _ = await cluster.write(b"y")
        await cluster.start(leader)
        await cluster.all_applied(index)
        await cluster.stop()

    uvloop.run(scenario())
