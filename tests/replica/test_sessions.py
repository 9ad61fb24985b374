"""An agent's session never outlives its stream in the state, whatever comes between (D7, F1): else its tasks
would wait for ever. And what was taken from an agent while its session was being opened it is told to drop
(F4): it could not be told to stop."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from coordinator.core.commands import (
    Assign,
    CancelTask,
    Choice,
    CloseSession,
    Command,
    OpenSession,
    SpawnTasks,
)
from coordinator.core.model import AgentSpec, AgentState
from coordinator.core.outcome import AgentChanged, Done, Reply, SessionOpened
from coordinator.core.state import State
from coordinator.errors import NotLeader, QueueFull
from coordinator.replica.pacing import Pace
from coordinator.replica.sessions import Session, Sessions


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

    async def call(self, command: Command) -> Reply:
        return await self.submit(command)

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
    return Sessions(State, lambda _: None, queue, max_agents=10, pace=Pace(1_000, 1_000))


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


class Welcomes(Link):
    """Keeps what is said on the stream, in order."""

    def __init__(self) -> None:
        self.said: list[tuple[str, object]] = []

    def __getattr__(self, name: str) -> object:
        return lambda *of: self.said.append((name, of[0]))


async def test_what_was_cancelled_while_the_session_was_opened_is_dropped(log, make_applier):
    applier, queue, link = make_applier("a"), Queue(), Welcomes()
    applier.apply([log.agent("r1"), log.chain("one", 2)])
    epoch = applier.state.agents["r1"].record.epoch
    first, second = applier.state.dag("one").tasks
    applier.apply([log.add(Assign([Choice(first.key, 1, "r1", epoch)]))])
    sessions = Sessions(lambda: applier.state, lambda _: None, queue, max_agents=10, pace=Pace(1_000, 1_000))
    held = [(first.key, 1), (second.key, 1)]
    opening = asyncio.create_task(sessions.open(AgentSpec("r1", "instance", 2, 8), held, link))
    await queue.taken(1)
    replies: list[Reply] = []
    applier.on_replies = lambda index, term, these: replies.extend(these)
    applier.apply([log.add(queue.commands[0], CancelTask("", "one", first.id, ""))])
    assert replies[0] == SessionOpened(applier.state.agents["r1"].record.epoch, [held[1]], False)
    queue.replies[0].set_result(replies[0])
    await opening
    (said,) = link.said
    assert said == ("welcome", msgspec.structs.replace(replies[0], drop=held))


async def test_a_retry_of_a_spawn_that_is_recorded_need_not_name_its_tasks(log, make_applier):
    """With what the first try added there may be more tasks now than a DAG may have."""
    applier, queue = make_applier("a"), Queue()
    applier.apply([log.chain("one")])
    applier.state.requests["spawn/r1/s"] = applier.state.requests["request-one"]
    sessions = Sessions(lambda: applier.state, lambda _: None, queue, max_agents=10, pace=Pace(1_000, 1_000))
    spawning = asyncio.create_task(sessions.spawn(Session("r1", 7, Link()), "s", (1, 1), pytest.fail))
    await queue.taken(1)
    assert queue.commands == [SpawnTasks("spawn/r1/s", "r1", 7, 1, 1, [])]
    queue.replies[0].set_result(Done(3))
    await spawning
