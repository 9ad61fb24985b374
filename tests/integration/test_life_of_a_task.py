"""What becomes of tasks on a cluster of real processes: order and results, retries, timeouts, cancel,
reschedule, spawn, progress, checkpoints, drain. Answers B4, B5, B6, B7, D1, F2, F5."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from agent_sdk import (
    Agent,
    AsyncClient,
    Dag,
    PermanentError,
    Requires,
    Retry,
    Task,
    TaskContext,
    TaskEvent,
    ToolNeeds,
    errors,
)
from coordinator.cli.local_cluster import LocalCluster
from tests.integration.conftest import WAIT_S, RunAgent, eventually


class Gate:
    """A handler that tells of each attempt that begins, and holds it until it is stopped or let go."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[TaskContext] = asyncio.Queue()
        self.stopped: asyncio.Queue[int] = asyncio.Queue()
        self.open = asyncio.Event()

    async def __call__(self, context: TaskContext) -> str:
        await self.begun.put(context)
        opened = asyncio.create_task(self.open.wait())
        stopped = asyncio.create_task(context.wait_cancelled())
        await asyncio.wait({opened, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (opened, stopped):
            waiting.cancel()
        if context.cancelled:
            await self.stopped.put(context.attempt)
        context.raise_if_cancelled()
        return context.task_id


def gated(cluster: LocalCluster, agent_id: str, task_type: str) -> tuple[Agent, Gate]:
    """An agent with one slot whose only handler is a gate."""
    agent, gate = Agent(cluster.endpoints, agent_id, slots=1), Gate()
    agent.handler(task_type)(gate)
    return agent, gate


async def soon(event: asyncio.Queue[TaskContext]) -> TaskContext:
    return await asyncio.wait_for(event.get(), WAIT_S)


async def test_tasks_run_in_the_order_of_their_dependencies_and_leave_results(
    cluster: LocalCluster, client: AsyncClient
) -> None:
    dag = Dag(name="diamond").add(Task(id="top", type="echo", payload={"n": 1}, outputs=["data"]))
    dag.extend(Task(id=side, type="echo", payload=side, inputs=["data"]) for side in ("left", "right"))
    dag.add(Task(id="bottom", type="echo", payload=b"\x00\xff", depends_on=["left", "right"]))
    before = (await client.cluster_status()).commit_index
    dag_id = await client.submit(dag)
    ended = await client.wait(dag_id, WAIT_S)
    assert (ended.state, ended.tasks) == ("COMPLETED", {"COMPLETED": 4})
    order = await task_events(client, dag_id, before + 1, ending="bottom")
    for first, then in (("top", "left"), ("top", "right"), ("left", "bottom"), ("right", "bottom")):
        assert order.index((first, "COMPLETED")) < order.index((then, "ASSIGNED"))
    assert (await client.result(dag_id, "top")).json() == {"n": 1}
    assert (await client.result(dag_id, "left")).text == "left"
    assert (await client.result(dag_id, "bottom")).raise_for_state().data == b"\x00\xff"
    tasks = [task async for task in client.tasks(dag_id)]
    assert [task.id for task in tasks][0::3] == ["top", "bottom"]
    assert {task.attempts[0].agent for task in tasks} <= cluster.agents.keys()


async def task_events(client: AsyncClient, dag_id: str, revision: int, ending: str) -> list[tuple[str, str]]:
    """(task, state) of each event of a DAG's tasks until the one that ends this task."""
    seen: list[tuple[str, str]] = []
    async for event in client.watch(dag_id, from_revision=revision):
        if isinstance(event, TaskEvent):
            seen.append((event.task_id, event.state))
            if seen[-1] == (ending, "COMPLETED"):
                break
    return seen


async def test_a_task_that_fails_is_tried_again_with_growing_pauses(client: AsyncClient) -> None:
    retry = Retry(max_attempts=4, backoff="exponential", delay_s=0.05)
    task = Task(id="t", type="fail", payload={"times": 2, "message": "not yet"}, retry=retry)
    dag_id = await client.submit(Dag().add(task))
    assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
    attempts = (await client.task(dag_id, "t")).attempts
    assert [one.outcome for one in attempts] == ["FAILED", "FAILED", "COMPLETED"]
    assert [one.reason for one in attempts[:2]] == ["RuntimeError: not yet"] * 2
    pauses = [later.assigned_ms - earlier.ended_ms for earlier, later in itertools.pairwise(attempts)]
    assert pauses[0] >= 50
    assert pauses[1] >= 100


async def test_a_task_that_fails_for_good_takes_what_depends_on_it_along(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    agent = Agent(cluster.endpoints, "strict")

    @agent.handler("strict")
    def refuse(context: TaskContext) -> None:
        raise PermanentError(f"{context.task_id} can never work")

    await run_agent(agent)
    dag = Dag().add(Task(id="bad", type="strict", retry=Retry(max_attempts=5)))
    dag.add(Task(id="after", type="noop", depends_on=["bad"])).add(Task(id="beside", type="noop"))
    dag_id = await client.submit(dag)
    ended = await client.wait(dag_id, WAIT_S)
    assert (ended.state, ended.tasks) == ("FAILED", {"COMPLETED": 1, "FAILED": 1, "CANCELLED": 1})
    bad, after = await client.task(dag_id, "bad"), await client.task(dag_id, "after")
    assert len(bad.attempts) == 1
    assert "bad can never work" in bad.reason
    assert after.reason == "depends on bad, which is FAILED"
    with pytest.raises(errors.TaskFailed, match="can never work"):
        (await client.result(dag_id, "bad")).raise_for_state()


async def test_an_attempt_that_takes_too_long_is_stopped(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    agent, gate = gated(cluster, "slow", "slow")
    await run_agent(agent)
    dag_id = await client.submit(Dag().add(Task(id="t", type="slow", timeout_s=0.2)))
    assert (await client.wait(dag_id, WAIT_S)).state == "FAILED"
    task = await client.task(dag_id, "t")
    assert [one.outcome for one in task.attempts] == ["TIMED_OUT"]
    assert task.reason == "ran for longer than its timeout of 200 ms"
    assert await asyncio.wait_for(gate.stopped.get(), WAIT_S) == 1


async def test_a_cancelled_dag_stops_on_its_agents(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    agent, gate = gated(cluster, "cancelled", "cancelled")
    await run_agent(agent)
    dag = Dag().add(Task(id="runs", type="cancelled")).add(Task(id="waits", type="noop", depends_on=["runs"]))
    dag_id = await client.submit(dag)
    await soon(gate.begun)
    await client.cancel(dag_id, "changed our minds")
    assert await asyncio.wait_for(gate.stopped.get(), WAIT_S) == 1
    ended = await client.wait(dag_id, WAIT_S)
    assert (ended.state, ended.tasks, ended.reason) == ("CANCELLED", {"CANCELLED": 2}, "changed our minds")

    async def rid_of_it() -> bool:
        return [one.held async for one in client.agents() if one.agent_id == "cancelled"] == [0]

    await eventually(rid_of_it, "the agent holds nothing")
    assert (await client.cancel(dag_id)) == "CANCELLED"


async def test_a_rescheduled_task_goes_to_another_agent(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    gates = {}
    for agent_id in ("first", "second"):
        agent, gates[agent_id] = gated(cluster, agent_id, "moves")
        await run_agent(agent)
    dag_id = await client.submit(Dag().add(Task(id="t", type="moves")))

    async def runner() -> str:
        return next((name for name, gate in gates.items() if not gate.begun.empty()), "")

    chosen = await eventually(runner, "an agent has begun")
    (other,) = gates.keys() - {chosen}
    gates[other].open.set()
    await client.reschedule(dag_id, "t", "elsewhere, please")
    assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
    attempts = (await client.task(dag_id, "t")).attempts
    assert [(one.agent, one.outcome) for one in attempts] == [(chosen, "RESCHEDULED"), (other, "COMPLETED")]
    assert attempts[0].reason == "elsewhere, please"
    assert await asyncio.wait_for(gates[chosen].stopped.get(), WAIT_S) == 1


async def test_a_running_task_adds_tasks_to_its_dag(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    agent = Agent(cluster.endpoints, "spawner")

    @agent.handler("spawner")
    async def spawn(context: TaskContext) -> None:
        parts = [Task(id=f"part-{number}", type="noop") for number in range(3)]
        join = Task(id="join", type="noop", depends_on=[part.id for part in parts])
        await context.spawn_async([*parts, join])
        with pytest.raises(errors.DuplicateTaskId, match="part-1"):
            await context.spawn_async([Task(id="part-1", type="noop")])

    await run_agent(agent)
    dag_id = await client.submit(Dag().add(Task(id="parent", type="spawner")))
    ended = await client.wait(dag_id, WAIT_S)
    assert (ended.state, ended.tasks) == ("COMPLETED", {"COMPLETED": 5})
    assert set((await client.task(dag_id, "join")).depends_on) == {"part-0", "part-1", "part-2"}


async def test_progress_and_checkpoint_survive_the_agent(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    doomed, heir = Agent(cluster.endpoints, "doomed"), Agent(cluster.endpoints, "heir")

    @doomed.handler("resumes")
    async def begin(context: TaskContext) -> None:
        context.save_checkpoint(b"half of it")
        context.progress(0.5)
        await context.wait_cancelled()

    @heir.handler("resumes")
    async def resume(context: TaskContext) -> str:
        return json.dumps([context.attempt, (context.checkpoint or b"").decode()])

    life = await run_agent(doomed)
    dag_id = await client.submit(Dag().add(Task(id="t", type="resumes")))

    async def half_done() -> bool:
        return (await client.task(dag_id, "t")).progress == 0.5

    await eventually(half_done, "the progress is recorded")
    await run_agent(heir)
    life.cancel()
    assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
    assert (await client.result(dag_id, "t")).json() == [2, "half of it"]
    attempts = (await client.task(dag_id, "t")).attempts
    assert [(one.agent, one.outcome) for one in attempts] == [("doomed", "LOST"), ("heir", "COMPLETED")]


async def test_a_drained_agent_ends_what_it_runs_and_gets_nothing_new(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    agent, gate = gated(cluster, "drained", "drained")
    await run_agent(agent)
    running = await client.submit(Dag().add(Task(id="t", type="drained")))
    await soon(gate.begun)
    assert await client.drain_agent("drained") == "DRAINING"
    waiting = await client.submit(Dag().add(Task(id="t", type="drained")))
    gate.open.set()
    assert (await client.wait(running, WAIT_S)).state == "COMPLETED"
    explanation = await client.explain(waiting, "t")
    assert explanation.state == "READY"
    assert "draining" in explanation.summary
    assert await client.drain_agent("drained", undo=True) == "IDLE"
    assert (await client.wait(waiting, WAIT_S)).state == "COMPLETED"


async def test_an_agent_that_leaves_is_stopped_and_its_work_waits_for_another(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    agent, gate = gated(cluster, "leaver", "leaver")
    await run_agent(agent)
    dag = Dag().extend(Task(id=task_id, type="leaver", expected_s=0.001) for task_id in ("runs", "queued"))
    dag_id = await client.submit(dag)
    running = (await soon(gate.begun)).task_id
    leaving = asyncio.create_task(agent.stop(WAIT_S))
    gate.open.set()
    await leaving
    states = {one.agent_id: one.state async for one in client.agents()}
    assert states["leaver"] == "STOPPED"
    tasks = {task.id: task async for task in client.tasks(dag_id)}
    assert tasks.pop(running).state == "COMPLETED"
    (other,) = tasks.values()
    assert other.state in ("READY", "COMPLETED")
    heir, open_gate = gated(cluster, "heir-of-leaver", "leaver")
    open_gate.open.set()
    await run_agent(heir)
    assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"


async def test_an_agent_that_learns_a_skill_is_given_what_waits_for_it(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    """D1: in the session that it has; what it says is what operators see."""
    agent, gate = gated(cluster, "apprentice", "craft")
    gate.open.set()
    await run_agent(agent)
    waiting = Task(id="t", type="craft", requires=Requires(capabilities={"weld": 2}))
    dag_id = await client.submit(Dag().add(waiting))
    before = {one.agent_id: one.session_epoch async for one in client.agents()}["apprentice"]
    assert (await client.task(dag_id, "t")).state == "READY"
    agent.update(capabilities={"weld": 2}, speed=1.5, tool_limits={"torch": 1}, data=["maps"])
    assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
    (seen,) = [one async for one in client.agents() if one.agent_id == "apprentice"]
    assert (seen.session_epoch, dict(seen.capabilities), seen.speed) == (before, {"weld": 2}, 1.5)
    assert (dict(seen.tool_limits), seen.data, seen.busy_watts) == ({"torch": 1}, ("maps",), 0.0)


async def test_an_agent_runs_no_more_tasks_of_a_tool_at_once_than_it_says(
    client: AsyncClient, cluster: LocalCluster, run_agent: RunAgent
) -> None:
    """D8, E10: with slots to spare; `explain` says what stands in the way, and more is taken as soon as the
    agent allows it."""
    agent, gate = Agent(cluster.endpoints, "bench", slots=4, tools=["saw"], tool_limits={"saw": 1}), Gate()
    agent.handler("cut")(gate)
    await run_agent(agent)
    cuts = [Task(id=name, type="cut", requires=Requires(tool=ToolNeeds(tool="saw"))) for name in "ab"]
    dag_id = await client.submit(Dag(tasks=cuts))
    first = (await soon(gate.begun)).task_id
    (second,) = {"a", "b"} - {first}
    refusals = {one.reason: one for one in (await client.explain(dag_id, second)).refusals}
    assert refusals["tool_limit"].detail == "bench: 1 of at most 1 tasks of the tool saw at once"
    agent.update(tool_limits={"saw": 2})
    assert (await soon(gate.begun)).task_id == second
    gate.open.set()
    assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
