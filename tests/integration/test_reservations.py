"""Reservations on a real cluster: others wait beside free slots and are told why, whose slots they are begins
at once, a killed leader changes nothing, and when the time is over the others go on (E9, E10)."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from agent_sdk import AsyncClient
from agent_sdk.errors import InvalidRequest, NotFound, StaleVersion
from coordinator.cli.client import main
from coordinator.cli.exits import Exit
from tests.integration.conftest import WAIT_S, RunAgent, eventually
from tests.integration.gates import Gate

if TYPE_CHECKING:
    from coordinator.cli.local_cluster import LocalCluster
    from tests.integration.conftest import StartCluster

SLOTS = 4
HOUR_MS = 3_600_000


@pytest.fixture
async def gate(cluster: LocalCluster, run_agent: RunAgent) -> Gate:
    """One that is registered."""
    gate = Gate(cluster.endpoints, SLOTS)
    await run_agent(gate.agent)
    return gate


@pytest.fixture
async def name(client: AsyncClient) -> AsyncIterator[str]:
    """A reservation and a namespace of the test's own."""
    found = f"own-{uuid.uuid4().hex}"
    yield found
    for one in await client.reservations.list():
        await client.reservations.remove(one.id)


def coordctl(cluster: LocalCluster, *arguments: str, code: Exit = Exit.OK) -> dict[str, Any]:
    """What `coordctl reservation` prints, or the error."""
    command = ["--endpoints", ",".join(cluster.endpoints), "--output", "json", "reservation", *arguments]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout or done.stderr)
    return found


def now_ms() -> int:
    """By this machine, as the cluster's is."""
    return time.time_ns() // 1_000_000


async def explained(client: AsyncClient, dag_id: str) -> str:
    """Why the first task of the DAG that waits does so, once that is its reservation."""

    async def look() -> str | None:
        waiting = [task.id async for task in client.tasks(dag_id, states=["READY"])]
        why = await client.explain(dag_id, waiting[0])
        return next((one.detail for one in why.refusals if one.reason == "reserved"), None)

    return await eventually(look, "a task waits because of a reservation")


async def slots(client: AsyncClient, dag_id: str, running: int) -> list[str]:
    """Of the tasks of the DAG that run, which are so many: the slots that are kept for them."""
    found = [task.id async for task in client.tasks(dag_id, states=["RUNNING", "ASSIGNED"])]
    assert len(found) == running
    return sorted([(await client.explain(dag_id, one)).assignments[0].reserved for one in found])


async def test_slots_are_kept_and_taken_at_once_by_whom_they_are_for(
    cluster: LocalCluster, client: AsyncClient, gate: Gate, name: str
) -> None:
    """E9, E10. The reservation is made, shown and removed by coordctl."""
    agent = gate.agent.agent_id
    made = await asyncio.to_thread(
        coordctl, cluster, "set", name, "--namespace", name, "--slots", "2", "--agent", agent
    )
    assert (made["state"], made["covered"], made["slots"]) == ("IN_FORCE", 1, 2)
    other = await client.submit(gate.dag("others", 6))
    await gate.has_begun(2)
    because = await explained(client, other)
    assert because == f"reservation {name} keeps 2 slots of {agent} for namespace {name}, without end"
    mine = await client.submit(gate.dag(name, 2))
    await gate.has_begun(4)
    assert gate.begun == ["others", "others", name, name]
    assert await slots(client, mine, 2) == [
        f"one of the 2 slots that reservation {name} keeps for namespace {name}, of which {used} were in use"
        for used in (0, 1)
    ]
    assert await slots(client, other, 2) == [""] * 2
    gate.open.release()
    await gate.has_begun(5)
    shown = await asyncio.to_thread(coordctl, cluster, "list")
    assert [one["id"] for one in shown["reservations"]] == [name]
    await asyncio.to_thread(coordctl, cluster, "remove", name)
    for _ in range(7):
        gate.open.release()
    for dag_id in (other, mine):
        assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"


async def test_the_window_opens_and_closes_by_itself(client: AsyncClient, gate: Gate, name: str) -> None:
    """E9: before it, what may last too long waits; when it is over, all goes on, with nobody's help."""
    agents = [gate.agent.agent_id]
    begin_ms = now_ms() + HOUR_MS
    kept = await client.reservations.set(name, name, agents=agents, begin_ms=begin_ms)
    assert (kept.state, kept.slots) == ("TO_COME", None)
    brief = await client.submit(gate.dag("others", 1, timeout_s=1_800))
    await gate.has_begun(1)
    gate.open.release()
    assert (await client.wait(brief, WAIT_S)).state == "COMPLETED"
    # Nothing runs from here on: nothing but the time can make anybody look again.
    long = await client.submit(gate.dag("others", 3, timeout_s=7_200, expected_s=7_000))
    assert "s, and the task may take " in await explained(client, long)
    end_ms = now_ms() + 2_000
    kept = await client.reservations.set(name, name, agents=agents, end_ms=end_ms, expect=kept.version)
    assert "for another" in await explained(client, long)
    await gate.has_begun(4)
    assert now_ms() >= end_ms
    assert (await client.reservations.get(name)).state == "OVER"
    for _ in range(3):
        gate.open.release()
    assert (await client.wait(long, WAIT_S)).state == "COMPLETED"


async def test_what_is_preemptible_gives_way_when_it_begins(
    client: AsyncClient, gate: Gate, name: str
) -> None:
    """E4, E9: as many as are kept, and the others go on."""
    lesser = await client.submit(gate.dag("others", SLOTS, preemptible=True))
    await gate.has_begun(SLOTS)
    await client.reservations.set(name, name, slots=1, agents=[gate.agent.agent_id])
    mine = await client.submit(gate.dag(name, 2))
    await gate.has_begun(SLOTS + 1)
    assert gate.begun[-1] == name
    attempts = [task.attempts[0] async for task in client.tasks(lesser)]
    assert [one.outcome for one in attempts].count("PREEMPTED") == 1
    reasons = {one.reason for one in attempts if one.outcome == "PREEMPTED"}
    assert reasons == {f"to make room for the task {mine}/t0, for which the slot is kept"}
    for _ in range(2 * SLOTS + 2):
        gate.open.release()
    for dag_id in (mine, lesser):
        assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"


async def test_a_reservation_outlives_its_leader_and_a_restart(start_cluster: StartCluster) -> None:
    """A5, E9: it is in the state, and so in what a node loads and in what a new leader plans by."""
    cluster = start_cluster(nodes=3)
    async with AsyncClient(cluster.endpoints) as client:
        gate = Gate(cluster.endpoints, SLOTS)
        agent = gate.agent.agent_id
        running = asyncio.create_task(gate.agent.run_async())
        kept = await client.reservations.set("sale", "shop", slots=2, agents=[agent])
        other = await client.submit(gate.dag("others", 4))
        await gate.has_begun(2)
        former = (await client.cluster_status()).leader
        await asyncio.to_thread(cluster.kill_node, former)
        assert (await client.cluster_status()).leader != former
        # Two slots are free, and nothing of the four begins there until the new leader has looked at all.
        because = await explained(client, other)
        assert because == f"reservation sale keeps 2 slots of {agent} for namespace shop, without end"
        mine = await client.submit(gate.dag("shop", 2))
        await gate.has_begun(4)
        assert gate.begun == ["others", "others", "shop", "shop"]
        await asyncio.to_thread(cluster.restart_node, former)

        async def all_agree() -> bool:
            nodes = (await client.cluster_status()).nodes
            return len({(one.applied_index, one.digest) for one in nodes}) == 1 and len(nodes) == 3

        await eventually(all_agree, "three nodes have the same state")
        found = await client.reservations.list()
        assert [(one.id, one.version) for one in found] == [("sale", kept.version)]
        await client.reservations.remove("sale")
        for _ in range(8):
            gate.open.release()
        for dag_id in (other, mine):
            assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_two_operators_do_not_undo_each_others_work(
    cluster: LocalCluster, client: AsyncClient, name: str
) -> None:
    """What makes no sense, or is not there, is refused too, with what is wrong."""
    first = await client.reservations.set(name, "shop", slots=1, zone="nowhere", expect=0)
    assert first.covered == 0
    second = await client.reservations.set(name, "shop", slots=2, zone="nowhere", expect=first.version)
    with pytest.raises(StaleVersion) as stale:
        await client.reservations.set(name, "shop", slots=3, zone="nowhere", expect=first.version)
    assert stale.value.current == second.version
    with pytest.raises(StaleVersion):
        await client.reservations.remove(name, expect=first.version)
    with pytest.raises(InvalidRequest, match="every slot of every agent"):
        await client.reservations.set(name, "shop")
    with pytest.raises(InvalidRequest, match="its end must be later"):
        await client.reservations.set(name, "shop", slots=1, begin_ms=9, end_ms=8)
    with pytest.raises(NotFound):
        await client.reservations.get(f"{name}-not")
    error = await asyncio.to_thread(
        coordctl, cluster, "remove", name, "--expect", str(first.version), code=Exit.REFUSED
    )
    assert error["error"]["fields"]["current"] == str(second.version)
    assert (await client.reservations.get(name)).slots == 2
