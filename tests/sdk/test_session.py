"""The agent's session with the coordinator: what it says, holds, tells again and ignores.

Answers D1, F3, F4 (an agent outlives its leader and reports each end until it is acknowledged), B6 and B7.
"""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import grpc
import pytest

from agent_sdk import Agent, Task, TaskContext
from agent_sdk._channels import AGENT_KEEPALIVE_MS
from agent_sdk._surroundings import this_machine
from agent_sdk.errors import AccessDenied, DuplicateTaskId, WrongState
from quorumflow_proto.v1 import agent_pb2, common_pb2
from tests.sdk.conftest import Launch, NewNode
from tests.sdk.scripted import UNAVAILABLE, Node, fence, not_leader, refusal, task

COMPLETED = common_pb2.ATTEMPT_OUTCOME_COMPLETED


class Gate:
    """A handler that waits until the test lets its task go."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self._open: dict[str, asyncio.Event] = {}

    def _event(self, task_id: str) -> asyncio.Event:
        return self._open.setdefault(task_id, asyncio.Event())

    async def __call__(self, context: TaskContext) -> str:
        self.started.append(context.task_id)
        await self._event(context.task_id).wait()
        return context.task_id

    def release(self, *keys: int) -> None:
        for key in keys:
            self._event(f"t{key}").set()


def gated_agent(address: str | list[str], gate: Gate, slots: int = 1) -> Agent:
    agent = Agent(address, "a1", slots=slots)
    agent.handler("work")(gate)
    return agent


async def test_the_hello_says_what_the_agent_offers(node: Node, launch: Launch) -> None:
    agent = Agent(
        node.address, "a1", slots=2, queue=5, capabilities={"weld": 3}, labels={"line": "7"}, zone="z"
    )
    agent.add_builtins()
    launch(agent)
    hello = await (await node.session()).hello()
    assert (hello.agent_id, hello.slots, hello.credit, hello.zone) == ("a1", 2, 7, "z")
    assert (hello.last_epoch, list(hello.held)) == (0, [])
    assert list(hello.task_types) == ["echo", "fail", "noop", "sleep"]
    assert [(one.name, one.level) for one in hello.capabilities] == [("weld", 3)]
    assert dict(hello.labels) == {"line": "7"}
    assert hello.resources.memory_bytes > 0
    assert hello.instance_id


async def test_an_attempt_is_started_and_ended(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1")
    seen: list[TaskContext] = []
    told = asyncio.Event()

    @agent.handler("work")
    async def work(context: TaskContext) -> dict[str, int]:
        seen.append(context)
        await told.wait()
        return {"doubled": 2 * context.json()["n"]}

    launch(agent)
    peer = await node.session()
    await peer.welcome()
    await peer.assign(
        task(7, attempt=3, payload=b'{"n": 21}', metadata={"k": "v"}, checkpoint=b"half", timeout_ms=60_000)
    )
    assert (await peer.next_report()).WhichOneof("body") == "started"
    told.set()
    report = await peer.next_report()
    assert (report.fence.key, report.fence.attempt) == (7, 3)
    assert report.ended.outcome == COMPLETED
    assert json.loads(report.ended.result) == {"doubled": 42}
    context = seen[0]
    assert (context.dag_id, context.task_id, context.type, context.attempt) == ("d", "t7", "work", 3)
    assert (context.checkpoint, dict(context.metadata)) == (b"half", {"k": "v"})
    assert context.deadline is not None


async def test_of_what_ends_at_once_the_end_alone_is_told(node: Node, launch: Launch) -> None:
    """It says how long the attempt took, and so when it began."""
    gate = Gate()
    agent = Agent(node.address, "a1", slots=2)
    agent.handler("held")(gate)
    agent.handler("brief")(lambda _: None)
    launch(agent)
    peer = await node.session()
    await peer.welcome()
    await peer.assign(task(1, "held"), task(2, "brief"))
    told = [await peer.next_report() for _ in range(2)]
    gate.release(1)
    told.append(await peer.next_report())
    assert [(one.fence.key, one.WhichOneof("body")) for one in told] == [
        (2, "ended"),
        (1, "started"),
        (1, "ended"),
    ]


async def test_after_a_break_everything_held_is_named_and_unacknowledged_ends_are_told_again(
    node: Node, launch: Launch
) -> None:
    gate = Gate()
    launch(gated_agent(node.address, gate))
    first = await node.session()
    await first.welcome(epoch=11)
    await first.assign(task(1), task(2), task(3), task(4))
    gate.release(1, 2)
    await first.end_of(2)
    await first.acknowledge(1)
    await first.report("started", 3)
    first.end(UNAVAILABLE)

    second = await node.session()
    hello = await second.welcome(epoch=12)
    assert hello.last_epoch == 11
    assert [held.key for held in hello.held] == [2, 3, 4]
    assert (await second.end_of(2)).result == b"t2"
    await second.report("started", 3)
    await second.acknowledge(2)
    second.end(UNAVAILABLE)

    third = await node.session()
    assert [held.key for held in (await third.welcome()).held] == [3, 4]
    gate.release(3)
    assert (await third.end_of(3)).outcome == COMPLETED
    assert gate.started[:3] == ["t1", "t2", "t3"]


async def test_acknowledgements_may_come_with_work(node: Node, launch: Launch) -> None:
    gate = Gate()
    launch(gated_agent(node.address, gate))
    first = await node.session()
    assert (await first.welcome()).takes_acks_with_work
    await first.assign(task(1))
    gate.release(1)
    await first.end_of(1)
    await first.assign(task(2), acks=agent_pb2.Acks(fences=[fence(1)]))
    gate.release(2)
    await first.end_of(2)
    first.end(UNAVAILABLE)
    second = await node.session()
    assert [held.key for held in (await second.welcome()).held] == [2]


async def test_what_ends_without_a_stream_is_told_in_the_next_session(
    new_node: NewNode, launch: Launch
) -> None:
    old, new = await new_node(), await new_node()
    new.agents.refusals.append(not_leader())
    gate = Gate()
    launch(gated_agent([old.address, new.address], gate))
    peer = await old.session()
    await peer.welcome()
    await peer.assign(task(1))
    await peer.report("started", 1)
    await old.stop()
    gate.release(1)
    after = await new.session()
    assert [held.key for held in (await after.welcome(term=2)).held] == [1]
    assert (await after.end_of(1)).outcome == COMPLETED
    assert gate.started == ["t1"]


async def test_a_redirect_is_followed(new_node: NewNode, launch: Launch) -> None:
    follower, leader = await new_node(), await new_node()
    follower.agents.refusals.append(not_leader(leader.address))
    launch(gated_agent(follower.address, Gate()))
    assert (await (await leader.session()).welcome()).agent_id == "a1"


async def test_no_connection_is_kept_to_a_node_that_does_not_lead(new_node: NewNode, launch: Launch) -> None:
    follower, leader = await new_node(), await new_node()
    follower.agents.refusals.append(not_leader(leader.address))
    around = this_machine(AGENT_KEEPALIVE_MS)
    channels: dict[str, grpc.aio.Channel] = {}

    def open_channel(address: str) -> grpc.aio.Channel:
        channels[address] = around.open_channel(address)
        return channels[address]

    launch(Agent(follower.address, "a1", surroundings=around._replace(open_channel=open_channel)))
    peer = await leader.session()
    await peer.welcome()
    await peer.assign(task(1, task_type="nobody's"))
    await peer.end_of(1)

    assert channels[follower.address].get_state() is grpc.ChannelConnectivity.SHUTDOWN
    assert channels[leader.address].get_state() is grpc.ChannelConnectivity.READY


async def test_endpoints_that_the_welcome_names_are_tried_later(new_node: NewNode, launch: Launch) -> None:
    configured, named = await new_node(), await new_node()
    launch(gated_agent(configured.address, Gate()))
    peer = await configured.session()
    await peer.welcome(leader_endpoints=[named.address])
    await configured.stop()
    assert (await (await named.session()).welcome()).last_epoch == 1


async def test_a_node_that_leads_an_older_term_is_left(node: Node, launch: Launch) -> None:
    launch(gated_agent(node.address, Gate()))
    first = await node.session()
    await first.welcome(term=5, epoch=1)
    first.end(UNAVAILABLE)
    stale = await node.session()
    await stale.welcome(term=4, epoch=2)
    assert (await (await node.session()).welcome(term=5)).last_epoch == 1


async def test_an_agent_that_is_not_wanted_ends_with_the_reason(node: Node, launch: Launch) -> None:
    node.agents.refusals.append(refusal(grpc.StatusCode.PERMISSION_DENIED, "ACCESS_DENIED"))
    with pytest.raises(AccessDenied, match="said ACCESS_DENIED"):
        await launch(gated_agent(node.address, Gate()))


async def test_an_agent_that_was_welcome_once_sits_a_refusal_out(node: Node, launch: Launch) -> None:
    gate = Gate()
    launch(gated_agent(node.address, gate))
    first = await node.session()
    await first.welcome()
    await first.assign(task(1))
    await first.report("started", 1)
    node.agents.refusals.append(refusal(grpc.StatusCode.PERMISSION_DENIED, "ACCESS_DENIED"))
    first.end(UNAVAILABLE)
    second = await node.session()
    assert [held.key for held in (await second.welcome()).held] == [1]
    gate.release(1)
    assert (await second.end_of(1)).outcome == COMPLETED


async def test_a_second_assignment_of_a_held_attempt_is_ignored(node: Node, launch: Launch) -> None:
    gate = Gate()
    launch(gated_agent(node.address, gate))
    peer = await node.session()
    await peer.welcome()
    await peer.assign(task(1), task(1))
    await peer.report("started", 1)
    await peer.assign(task(1), task(2))
    gate.release(1, 2)
    await peer.end_of(1)
    await peer.assign(task(1))
    await peer.assign(task(3))
    gate.release(3)
    await peer.end_of(3)
    assert gate.started == ["t1", "t2", "t3"]


async def test_an_assignment_of_an_older_term_is_ignored(node: Node, launch: Launch) -> None:
    gate = Gate()
    launch(gated_agent(node.address, gate))
    peer = await node.session()
    await peer.welcome(term=3)
    gate.release(1, 2, 3)
    await peer.assign(task(1), term=2)
    await peer.assign(task(2), term=4)
    await peer.assign(task(3), term=3)
    await peer.end_of(2)
    await peer.assign(task(4), term=4)
    gate.release(4)
    await peer.end_of(4)
    assert gate.started == ["t2", "t4"]


async def test_what_the_welcome_drops_is_stopped(node: Node, launch: Launch) -> None:
    gate = Gate()
    launch(gated_agent(node.address, gate))
    first = await node.session()
    await first.welcome()
    await first.assign(task(1), task(2))
    await first.report("started", 1)
    first.end(UNAVAILABLE)
    second = await node.session()
    await second.welcome(drop=[fence(2)])
    ended = await second.end_of(2)
    assert ended.outcome == common_pb2.ATTEMPT_OUTCOME_CANCELLED
    gate.release(1)
    assert (await second.end_of(1)).outcome == COMPLETED
    assert gate.started == ["t1"]


async def test_progress_and_checkpoints_come_from_a_thread_and_only_the_latest_counts(
    node: Node, launch: Launch
) -> None:
    agent = Agent(node.address, "a1")
    threads: list[int] = []
    told, over = threading.Event(), threading.Event()

    @agent.handler("work")
    def work(context: TaskContext) -> None:
        threads.append(threading.get_ident())
        for step in range(100):
            context.progress(step / 100, f"step {step}")
        context.progress(1.0, "all")
        context.save_checkpoint(b"old")
        context.save_checkpoint(b"new")
        told.set()
        over.wait(20)

    launch(agent)
    peer = await node.session()
    await peer.welcome()
    await peer.assign(task(1))
    checkpoints = []
    while not (report := await peer.next_report()).HasField("progress"):
        checkpoints += [report.checkpoint.state] if report.HasField("checkpoint") else []
    assert (report.progress.fraction, report.progress.note) == (1.0, "all")
    assert told.is_set()
    assert checkpoints[-1] == b"new"
    over.set()
    await peer.end_of(1)
    assert threads != [threading.get_ident()]


async def test_the_latest_checkpoint_is_told_again_after_a_break(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1")

    @agent.handler("work")
    async def work(context: TaskContext) -> None:
        context.save_checkpoint(b"half-way")
        await context.wait_cancelled()

    launch(agent)
    first = await node.session()
    await first.welcome()
    await first.assign(task(1))
    await first.report("checkpoint", 1)
    first.end(UNAVAILABLE)
    second = await node.session()
    await second.welcome()
    assert (await second.report("checkpoint", 1)).checkpoint.state == b"half-way"


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_spawn_is_sent_again_until_it_is_answered(
    node: Node, launch: Launch, in_thread: bool
) -> None:
    agent = Agent(node.address, "a1")
    children = [Task("c1", "work", payload={"n": 1}), Task("c2", "work", depends_on=["c1"])]

    if in_thread:

        @agent.handler("work")
        def spawn(context: TaskContext) -> str:
            context.spawn(children)
            return "spawned"

    else:

        @agent.handler("work")
        async def spawn_async(context: TaskContext) -> str:
            await context.spawn_async(children)
            return "spawned"

    launch(agent)
    first = await node.session()
    await first.welcome()
    await first.assign(task(1))
    asked = await first.spawn()
    assert (asked.parent.key, [child.id for child in asked.tasks]) == (1, ["c1", "c2"])
    first.end(UNAVAILABLE)
    second = await node.session()
    await second.welcome()
    again = await second.spawn()
    assert again == asked
    for reason in ("QUEUE_FULL", "OUTCOME_UNKNOWN", "STORAGE_FAULT"):
        passing = common_pb2.ErrorDetail(reason=reason, message="not now")
        await second.send(spawn_reply=agent_pb2.SpawnReply(spawn_id=asked.spawn_id, error=passing))
        assert await second.spawn() == asked
    await second.send(spawn_reply=agent_pb2.SpawnReply(spawn_id=asked.spawn_id))
    assert (await second.end_of(1)).result == b"spawned"


async def test_a_refused_spawn_raises_and_a_blocking_one_in_the_loop_is_refused(
    node: Node, launch: Launch
) -> None:
    agent = Agent(node.address, "a1")
    raised: list[BaseException] = []

    @agent.handler("work")
    async def work(context: TaskContext) -> None:
        with pytest.raises(WrongState, match="spawn_async") as wrong:
            context.spawn([Task("c", "work")])
        with pytest.raises(DuplicateTaskId) as duplicate:
            await context.spawn_async([Task("c", "work")])
        raised.extend((wrong.value, duplicate.value))

    launch(agent)
    peer = await node.session()
    await peer.welcome()
    await peer.assign(task(1))
    asked = await peer.spawn()
    error = common_pb2.ErrorDetail(reason="DUPLICATE_TASK_ID", message="c is there", fields={"task_id": "c"})
    await peer.send(spawn_reply=agent_pb2.SpawnReply(spawn_id=asked.spawn_id, error=error))
    assert (await peer.end_of(1)).outcome == COMPLETED
    assert isinstance(raised[1], DuplicateTaskId)
    assert raised[1].fields == {"task_id": "c"}


async def test_load_is_reported_at_the_interval_that_the_coordinator_sets(node: Node, launch: Launch) -> None:
    gate = Gate()
    launch(gated_agent(node.address, gate))
    peer = await node.session()
    await peer.welcome(settings=agent_pb2.Settings(load_interval_ms=5))
    await peer.assign(task(1), task(2))
    await peer.report("started", 1)
    async with asyncio.timeout(20):
        while not any((load.running, load.queued) == (1, 1) for load in peer.loads):
            await peer.next_load()
    assert all(0.0 <= load.cpu <= 1.0 and 0.0 < load.memory <= 1.0 for load in peer.loads)


async def test_the_effects_file_has_a_line_for_every_start_and_end(
    node: Node, launch: Launch, tmp_path: Path
) -> None:
    effects = tmp_path / "effects.jsonl"
    cut_off = '{"dag":"d","task":"t'
    effects.write_text(cut_off)  # by an agent that was killed
    agent = Agent(node.address, "a1", slots=1, effects_path=effects)
    agent.add_builtins()
    launch(agent)
    peer = await node.session()
    await peer.welcome()
    await peer.assign(task(1, "noop"), task(2, "fail", attempt=2))
    await peer.end_of(2)
    first, *others = effects.read_text().splitlines()
    assert first == cut_off
    lines = [json.loads(line) for line in others]
    assert [(one["task"], one["attempt"], one["event"]) for one in lines] == [
        ("t1", 1, "start"),
        ("t1", 1, "end"),
        ("t2", 2, "start"),
        ("t2", 2, "end"),
    ]
    assert {(one["dag"], one["agent"]) for one in lines} == {("d", "a1")}
    assert all(one["pid"] > 0 and one["at_ms"] > 0 for one in lines)
