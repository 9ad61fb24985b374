"""Load from agents' machines to the scheduler and back to those who look (D2, D4): an overloaded agent gets
no work, `explain` and the list of agents say so, and it gets work again once it has recovered."""

from __future__ import annotations

import math
import uuid
from functools import partial

import pytest

from agent_sdk import Agent, AsyncClient, Dag, Task, TaskContext
from agent_sdk._channels import AGENT_KEEPALIVE_MS
from agent_sdk._surroundings import this_machine
from agent_sdk.types import AgentStatus
from coordinator.cli.local_cluster import LocalCluster
from quorumflow_proto.v1 import agent_pb2
from tests.integration.conftest import WAIT_S, RunAgent, eventually


class Meter:
    """Reports whatever the test says, at every interval."""

    def __init__(self, memory: float) -> None:
        self.memory = memory

    def news(self, queued: int, running: int) -> agent_pb2.LoadReport:
        """As `Meter.news`."""
        return agent_pb2.LoadReport(
            cpu=0.25, memory=self.memory, gpu=0.5, packet_loss=0.125, queued=queued, running=running
        )

    def forget_reported(self) -> None:
        """As `Meter.forget_reported`."""


@pytest.mark.parametrize("memory", [0.99, math.nan])
async def test_an_overloaded_agent_gets_no_work_until_it_has_recovered(
    cluster: LocalCluster, client: AsyncClient, run_agent: RunAgent, memory: float
) -> None:
    meter, name = Meter(memory), f"loaded-{uuid.uuid4().hex}"
    surroundings = this_machine(AGENT_KEEPALIVE_MS)._replace(meter=lambda _: meter)
    agent = Agent(cluster.endpoints, name, surroundings=surroundings)

    @agent.handler(name)
    async def work(context: TaskContext) -> str:
        return context.task_id

    await run_agent(agent)

    async def seen(reported: float, *, overloaded: bool) -> AgentStatus | None:
        async for one in client.agents():
            if (one.agent_id, one.memory, one.overloaded) == (name, reported, overloaded):
                return one
        return None

    believed = 1.0 if math.isnan(memory) else memory
    shown = await eventually(partial(seen, believed, overloaded=True), f"{name} is overloaded")
    assert shown.load_score == believed
    assert (shown.cpu, shown.gpu, shown.network) == (0.25, 0.5, 0.125)
    dag_id = await client.submit(Dag().add(Task("t", name, priority="urgent")))
    waiting = await client.explain(dag_id, "t")
    assert (waiting.state, waiting.agents_feasible) == ("READY", 0)
    details = {one.example_agent: one.detail for one in waiting.refusals}
    assert details[name].startswith(f"overloaded: load {shown.load_score:.2f} of 0.95")
    meter.memory = 0.9  # between the thresholds: it has not recovered
    await eventually(partial(seen, 0.9, overloaded=True), f"{name} has less load")
    assert (await client.task(dag_id, "t")).state == "READY"
    meter.memory = 0.5
    assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
    await eventually(partial(seen, 0.5, overloaded=False), f"{name} has recovered")
