"""An agent leaves in order: nothing new, what waits is handed back, what runs may end, then goodbye.

Answers D1 (drain, deregister) and F2 (work of a leaving agent goes to others).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from agent_sdk import Agent, TaskContext
from agent_sdk.errors import WrongState
from quorumflow_proto.v1 import common_pb2
from tests.sdk.conftest import Launch
from tests.sdk.scripted import UNAVAILABLE, Node, Peer, task

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from agent_sdk import Agent

agent = Agent(sys.argv[1], "a1", slots=1)
agent.add_builtins()
agent.run()
"""


def holding_agent(address: str, finish: asyncio.Event, **options: float) -> Agent:
    agent = Agent(address, "a1", slots=1, cancel_grace_s=0.01, **options)  # type: ignore[arg-type]

    @agent.handler("work")
    async def work(context: TaskContext) -> str:
        await finish.wait()
        return "finished"

    return agent


async def hold_two(node: Node) -> Peer:
    peer = await node.session()
    await peer.welcome()
    await peer.assign(task(1), task(2))
    await peer.report("started", 1)
    return peer


async def goodbye(peer: Peer) -> bool:
    message = await peer.receive()
    assert message.HasField("goodbye"), message
    return message.goodbye.draining


async def test_what_waits_is_handed_back_and_what_runs_may_end(node: Node, launch: Launch) -> None:
    finish = asyncio.Event()
    agent = holding_agent(node.address, finish)
    run = launch(agent)
    peer = await hold_two(node)
    stop = asyncio.create_task(agent.stop())
    assert await goodbye(peer) is True
    rejected = await peer.end_of(2)
    assert (rejected.outcome, rejected.retryable) == (common_pb2.ATTEMPT_OUTCOME_REJECTED, True)
    await peer.assign(task(3))
    assert (await peer.end_of(3)).outcome == common_pb2.ATTEMPT_OUTCOME_REJECTED
    finish.set()
    assert (await peer.end_of(1)).result == b"finished"
    await peer.acknowledge(1, 2, 3)
    assert await goodbye(peer) is False
    peer.end()
    await stop
    await run


async def test_a_drain_goes_on_in_a_new_session(node: Node, launch: Launch) -> None:
    finish = asyncio.Event()
    agent = holding_agent(node.address, finish)
    run = launch(agent)
    first = await hold_two(node)
    stop = asyncio.create_task(agent.stop())
    assert await goodbye(first) is True
    await first.end_of(2)
    first.end(UNAVAILABLE)
    second = await node.session()
    await second.welcome()
    assert await goodbye(second) is True
    await second.end_of(2)
    finish.set()
    await second.end_of(1)
    await second.acknowledge(1, 2)
    assert await goodbye(second) is False
    second.end()
    await asyncio.gather(stop, run)


async def test_what_does_not_end_within_the_grace_is_left_to_others(node: Node, launch: Launch) -> None:
    agent = holding_agent(node.address, asyncio.Event())
    run = launch(agent)
    peer = await hold_two(node)
    stop = asyncio.create_task(agent.stop(grace_s=0.02))
    assert await goodbye(peer) is True
    await peer.end_of(2)
    await peer.acknowledge(2)
    assert await goodbye(peer) is False
    peer.end()
    await asyncio.gather(stop, run)


async def test_what_was_left_to_others_may_be_stopped_by_the_coordinator(node: Node, launch: Launch) -> None:
    """A leader that has given the attempt to another says so while the agent waits for its last
    acknowledgements."""
    agent = Agent(node.address, "a1", slots=1, drain_grace_s=0.01)
    left = asyncio.Event()

    @agent.handler("work")
    async def work(context: TaskContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    run = launch(agent)
    peer = await hold_two(node)
    stop = asyncio.create_task(agent.stop())
    assert await goodbye(peer) is True
    await peer.end_of(2)
    await left.wait()
    await peer.stop(1)
    await peer.acknowledge(2)
    assert await goodbye(peer) is False
    peer.end()
    await asyncio.gather(stop, run)


async def test_a_second_stop_does_not_wait(node: Node, launch: Launch) -> None:
    agent = holding_agent(node.address, asyncio.Event(), drain_grace_s=3_600)
    run = launch(agent)
    peer = await hold_two(node)
    patient = asyncio.create_task(agent.stop())
    assert await goodbye(peer) is True
    await peer.end_of(2)
    hasty = asyncio.create_task(agent.stop())
    assert await goodbye(peer) is False
    peer.end()
    await asyncio.gather(patient, hasty, run)


async def test_an_agent_runs_once_at_a_time_and_may_run_again(node: Node, launch: Launch) -> None:
    finish = asyncio.Event()
    finish.set()
    agent = holding_agent(node.address, finish)
    run = launch(agent)
    first = await node.session()
    instance = (await first.welcome()).instance_id
    await first.assign(task(1))
    await first.end_of(1)
    await first.acknowledge(1)
    with pytest.raises(WrongState, match="runs already"):
        await agent.run_async()
    stop = asyncio.create_task(agent.stop())
    assert [await goodbye(first), await goodbye(first)] == [True, False]
    first.end()
    await asyncio.gather(stop, run)
    await agent.stop()
    launch(agent)
    assert (await (await node.session()).welcome()).instance_id != instance


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_the_process(node: Node, number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, node.address, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        peer = await node.session()
        await peer.welcome()
        await peer.assign(task(1, "sleep", payload=b'{"seconds": 0.3}'), task(2, "noop"))
        await peer.report("started", 1)
        process.send_signal(number)
        assert await goodbye(peer) is True
        assert (await peer.end_of(2)).outcome == common_pb2.ATTEMPT_OUTCOME_REJECTED
        assert (await peer.end_of(1)).outcome == common_pb2.ATTEMPT_OUTCOME_COMPLETED
        await peer.acknowledge(1, 2)
        assert await goodbye(peer) is False
        peer.end()
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_function_that_ignores_everything_does_not_keep_the_process(node: Node) -> None:
    program = PROGRAM.replace("slots=1", "slots=1, drain_grace_s=0.01").replace(
        "agent.run()",
        "import threading\nagent.handler('stuck')(lambda context: threading.Event().wait())\nagent.run()",
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, node.address, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        peer = await node.session()
        await peer.welcome()
        await peer.assign(task(1, "stuck"))
        await peer.report("started", 1)
        process.terminate()
        assert await goodbye(peer) is True
        assert await goodbye(peer) is False
        peer.end()
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
