"""An agent that changes what it offers while it runs (D1, D8)."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import grpc
import pytest

from agent_sdk import Agent, Resources, TaskContext
from agent_sdk.errors import InvalidRequest
from quorumflow_proto.v1 import agent_pb2, common_pb2
from tests.sdk.conftest import Launch
from tests.sdk.scripted import PATIENCE_S, UNAVAILABLE, Node, Peer, refusal, task

COMPLETED = common_pb2.ATTEMPT_OUTCOME_COMPLETED


class Crowd:
    """A handler that says who is in it, and waits until the test lets all go."""

    def __init__(self) -> None:
        self.inside = 0
        self.entered: list[int] = []
        """How many were inside with each that came."""
        self.open = asyncio.Event()
        self._changed = asyncio.Event()

    async def __call__(self, context: TaskContext) -> None:
        self.inside += 1
        self.entered.append(self.inside)
        self._changed.set()
        await self.open.wait()
        self.inside -= 1
        self._changed.set()

    async def has(self, count: int) -> None:
        """Wait until so many are inside."""
        async with asyncio.timeout(PATIENCE_S):
            while self.inside != count:
                self._changed.clear()
                await self._changed.wait()


async def respec(peer: Peer) -> agent_pb2.Hello:
    """The next message, which says what the agent has become."""
    message = await peer.receive()
    assert message.HasField("respec"), message
    return message.respec.hello


async def answer(peer: Peer, reason: str = "") -> None:
    """Take what the agent has become, or refuse it."""
    reply = agent_pb2.RespecReply()
    if reason:
        reply.error.reason = reason
        reply.error.message = "said so"
    await peer.send(respec_reply=reply)


async def test_the_hello_says_all_that_placement_may_look_at(node: Node, launch: Launch) -> None:
    offered: dict[str, Any] = {
        "speed": 2.5,
        "busy_watts": 40.0,
        "tool_limits": {"torch": 1},
        "model_limits": {"vision": 2},
        "data": ["maps"],
        "groups": ["night"],
    }
    launch(Agent(node.address, "a1", **offered))
    hello = await (await node.session()).hello()
    assert {
        "speed": hello.speed,
        "busy_watts": hello.busy_watts,
        "tool_limits": dict(hello.tool_limits),
        "model_limits": dict(hello.model_limits),
        "data": list(hello.data),
        "groups": list(hello.groups),
    } == offered


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": 0},
        {"queue": -1},
        {"speed": 0.0},
        {"speed": -1.0},
        {"speed": math.nan},
        {"speed": math.inf},
        {"busy_watts": -0.1},
        {"busy_watts": math.nan},
        {"busy_watts": math.inf},
        {"tool_limits": {"torch": 0}},
        {"model_limits": {"vision": 1 << 32}},
    ],
)
def test_what_no_agent_can_be_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        Agent("h:1", "a1", **wrong)
    agent = Agent("h:1", "a1")
    with pytest.raises(InvalidRequest):
        agent.update(**wrong)


async def test_a_change_is_told_at_once_and_in_every_session_after(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1", slots=2, labels={"line": "7"}, tools=["torch"])
    launch(agent)
    first = await node.session()
    hello = await first.welcome(epoch=3)
    agent.update(labels={"line": "8"}, cached_models=["vision"], resources=Resources(cores=2.0))
    told = await respec(first)
    assert (told.agent_id, told.instance_id) == ("a1", hello.instance_id)
    assert (dict(told.labels), list(told.cached_models), told.slots) == ({"line": "8"}, ["vision"], 2)
    assert (list(told.tools), told.resources.milli_cores) == (["torch"], 2_000)
    await answer(first)
    first.end(UNAVAILABLE)
    again = await (await node.session()).welcome(epoch=4)
    assert (dict(again.labels), list(again.cached_models)) == ({"line": "8"}, ["vision"])


async def test_a_change_from_another_thread_and_before_the_welcome_is_not_forgotten(
    node: Node, launch: Launch
) -> None:
    agent = Agent(node.address, "a1")
    agent.update(zone="north")
    launch(agent)
    peer = await node.session()
    assert (await peer.hello()).zone == "north"
    await asyncio.to_thread(agent.update, zone="south")
    await peer.send(welcome=agent_pb2.Welcome(session_epoch=1, term=1))
    assert (await respec(peer)).zone == "south"


async def test_more_slots_take_effect_at_once_and_fewer_stop_nothing(node: Node, launch: Launch) -> None:
    crowd = Crowd()
    agent = Agent(node.address, "a1", slots=1, queue=9)
    agent.handler("work")(crowd)
    launch(agent)
    peer = await node.session()
    await peer.welcome()
    await peer.assign(*(task(key) for key in range(1, 5)))
    await crowd.has(1)
    agent.update(slots=3)
    await crowd.has(3)
    agent.update(slots=1)
    crowd.open.set()
    ends: dict[int, int] = {}
    while len(ends) < 4:
        reports = (await peer.receive()).reports.reports
        ends |= {one.fence.key: one.ended.outcome for one in reports if one.HasField("ended")}
    assert set(ends.values()) == {COMPLETED}
    assert crowd.entered == [1, 2, 3, 1], "the last one waits for all three"


async def test_more_slots_are_more_threads(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1", slots=1)
    together = threading.Barrier(3)

    @agent.handler("work")
    def work(context: TaskContext) -> None:
        together.wait(PATIENCE_S)

    launch(agent)
    peer = await node.session()
    await peer.welcome()
    agent.update(slots=3)
    await respec(peer)
    await peer.assign(*(task(key) for key in range(1, 4)))
    assert (await peer.end_of(1)).outcome == COMPLETED


async def test_what_was_given_before_the_coordinator_knew_of_less_credit_is_taken(
    node: Node, launch: Launch
) -> None:
    """F2: a rejection would count against the task."""
    crowd = Crowd()
    agent = Agent(node.address, "a1", slots=1, queue=1)
    agent.handler("work")(crowd)
    launch(agent)
    peer = await node.session()
    await peer.welcome()
    agent.update(queue=0)
    assert (await respec(peer)).credit == 1
    await peer.assign(task(1), task(2))
    await answer(peer)
    await peer.assign(task(3))
    assert (await peer.end_of(3)).outcome == common_pb2.ATTEMPT_OUTCOME_REJECTED
    crowd.open.set()
    assert (await peer.end_of(2)).outcome == COMPLETED


async def test_what_the_coordinator_refuses_is_not_asked_for_again(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1", slots=1)
    launch(agent)
    first = await node.session()
    await first.welcome()
    agent.update(slots=2, zone="north")
    assert (await respec(first)).slots == 2
    await answer(first)
    agent.update(slots=20_000)
    assert (await respec(first)).slots == 20_000
    await answer(first, "LIMIT_EXCEEDED")
    # The answer has been read once the agent answers to what comes after it.
    await first.stop(9)
    await first.end_of(9)
    first.end(UNAVAILABLE)
    hello = await (await node.session()).hello()
    assert (hello.slots, hello.zone) == (2, "north")


async def test_a_session_that_is_refused_for_a_change_is_opened_without_it(
    node: Node, launch: Launch
) -> None:
    """F4: what runs must not be lost for that."""
    agent = Agent(node.address, "a1", slots=1)
    launch(agent)
    first = await node.session()
    await first.welcome()
    node.agents.refusals.append(refusal(grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED"))
    agent.update(slots=20_000)
    await respec(first)
    first.end(UNAVAILABLE)
    assert (await (await node.session()).hello()).slots == 1
