"""A disk that fills up (A4, H1): a node hands leadership over before its disk is full and comes back by
itself; with all disks nearly full the cluster ends what it has and takes nothing new, but answers a retry of
what it has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from coordinator.consensus.port import Abstention, Role
from coordinator.core.commands import CancelDag, KvDelete, KvPut, SubmitDag, WriteId
from coordinator.core.model import DagHeader, TaskBlock, TaskProfile
from coordinator.core.outcome import DagChanged, KvDeleted, KvStored, Submitted
from coordinator.errors import OutOfSpace, WrongState
from tests.replica.nodes import Nodes

LEAST = 1_000_000
PLENTY, LITTLE = 10 * LEAST, LEAST - 1

MakeNodes = Callable[[int], Awaitable[Nodes]]


@pytest.fixture
async def make_nodes(tmp_path: Path) -> AsyncIterator[MakeNodes]:
    """Nodes that lead and follow."""
    made: list[Nodes] = []

    async def make(size: int) -> Nodes:
        made.append(Nodes(tmp_path, size, **{"limits.min_free_bytes": LEAST}))
        await made[-1].start()
        await made[-1].led()
        return made[-1]

    yield make
    for nodes in made:
        await nodes.stop()


def submission(dag_id: str) -> SubmitDag:
    block = TaskBlock(0, ["t"], [0], [()], [b""], [0])
    return SubmitDag(f"request-{dag_id}", DagHeader(dag_id), [TaskProfile("noop")], block)


async def test_a_leader_whose_disk_fills_up_hands_over_and_stands_back(make_nodes: MakeNodes) -> None:
    nodes = await make_nodes(3)
    first = nodes.leader
    assert first is not None
    nodes.free[first] = LITTLE
    second = await nodes.led(first)
    space = nodes.nodes[first].space
    assert (space.low, space.free, space.refuses) == (True, LITTLE, False)

    await nodes.until(lambda: abstention(nodes, second, first) is Abstention.NO_SPACE, "the leader knows")
    (third,) = nodes.nodes.keys() - {first, second}
    nodes.free[second] = LITTLE
    assert await nodes.led(second) == third, "the first is as short of space"

    nodes.free[first] = LEAST + 1
    await nodes.until(lambda: space.free == LEAST + 1, "the first has looked")
    assert space.low, "a little more is not enough, or it would come and go"
    nodes.free[first] = PLENTY
    await nodes.until(lambda: not space.low, "the first has space again")
    nodes.free[third] = LITTLE
    assert await nodes.led(third) == first


def abstention(nodes: Nodes, leader: str, of: str) -> Abstention:
    peers = nodes.nodes[leader].consensus.status().peers
    return next(peer.abstains for peer in peers if peer.id == of)


async def test_with_all_disks_nearly_full_the_leader_stays_and_takes_nothing_new(
    make_nodes: MakeNodes,
) -> None:
    nodes = await make_nodes(3)
    leader = nodes.leader
    assert leader is not None
    node = nodes.nodes[leader]
    await node.propose(submission("before"), Submitted)
    await node.propose(KvPut(WriteId("w", 1, 1), "key", b"value", None), KvStored)
    for follower in nodes.nodes.keys() - {leader}:
        nodes.free[follower] = LITTLE
        await nodes.until(
            lambda me=follower: abstention(nodes, leader, me) is not Abstention.NONE, "it tells"
        )
    nodes.free[leader] = LITTLE
    await nodes.until(lambda: node.space.refuses, "the leader refuses new work")
    assert nodes.leader == leader
    for command in (submission("after"), KvPut(WriteId("w", 2, 2), "key", b"more", None)):
        with pytest.raises(OutOfSpace, match=r"limits\.min_free_bytes") as refusal:
            await node.propose(command, Submitted)
        assert (refusal.value.fields["value"], refusal.value.fields["limit"]) == (str(LITTLE), str(LEAST))
    await node.propose(submission("before"), Submitted)
    await node.propose(KvPut(WriteId("w", 1, 1), "key", b"value", None), KvStored)
    await node.propose(CancelDag("c", "before", "to make room"), DagChanged)
    await node.propose(KvDelete(WriteId("w", 3, 3), "key", None), KvDeleted)
    assert not (await node.read(allow_stale=False)).stale

    nodes.free[leader] = PLENTY
    await nodes.until(lambda: not node.space.refuses, "there is space again")
    await node.propose(submission("later"), Submitted)


async def test_without_a_leader_somebody_stands_however_full_the_disks_are(make_nodes: MakeNodes) -> None:
    nodes = await make_nodes(3)
    leader = nodes.leader
    assert leader is not None
    for me in nodes.nodes:
        nodes.free[me] = LITTLE
    await nodes.until(lambda: all(node.space.low for node in nodes.nodes.values()), "all are low")
    lost = nodes.nodes.pop(leader)
    await lost.consensus.stop(hand_over=False)
    await lost.stop()
    await nodes.led()


async def test_a_node_that_cannot_hand_over_is_not_drained(make_nodes: MakeNodes) -> None:
    node = (await make_nodes(1)).nodes["n1"]
    with pytest.raises(WrongState):
        await node.drain(undo=False)
    assert not node.draining


async def test_a_cluster_of_one_refuses_too(make_nodes: MakeNodes) -> None:
    nodes = await make_nodes(1)
    nodes.free["n1"] = 0
    await nodes.until(lambda: nodes.nodes["n1"].space.refuses, "it refuses new work")
    assert nodes.role("n1") is Role.LEADER
