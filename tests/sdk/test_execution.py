"""How an agent runs what it holds: slots, order, stops, results and errors; the built-in handlers.

Answers B6 (results within a limit, cancel) and D8 (a maximum of attempts at once).
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from agent_sdk import Agent, PermanentError, Reference, TaskContext
from agent_sdk.errors import AlreadyExists, InvalidRequest, ResultTooLarge
from quorumflow_proto.v1 import agent_pb2, common_pb2
from tests.sdk.conftest import Launch
from tests.sdk.scripted import Node, Peer, task

COMPLETED = common_pb2.ATTEMPT_OUTCOME_COMPLETED
FAILED = common_pb2.ATTEMPT_OUTCOME_FAILED
CANCELLED = common_pb2.ATTEMPT_OUTCOME_CANCELLED
REJECTED = common_pb2.ATTEMPT_OUTCOME_REJECTED


async def serve(node: Node, launch: Launch, agent: Agent, max_result_bytes: int = 0) -> Peer:
    launch(agent)
    peer = await node.session()
    await peer.welcome(settings=agent_pb2.Settings(max_result_bytes=max_result_bytes))
    return peer


async def end_of_one(
    node: Node,
    launch: Launch,
    agent: Agent,
    payload: object = None,
    task_type: str = "work",
    max_result_bytes: int = 0,
) -> agent_pb2.Ended:
    peer = await serve(node, launch, agent, max_result_bytes)
    await peer.assign(task(1, task_type, payload=json.dumps(payload).encode()))
    return await peer.end_of(1)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_no_more_run_at_once_than_there_are_slots_and_in_order(
    node: Node, launch: Launch, in_thread: bool
) -> None:
    agent = Agent(node.address, "a1", slots=2)
    lock, running, started, most = threading.Lock(), set[str](), list[str](), [0]
    both = threading.Barrier(2, timeout=20)

    def enter(context: TaskContext) -> None:
        with lock:
            running.add(context.task_id)
            started.append(context.task_id)
            most[0] = max(most[0], len(running))

    if in_thread:

        @agent.handler("work")
        def work(context: TaskContext) -> None:
            enter(context)
            both.wait()
            with lock:
                running.discard(context.task_id)

    else:

        @agent.handler("work")
        async def work_async(context: TaskContext) -> None:
            enter(context)
            await asyncio.sleep(0)
            running.discard(context.task_id)

    peer = await serve(node, launch, agent)
    await peer.assign(*(task(key) for key in range(1, 7)))
    ended = [report.ended async for report in peer.ends(6)]
    assert [one.outcome for one in ended] == [COMPLETED] * 6
    assert most == [2]
    assert [{*started[at : at + 2]} for at in (0, 2, 4)] == [{"t1", "t2"}, {"t3", "t4"}, {"t5", "t6"}]


async def test_a_stopped_attempt_that_waits_never_starts(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1", slots=1)
    started: list[str] = []

    @agent.handler("work")
    async def work(context: TaskContext) -> None:
        started.append(context.task_id)
        await context.wait_cancelled()
        context.raise_if_cancelled()

    peer = await serve(node, launch, agent)
    await peer.assign(task(1), task(2))
    await peer.report("started", 1)
    await peer.stop(2)
    ended = await peer.end_of(2)
    assert (ended.outcome, ended.error) == (CANCELLED, "not wanted")
    await peer.stop(1)
    assert (await peer.end_of(1)).outcome == CANCELLED
    assert started == ["t1"]


async def test_an_attempt_that_is_stopped_before_it_came_is_ended_all_the_same(
    node: Node, launch: Launch
) -> None:
    """It was taken away before it was sent, and counts as this agent's until its end is told."""
    peer = await serve(node, launch, Agent(node.address, "a1"))
    await peer.stop(1)
    ended = await peer.end_of(1)
    assert (ended.outcome, ended.error) == (CANCELLED, "not wanted")
    await peer.acknowledge(1)
    await peer.assign(task(1))
    assert (await peer.end_of(1)).outcome != CANCELLED, "once acknowledged, nothing is kept of it"


async def test_a_stopped_function_in_a_thread_sees_it_and_ends(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1")

    @agent.handler("work")
    def work(context: TaskContext) -> None:
        pause = threading.Event()
        while True:
            context.raise_if_cancelled()
            pause.wait(0.001)

    peer = await serve(node, launch, agent)
    await peer.assign(task(1))
    await peer.report("started", 1)
    await peer.stop(1)
    assert (await peer.end_of(1)).outcome == CANCELLED


async def test_a_coroutine_that_does_not_listen_is_cancelled_after_the_grace(
    node: Node, launch: Launch
) -> None:
    agent = Agent(node.address, "a1", cancel_grace_s=0.02)
    seen: list[bool] = []

    @agent.handler("work")
    async def work(context: TaskContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(context.cancelled)

    peer = await serve(node, launch, agent)
    await peer.assign(task(1))
    await peer.report("started", 1)
    await peer.stop(1)
    assert (await peer.end_of(1)).outcome == CANCELLED
    assert seen == [True]


async def test_what_completes_in_spite_of_a_stop_is_told_as_it_is(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1")

    @agent.handler("work")
    async def work(context: TaskContext) -> str:
        await context.wait_cancelled()
        return "done all the same"

    peer = await serve(node, launch, agent)
    await peer.assign(task(1))
    await peer.report("started", 1)
    await peer.stop(1)
    ended = await peer.end_of(1)
    assert (ended.outcome, ended.result) == (COMPLETED, b"done all the same")


@pytest.mark.parametrize(
    ("value", "result", "reference"),
    [
        (None, b"", ""),
        (b"\x00\xff", b"\x00\xff", ""),
        ("grün", "grün".encode(), ""),
        ({"a": [1, None]}, b'{"a":[1,null]}', ""),
        (Reference("s3://bucket/key"), b"", "s3://bucket/key"),
    ],
)
@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_result_may_be_bytes_text_json_or_a_reference(
    node: Node, launch: Launch, value: Any, result: bytes, reference: str, in_thread: bool
) -> None:
    agent = Agent(node.address, "a1")
    if in_thread:
        agent.handler("work")(lambda context: value)
    else:

        async def work(context: TaskContext) -> Any:
            return value

        agent.handler("work")(work)
    ended = await end_of_one(node, launch, agent)
    assert (ended.outcome, ended.result, ended.reference) == (COMPLETED, result, reference)


async def test_a_result_over_the_limit_fails_and_names_limit_and_remedy(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1")
    agent.handler("work")(lambda context: b"x" * 1_001)
    ended = await end_of_one(node, launch, agent, max_result_bytes=1_000)
    assert (ended.outcome, ended.retryable, ended.result) == (FAILED, False, b"")
    for part in ("ResultTooLarge", "1001 bytes", "max_result_bytes is 1000", "Reference("):
        assert part in ended.error


async def test_a_result_at_the_limit_is_fine_and_a_checkpoint_over_it_raises(
    node: Node, launch: Launch
) -> None:
    agent = Agent(node.address, "a1")

    @agent.handler("work")
    def work(context: TaskContext) -> bytes:
        with pytest.raises(ResultTooLarge, match="the checkpoint has 1001 bytes"):
            context.save_checkpoint(b"x" * 1_001)
        with pytest.raises(InvalidRequest, match="progress is nan"):
            context.progress(float("nan"))
        return b"x" * 1_000

    ended = await end_of_one(node, launch, agent, max_result_bytes=1_000)
    assert (ended.outcome, len(ended.result)) == (COMPLETED, 1_000)


async def test_a_result_that_is_no_json_fails_for_good(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1")
    agent.handler("work")(lambda context: {1, 2})
    ended = await end_of_one(node, launch, agent)
    assert (ended.outcome, ended.retryable) == (FAILED, False)
    assert "the result is a set" in ended.error


def _stop_iteration(context: TaskContext) -> None:
    next(iter(()))


def _exit(context: TaskContext) -> None:
    raise SystemExit(3)


async def _exit_async(context: TaskContext) -> None:
    raise SystemExit(3)


async def _cancel_itself(context: TaskContext) -> None:
    raise asyncio.CancelledError


def _division(context: TaskContext) -> float:
    return 1 / 0


def _long_text(context: TaskContext) -> None:
    raise ValueError("x" * 5_000)


def _for_good(context: TaskContext) -> None:
    raise PermanentError("no such account")


@pytest.mark.parametrize(
    ("handler", "text", "retryable"),
    [
        (_division, "ZeroDivisionError: division by zero", True),
        (_stop_iteration, "StopIteration", True),
        (_exit, "SystemExit: 3", True),
        (_exit_async, "SystemExit: 3", True),
        (_cancel_itself, "nobody had stopped the attempt", True),
        (_long_text, "ValueError: xxx", True),
        (_for_good, "no such account", False),
    ],
)
async def test_whatever_a_handler_raises_is_a_failed_attempt_with_its_place(
    node: Node, launch: Launch, handler: Any, text: str, retryable: bool
) -> None:
    agent = Agent(node.address, "a1")
    agent.handler("work")(handler)
    ended = await end_of_one(node, launch, agent)
    assert (ended.outcome, ended.retryable) == (FAILED, retryable)
    assert text in ended.error
    assert f"in {handler.__name__}" in ended.error
    assert "_executor.py" not in ended.error
    assert len(ended.error) <= 2_000


async def test_what_the_agent_cannot_take_is_rejected_for_others(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1", slots=1, queue=1)

    @agent.handler("work")
    async def work(context: TaskContext) -> None:
        await context.wait_cancelled()

    peer = await serve(node, launch, agent)
    await peer.assign(task(1), task(2), task(3), task(4, "unheard-of"))
    over = await peer.end_of(3)
    unknown = await peer.end_of(4)
    for ended, reason in (
        (over, "which is its credit"),
        (unknown, "no handler for tasks of type"),
    ):
        assert (ended.outcome, ended.retryable) == (REJECTED, True)
        assert reason in ended.error


async def test_a_handler_for_any_type_takes_what_has_none_of_its_own(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1")
    agent.handler("*")(lambda context: f"any: {context.type}")
    agent.handler("work")(lambda context: "own")
    peer = await serve(node, launch, agent)
    await peer.assign(task(1, "odd"), task(2))
    assert (await peer.end_of(1)).result == b"any: odd"
    assert (await peer.end_of(2)).result == b"own"


def test_a_second_handler_for_a_type_is_refused() -> None:
    agent = Agent("localhost:1")
    agent.add_builtins()
    with pytest.raises(AlreadyExists, match="'sleep'"):
        agent.handler("sleep")(lambda context: None)


def test_an_agent_without_slots_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="slots is 0"):
        Agent("localhost:1", slots=0)


# --- built-in handlers --------------------------------------------------------------------------------------


def builtin_agent(address: str) -> Agent:
    agent = Agent(address, "a1")
    agent.add_builtins(shell=True)
    return agent


@pytest.mark.parametrize(
    ("task_type", "payload", "outcome", "text"),
    [
        ("noop", None, COMPLETED, ""),
        ("echo", {"n": 1}, COMPLETED, '{"n": 1}'),
        ("sleep", {"seconds": 0.001}, COMPLETED, ""),
        ("sleep", {"minutes": 1}, FAILED, "lacks 'seconds'"),
        ("sleep", [1], FAILED, "must be a JSON object"),
        ("fail", {"message": "on purpose"}, FAILED, "on purpose"),
        ("fail", {"message": "on purpose", "times": 1}, FAILED, "on purpose"),
        ("fail", {"times": 0}, COMPLETED, ""),
        ("shell", {"command": ["echo", "a $HOME *"]}, COMPLETED, "a $HOME *\n"),
        ("shell", {"command": ["sh", "-c", "echo why; exit 3"]}, FAILED, "ended with status 3: why"),
        ("shell", {"command": ["/no/such/program"]}, FAILED, "cannot run '/no/such/program'"),
        ("shell", {"command": []}, FAILED, "list of words"),
    ],
)
async def test_builtin(
    node: Node, launch: Launch, task_type: str, payload: Any, outcome: int, text: str
) -> None:
    ended = await end_of_one(node, launch, builtin_agent(node.address), payload, task_type)
    assert ended.outcome == outcome
    assert text in (ended.result.decode() if outcome == COMPLETED else ended.error)


async def test_types_without_a_handler_are_slept_through_where_that_is_asked_for(
    node: Node, launch: Launch
) -> None:
    agent = Agent(node.address, "a1")
    agent.add_builtins(simulate=True)
    peer = await serve(node, launch, agent)
    await peer.assign(task(1, "weld", payload=b'{"seconds": 0.001}'), task(2, "weld"), task(3, "echo"))
    ends = {report.fence.key: report.ended async for report in peer.ends(3)}
    assert (ends[1].outcome, ends[3].outcome) == (COMPLETED, COMPLETED)
    assert "'weld' task lacks 'seconds'" in ends[2].error


async def test_a_sleep_ends_at_once_when_it_is_stopped(node: Node, launch: Launch) -> None:
    peer = await serve(node, launch, builtin_agent(node.address))
    await peer.assign(task(1, "sleep", payload=b'{"seconds": 3600}'))
    await peer.report("started", 1)
    await peer.stop(1)
    assert (await peer.end_of(1)).outcome == CANCELLED


async def test_a_stopped_command_is_killed_with_what_it_started(
    node: Node, launch: Launch, tmp_path: Path
) -> None:
    pipe = tmp_path / "held open by every process"
    os.mkfifo(pipe)
    script = f"exec 3> '{pipe}'; sleep 3600 & echo started >&3; wait"
    peer = await serve(node, launch, builtin_agent(node.address))
    await peer.assign(task(1, "shell", payload=json.dumps({"command": ["sh", "-c", script]}).encode()))
    held = await asyncio.to_thread(pipe.open)
    with held:
        assert await asyncio.to_thread(held.readline) == "started\n"
        await peer.stop(1)
        assert (await peer.end_of(1)).outcome == CANCELLED
        # Ends when the last process that holds the pipe is gone.
        assert await asyncio.to_thread(held.read) == ""


async def test_the_output_of_a_command_is_limited(node: Node, launch: Launch) -> None:
    command = ["sh", "-c", "yes | head -c 300000"]
    ended = await end_of_one(node, launch, builtin_agent(node.address), {"command": command}, "shell")
    assert (ended.outcome, len(ended.result)) == (COMPLETED, 64 << 10)


async def test_the_shell_is_off_unless_it_is_allowed(node: Node, launch: Launch) -> None:
    agent = Agent(node.address, "a1")
    agent.add_builtins()
    ended = await end_of_one(node, launch, agent, {"command": ["true"]}, "shell")
    assert ended.outcome == REJECTED
