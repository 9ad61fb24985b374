"""What load costs a task, on a real cluster: what its family feels of it (D3, B2), and what it is forecast to
be while the task lasts (D6); `explain` tells both."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from agent_sdk import Agent, AsyncClient, Dag, Task
from agent_sdk._channels import AGENT_KEEPALIVE_MS
from agent_sdk._surroundings import this_machine
from agent_sdk.types import Candidate
from quorumflow_proto.v1 import agent_pb2
from tests.integration.conftest import WAIT_S, StartCluster, eventually

PERIOD_S = 12
QUICK = {
    "agents.load_interval_ms": "250",
    "forecast.short_step_s": "1",
    "forecast.medium_step_s": "1",
    "forecast.long_step_s": "1",
}
SHORTEST_S = 6
"""How far the nearest forecast looks, in steps of a second."""


class Meter:
    """Reports what is so now, at every interval."""

    def __init__(self, measure: Callable[[], dict[str, float]]) -> None:
        self._measure = measure

    def news(self, queued: int, running: int) -> agent_pb2.LoadReport:
        """As `Meter.news`."""
        return agent_pb2.LoadReport(queued=queued, running=running, **self._measure())

    def forget_reported(self) -> None:
        """As `Meter.forget_reported`."""


@asynccontextmanager
async def agents(
    endpoints: list[str], **measures: Callable[[], dict[str, float]]
) -> AsyncIterator[AsyncClient]:
    """Agents that measure this, and whose work is done at once; a client once their reports are known."""
    running = []
    for name, measure in measures.items():
        meter = Meter(measure)
        surroundings = this_machine(AGENT_KEEPALIVE_MS)._replace(meter=lambda _, meter=meter: meter)
        agent = Agent(endpoints, name, slots=8, surroundings=surroundings)
        agent.handler("work")(lambda context: context.task_id)
        running.append(asyncio.create_task(agent.run_async()))
    async with AsyncClient(endpoints) as client:

        async def known() -> bool:
            return {one.agent_id async for one in client.agents() if one.load_score > 0} == set(measures)

        await eventually(known, "all have reported")
        yield client
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def chosen(client: AsyncClient, task: Task) -> list[Candidate]:
    """Who was compared for the task, the chosen one first."""
    dag_id = await client.submit(Dag().add(task))
    assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
    (why,) = (await client.explain(dag_id, task.id)).assignments
    assert why.recorded
    return list(why.candidates)


def value(candidate: Candidate, name: str) -> float | None:
    """A term of the cost there, before it is weighed."""
    return next((term.value for term in candidate.terms if term.name == name), None)


async def test_a_task_shuns_the_load_that_its_family_feels(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=1, agents=[])
    async with agents(
        cluster.endpoints, computing=lambda: {"cpu": 0.9}, talking=lambda: {"packet_loss": 0.9, "cpu": 0.05}
    ) as client:
        (first, *others) = await chosen(client, Task("t", "work", family="compute", expected_s=2.0))
        assert (first.agent_id, len(others)) == ("talking", 1)
        for family, quiet, busy in (("compute", "talking", "computing"), ("io", "computing", "talking")):
            compared = await chosen(client, Task("t", "work", family=family, expected_s=2.0))
            load = {one.agent_id: value(one, "load") or 0.0 for one in compared}
            assert load[quiet] < 0.5 * load[busy]
            assert {value(one, "forecast") for one in compared} == {None}


async def test_a_task_that_lasts_goes_by_the_forecast(start_cluster: StartCluster) -> None:
    """Once it has done better than the last value on a load that comes and goes."""
    cluster = start_cluster(nodes=1, agents=[], settings=QUICK)

    def wave(turn: float) -> dict[str, float]:
        return {"cpu": 0.5 + 0.4 * math.sin(2 * math.pi * (time.time() / PERIOD_S + turn))}

    async with agents(cluster.endpoints, one=partial(wave, 0.0), other=partial(wave, 0.5)) as client:

        async def outcomes(least: int, *, proved: bool) -> bool:
            found = [
                one
                async for name in as_async("one", "other")
                async for one in client.forecasts(name, series="cpu", horizon="short")
                if one.ahead_s == SHORTEST_S
            ]
            good = all(one.scored >= least and (one.model != "naive" or not proved) for one in found)
            return len(found) == 2 and good

        for least in (2, 6):
            await eventually(partial(outcomes, least, proved=False), f"there are {least} outcomes")
        await eventually(partial(outcomes, 8, proved=True), "a model is better than the last value")

        async def foreseen() -> list[Candidate] | None:
            compared = await chosen(client, Task("t", "work", expected_s=2.0 * SHORTEST_S))
            return compared if all(value(one, "forecast") for one in compared) else None

        compared = await eventually(foreseen, "placement goes by it")
        for one in compared:
            assert one.cost == pytest.approx(sum(term.product for term in one.terms))
            assert (value(one, "load") or 0) + (value(one, "forecast") or 0) >= 0
        for brief in await chosen(client, Task("t", "work", expected_s=2.0)):
            assert value(brief, "forecast") is None


async def as_async(*names: str) -> AsyncIterator[str]:
    for name in names:
        yield name
