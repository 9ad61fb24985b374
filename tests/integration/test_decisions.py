"""Decisions from outside, on real processes: why an agent has a task, what placement has done of late, and
that an agent which lies about its speed and its load is found out (E6, E10; D5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent_sdk import Agent, AsyncClient, Dag, Task, TaskContext
from agent_sdk._channels import AGENT_KEEPALIVE_MS
from agent_sdk._surroundings import this_machine
from coordinator.cli.local_cluster import LocalCluster
from quorumflow_proto.v1 import agent_pb2
from tests.integration.conftest import WAIT_S, StartCluster, eventually

SHOWN = 20
"""Tasks that an honest agent does first: what they take is known then."""

FOUND_OUT_WITHIN = 8
"""Tasks."""


class Idle:
    """Says of its machine that it does nothing, whatever it does."""

    def news(self, queued: int, running: int) -> agent_pb2.LoadReport:
        """As `Meter.news`."""
        return agent_pb2.LoadReport()

    def forget_reported(self) -> None:
        """As `Meter.forget_reported`."""


@pytest.fixture
def by_cost(start_cluster: StartCluster) -> LocalCluster:
    """A node that places by cost, without agents."""
    return start_cluster(nodes=1, settings={"scheduling.policy": "balanced"})


@pytest.fixture
async def alone(by_cost: LocalCluster) -> AsyncIterator[AsyncClient]:
    """A client of it."""
    async with AsyncClient(by_cost.endpoints) as client:
        yield client


def agent(endpoints: Any, name: str, seconds: float, **says: Any) -> Agent:
    """Works for so long on each task, and says that its machine is idle."""
    around = this_machine(AGENT_KEEPALIVE_MS)._replace(meter=lambda _: Idle())
    made = Agent(endpoints, name, slots=1, surroundings=around, **says)

    @made.handler("work")
    async def work(context: TaskContext) -> str:
        await asyncio.sleep(seconds)
        return name

    return made


async def one_by_one(client: AsyncClient, tasks: int) -> list[str]:
    """Run tasks one after the other; returns who did each."""
    did = []
    for _ in range(tasks):
        dag_id = await client.submit(Dag().add(Task("t", "work")))
        assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
        did.append((await client.task(dag_id, "t")).attempts[-1].agent)
    return did


async def connected(client: AsyncClient, name: str) -> bool:
    return name in [one.agent_id async for one in client.agents() if one.state == "IDLE"]


@pytest.fixture
async def honest_and_liar(alone: AsyncClient, by_cost: LocalCluster) -> AsyncIterator[AsyncClient]:
    """An agent that has shown what tasks take, then one that is slower than ten and says it is as quick as a
    hundred."""
    endpoints = by_cost.endpoints
    running = [asyncio.create_task(agent(endpoints, "honest", 0.1).run_async())]
    await eventually(lambda: connected(alone, "honest"), "the honest one is there")
    assert await one_by_one(alone, SHOWN) == ["honest"] * SHOWN
    running.append(asyncio.create_task(agent(endpoints, "liar", 1.1, speed=100.0).run_async()))
    await eventually(lambda: connected(alone, "liar"), "the liar is there")
    yield alone
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def test_an_agent_that_lies_about_speed_and_load_is_found_out(honest_and_liar: AsyncClient) -> None:
    client = honest_and_liar
    did = await one_by_one(client, FOUND_OUT_WITHIN)
    assert did[0] == "liar", "it is believed at first"
    assert did[-1] == "honest"
    assert await one_by_one(client, 3) == ["honest"] * 3


async def test_why_an_agent_has_a_task_and_what_was_decided(honest_and_liar: AsyncClient) -> None:
    client = honest_and_liar
    dag_id = await client.submit(Dag().add(Task("t", "work")))
    await client.wait(dag_id, WAIT_S)
    told = await client.explain(dag_id, "t")
    (why,) = told.assignments
    assert (why.agent_id, why.policy, why.recorded, why.unit) == ("liar", "balanced", True, "s")
    assert [one.agent_id for one in why.candidates] == ["liar", "honest"]
    for candidate in why.candidates:
        assert candidate.cost == pytest.approx(sum(term.product for term in candidate.terms))
    assert why.candidates[1].lost.endswith("by its run")
    assert why.low_s < why.expected_s < why.high_s < 0.1 < 1.0 <= why.actual_s
    made = [one async for one in client.decisions() if one.kind == "round"]
    assert [one.number for one in made] == sorted({one.number for one in made})
    assert sum(one.facts["placed"] for one in made) == SHOWN + 1
    assert {one.facts["policy"] for one in made} == {"balanced"}


async def test_a_dag_may_be_searched_for(alone: AsyncClient, by_cost: LocalCluster) -> None:
    running = asyncio.create_task(agent(by_cost.endpoints, "machine", 0.01).run_async())
    await eventually(lambda: connected(alone, "machine"), "the machine is there")
    dag_id = await alone.submit(Dag(policy="search").add(Task("t", "work", expected_s=5.0)))
    assert (await alone.wait(dag_id, WAIT_S)).state == "COMPLETED"
    (why,) = (await alone.explain(dag_id, "t")).assignments
    assert (why.policy, why.recorded) == ("search", True)
    assert "best schedule" in why.how
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_decisions_are_followed_as_they_are_made(alone: AsyncClient) -> None:
    followed = alone.decisions(follow=True)
    soon = asyncio.create_task(anext(aiter(followed)))
    dag_id = await alone.submit(Dag().add(Task("t", "nobody's")))
    found = await asyncio.wait_for(soon, WAIT_S)
    assert (found.kind, found.facts["placed"], found.facts["unplaced"]) == ("round", 0, {"next_round": 1})
    told = await alone.explain(dag_id, "t")
    assert told.summary == "no agent is known"
    task = await alone.task(dag_id, "t")
    assert told.impossible_since_ms == task.ready_ms
