"""An agent's session never outlives its stream in the state, whatever comes between (D7, F1): else its tasks
would wait for ever."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.core.commands import CloseSession, Command, OpenSession
from coordinator.core.model import AgentSpec, AgentState, State
from coordinator.core.outcome import AgentChanged, Reply, SessionOpened
from coordinator.errors import NotLeader, QueueFull
from coordinator.replica.sessions import Sessions


class Queue:
    """Takes commands as the proposer does; the test answers them, and says when the queue is full."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.replies: list[asyncio.Future[Reply]] = []
        self.refusals: list[Exception] = []
        self.arrived = asyncio.Event()

    def submit(self, command: Command) -> asyncio.Future[Reply]:
        if self.refusals:
            raise self.refusals.pop(0)
        self.commands.append(command)
        self.replies.append(asyncio.get_running_loop().create_future())
        self.arrived.set()
        return self.replies[-1]

    async def room(self) -> None:
        await asyncio.sleep(0)

    async def taken(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.commands) < count:
                self.arrived.clear()
                await self.arrived.wait()


class Link:
    """A stream that goes nowhere."""

    def __getattr__(self, name: str) -> object:
        return lambda *_: None


SPEC = AgentSpec("r1", "instance", 1, 2)


def make(queue: Queue) -> Sessions:
    return Sessions(State, lambda _: None, queue, max_agents=10)


async def test_a_stream_that_dies_while_its_session_is_opened_ends_that_session():
    queue = Queue()
    opening = asyncio.create_task(make(queue).open(SPEC, [], Link()))
    await queue.taken(1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    queue.replies[0].set_result(SessionOpened(7, [], False))
    await queue.taken(2)
    assert queue.commands == [OpenSession(SPEC, []), CloseSession("r1", 7, False)]


async def test_nothing_follows_if_the_session_was_never_recorded():
    queue = Queue()
    opening = asyncio.create_task(make(queue).open(SPEC, [], Link()))
    await queue.taken(1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    queue.replies[0].set_exception(NotLeader())
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(queue.commands) == 1


async def test_the_end_of_a_session_waits_for_room_in_a_full_queue():
    queue = Queue()
    sessions = make(queue)
    opening = asyncio.create_task(sessions.open(SPEC, [], Link()))
    await queue.taken(1)
    queue.replies[0].set_result(SessionOpened(7, [], False))
    session = await opening
    queue.refusals = [QueueFull("full"), QueueFull("full")]
    closing = sessions.close(session, goodbye=False)
    await queue.taken(2)
    queue.replies[1].set_result(AgentChanged(AgentState.DISCONNECTED))
    await closing
    assert queue.commands[1] == CloseSession("r1", 7, False)


async def test_a_leader_no_more_leaves_the_end_to_its_successor():
    queue = Queue()
    sessions = make(queue)
    opening = asyncio.create_task(sessions.open(SPEC, [], Link()))
    await queue.taken(1)
    queue.replies[0].set_result(SessionOpened(7, [], False))
    session = await opening
    queue.refusals = [NotLeader()]
    await sessions.close(session, goodbye=False)
    assert len(queue.commands) == 1
