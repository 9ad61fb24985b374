"""An agent's stream ends in two ways at once: its messages end, and gRPC cancels whoever serves it. The end
of the session is recorded whenever the second comes (D7, F1): else the agent's tasks would wait for ever.
And a leader that cannot store what it gave to an agent stops, as one that cannot store anything else (A5)."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from coordinator.api.agent_service import AgentService, _Link, _Stream
from coordinator.api.turnstile import Turnstile
from coordinator.core.appliers import tasks
from coordinator.core.commands import SubmitDag
from coordinator.core.model import AgentState, DagHeader, Task, TaskBlock, TaskProfile
from coordinator.errors import StorageFault
from coordinator.replica.node import Node
from coordinator.replica.sessions import Session, Work
from quorumflow_proto.v1 import agent_pb2 as pb
from tests.replica.nodes import Nodes


class Context:
    """The stream of an agent that says hello, and then nothing until it is gone."""

    def __init__(self, agent_id: str) -> None:
        self.gone = asyncio.Event()
        hello = pb.Hello(agent_id=agent_id, instance_id="1", slots=1, credit=1)
        self._messages = [pb.AgentMessage(hello=hello)]

    async def read(self) -> object:
        if self._messages:
            return self._messages.pop()
        await self.gone.wait()
        return grpc.aio.EOF

    async def write(self, message: object) -> None:
        await asyncio.sleep(0)


def connected(node: Node, agent_id: str) -> bool:
    agent = node.applier.state.agents.get(agent_id)
    return agent is not None and agent.record.state is AgentState.CONNECTED


def missed(node: Node, agent_id: str) -> bool:
    return not connected(node, agent_id)


async def test_the_end_of_a_session_is_recorded_whenever_its_server_is_cancelled(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 1)
    await nodes.start()
    try:
        node = nodes.nodes[await nodes.led()]
        for turns in range(8):
            agent_id, context = f"a{turns}", Context(f"a{turns}")
            serving = asyncio.create_task(AgentService(node).Session(None, context))
            await nodes.until(partial(connected, node, agent_id), f"{agent_id} is connected")
            context.gone.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await nodes.until(partial(missed, node, agent_id), f"{agent_id} is missed")
    finally:
        await nodes.stop()


async def test_a_leader_that_cannot_store_an_assignment_stops_for_that_alone(
    tmp_path: Path, monkeypatch
) -> None:
    """Here one that the state machine refuses: whoever waits for it looks at the state before that is stored,
    and must not be who meets the fault."""
    monkeypatch.setattr(tasks, "_still_holds", lambda *_: False)
    unexpected: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: unexpected.append(told))
    nodes, fault = Nodes(tmp_path, 1), StorageFault("the disk is gone")
    await nodes.start()
    try:
        node = nodes.nodes[await nodes.led()]
        serving = asyncio.create_task(AgentService(node).Session(None, Context("a")))
        await nodes.until(partial(connected, node, "a"), "a is connected")
        commit = node.applier.store.commit

        def fails_at_last(*of: object) -> None:
            commit(*of)
            monkeypatch.setattr(node.applier.store, "commit", fails)

        def fails(*_: object) -> None:
            raise fault

        monkeypatch.setattr(node.applier.store, "commit", fails_at_last)
        block = TaskBlock(0, ["t"], [0], [()], [b""], [0])
        await node.proposer.call(SubmitDag("request", DagHeader("d"), [TaskProfile("noop")], block))
        with pytest.raises(StorageFault):
            await node.failed
        await asyncio.gather(serving, return_exceptions=True)
        assert unexpected == []
    finally:
        await nodes.stop()


def work(key: int) -> Work:
    task = Task(key, f"t{key}", TaskProfile("noop"), (), b"", 0)
    return Work("d", task, 1, None, b"")


async def sent(link: _Link) -> list[tuple[list[int], list[int]]]:
    """Of each message that waits, the keys that it acknowledges and those that it assigns."""
    messages = [await link.next() for _ in range(len(link._messages))]
    return [
        (
            [fence.key for fence in (*message.acks.fences, *message.assignments.acks.fences)],
            [task.fence.key for task in message.assignments.tasks],
        )
        for message in messages
    ]


async def test_acknowledgements_that_wait_go_with_the_work_that_follows() -> None:
    link = _Link(None, Turnstile(64))
    link.takes_acks_with_work = True
    link.acknowledge([(1, 1)], idle=False)
    link.assign(1, [work(2)])
    link.assign(1, [work(3)])
    link.acknowledge([(2, 1)], idle=False)
    link.acknowledge([(3, 1)], idle=False)
    assert await sent(link) == [([1], [2]), ([], [3]), ([2, 3], [])]


async def test_an_agent_that_does_not_know_them_there_gets_them_by_themselves() -> None:
    link = _Link(None, Turnstile(64))
    link.acknowledge([(1, 1)], idle=False)
    link.assign(1, [work(2)])
    assert await sent(link) == [([1], []), ([], [2])]


async def test_acknowledgements_wait_a_moment_for_the_next_work_of_an_agent_that_has_none() -> None:
    link = _Link(None, Turnstile(64))
    link.takes_acks_with_work = True
    next_message = asyncio.create_task(link.next())
    await asyncio.sleep(0)
    link.acknowledge([(1, 1)], idle=True)
    link.acknowledge([(2, 1)], idle=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not next_message.done()
    link.assign(1, [work(3)])
    message = await next_message
    assert [fence.key for fence in message.assignments.acks.fences] == [1, 2]


async def test_acknowledgements_that_no_work_follows_go_by_themselves() -> None:
    link = _Link(None, Turnstile(64))
    for key in (1, 2):
        next_message = asyncio.create_task(link.next())
        await asyncio.sleep(0)
        link.acknowledge([(key, 1)], idle=True)
        async with asyncio.timeout(10):
            message = await next_message
        assert [fence.key for fence in message.acks.fences] == [key]


async def test_agents_that_have_all_something_to_get_share_the_turns_of_the_loop() -> None:
    """A thousand messages in one turn are some hundred milliseconds in which a leader answers nobody."""
    exit_ = Turnstile(2)
    links = [_Link(None, exit_) for _ in range(5)]
    for link in links:
        link.assign(1, [work(1)])
    waiting = [asyncio.create_task(link.next()) for link in links]
    sent_by = list[int]()
    while not all(one.done() for one in waiting):
        await asyncio.sleep(0)
        sent_by.append(sum(one.done() for one in waiting))
    assert max(later - earlier for earlier, later in pairwise([0, *sent_by])) <= 2


async def test_a_node_that_stops_leaves_a_spawn_to_the_next_leader(tmp_path: Path, monkeypatch) -> None:
    """Told of the fault, the agent would fail the attempt that adds tasks."""
    nodes = Nodes(tmp_path, 1)
    await nodes.start()
    try:
        node = nodes.nodes[await nodes.led()]

        async def spawn(*_: object) -> None:
            raise StorageFault("the disk is gone")

        monkeypatch.setattr(node.sessions, "spawn", spawn)
        stream = _Stream(node, Context("a"), Turnstile(64))
        await stream._spawn(Session("a", 1, stream._link), pb.Spawn(spawn_id="s"))
        assert not stream._link._messages
    finally:
        await nodes.stop()
