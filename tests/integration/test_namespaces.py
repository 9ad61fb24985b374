"""Namespaces on a real cluster: two share agents by their weights, quotas hold and are explained, DAGs choose
their policy, and what is urgent gets its room (E4, E8, E9, E10)."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from agent_sdk import Client
from agent_sdk.errors import InvalidRequest, NotFound, QuotaExceeded
from coordinator.cli.client import main
from coordinator.cli.exits import Exit
from tests.integration.conftest import WAIT_S, RunAgent
from tests.integration.gates import Gate

if TYPE_CHECKING:
    from agent_sdk import AsyncClient
    from coordinator.cli.local_cluster import LocalCluster

SLOTS = 8


@pytest.fixture
async def gate(cluster: LocalCluster, run_agent: RunAgent) -> Gate:
    """One that is registered."""
    gate = Gate(cluster.endpoints, SLOTS)
    await run_agent(gate.agent)
    return gate


@pytest.fixture
async def names(client: AsyncClient) -> AsyncIterator[tuple[str, str]]:
    """Two namespaces of the test's own, without settings afterwards."""
    found = f"one-{uuid.uuid4().hex}", f"two-{uuid.uuid4().hex}"
    yield found
    for name in found:
        try:
            await client.namespaces.unset(name)
        except NotFound:
            continue


def coordctl(cluster: LocalCluster, *arguments: str, code: Exit = Exit.OK) -> dict[str, Any]:
    """What `coordctl namespace` prints, or the error."""
    command = ["--endpoints", ",".join(cluster.endpoints), "--output", "json", "namespace", *arguments]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout or done.stderr)
    return found


async def test_two_namespaces_share_agents_by_weight(
    client: AsyncClient, gate: Gate, names: tuple[str, str]
) -> None:
    """E8: 3 to 1, of the slots and of what is begun as they become free."""
    heavy, light = names
    assert (await client.namespaces.set(heavy, weight=3.0)).weight == 3.0
    # All there before the first is placed: nobody has had anything before.
    await client.namespaces.set(heavy, quotas={"attempts": 0})
    await client.namespaces.set(light, quotas={"attempts": 0})
    dags = [await client.submit(gate.dag(name, 60)) for name in names]
    for name in names:
        await client.namespaces.set(name, quotas={"attempts": None})
    await gate.has_begun(SLOTS)
    for begun in range(SLOTS, 64):
        gate.open.release()
        await gate.has_begun(begun + 1)
    counts = [gate.begun[16:64].count(name) for name in names]
    assert 2.2 < counts[0] / counts[1] < 4.0, counts
    held = {one.name: one for one in await client.namespaces.list() if one.name in names}
    assert held[heavy].attempts + held[light].attempts == SLOTS
    assert held[heavy].attempts in (5, 6, 7)
    assert held[heavy].share > held[light].share > 0
    for _ in range(120):
        gate.open.release()
    for dag_id in dags:
        assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
    assert (await client.namespaces.get(light)).tasks == 0


async def test_an_urgent_task_gets_the_place_of_a_preemptible_one(client: AsyncClient, gate: Gate) -> None:
    """E4, E9: the other one has not failed; it begins again when there is room, and completes."""
    lesser = await client.submit(gate.dag("default", SLOTS, preemptible=True))
    await gate.has_begun(SLOTS)
    urgent = await client.submit(gate.dag("urgent", 1, priority="urgent"))
    await gate.has_begun(SLOTS + 1)
    assert gate.begun[-1] == "urgent"
    tasks = [task async for task in client.tasks(lesser)]
    gave_way = [task for task in tasks if len(task.attempts) > 0 and task.attempts[0].outcome == "PREEMPTED"]
    assert [task.state for task in gave_way] == ["READY"]
    assert gave_way[0].attempts[0].reason == f"to make room for the urgent task {urgent}/t0"
    for _ in range(2 * SLOTS):
        gate.open.release()
    assert (await client.wait(urgent, WAIT_S)).state == "COMPLETED"
    assert (await client.wait(lesser, WAIT_S)).state == "COMPLETED"


async def test_a_quota_holds_and_is_explained(
    cluster: LocalCluster, client: AsyncClient, gate: Gate, names: tuple[str, str]
) -> None:
    """E8, E10: what is beyond it waits, says so, and goes on when it is lifted."""
    name, other = names
    shown = await asyncio.to_thread(
        coordctl, cluster, "set", name, "--quota", "attempts=2", "--quota", "tasks=5"
    )
    assert (shown["weight"], shown["quotas"]["attempts"], shown["quotas"]["milli_cores"]) == (1.0, 2, None)
    dag_id = await client.submit(gate.dag(name, 5))
    await gate.has_begun(2)
    waiting = [task.id async for task in client.tasks(dag_id, states=["READY"])]
    assert len(waiting) == 3
    why = await client.explain(dag_id, waiting[0])
    assert why.summary == f"it waits for its quota: namespace {name} holds 2 of its 2 attempts"
    assert [one.reason for one in why.refusals][-1] == "namespace_quota"
    with pytest.raises(QuotaExceeded, match="5 unfinished tasks of at most 5") as refused:
        await client.submit(gate.dag(name, 1))
    assert refused.value.fields["quota"] == "tasks"
    # Others are not held up by it.
    free = await client.submit(gate.dag(other, SLOTS - 2))
    await gate.has_begun(SLOTS)
    assert gate.begun.count(name) == 2
    shown = await asyncio.to_thread(coordctl, cluster, "show", name)
    assert (shown["attempts"], shown["tasks"], shown["dags"]) == (2, 5, 1)
    await asyncio.to_thread(coordctl, cluster, "set", name, "--quota", "attempts=")
    for _ in range(2 * SLOTS):
        gate.open.release()
    for one in (dag_id, free):
        assert (await client.wait(one, WAIT_S)).state == "COMPLETED"


async def test_a_dag_may_choose_its_policy(
    cluster: LocalCluster, client: AsyncClient, gate: Gate, names: tuple[str, str]
) -> None:
    """E1: one that is not known, or that only a whole cluster can have, is refused with the names known."""
    name, _ = names
    for _ in range(SLOTS):
        gate.open.release()
    await client.namespaces.set(name, policy="cheap-network")
    for policy in ("green", ""):
        dag_id = await client.submit(gate.dag(name, 2, policy=policy))
        assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
    with pytest.raises(InvalidRequest, match=r"no placement policy 'fastest'.*balanced.*green"):
        await client.submit(gate.dag(name, 1, policy="fastest"))
    with pytest.raises(InvalidRequest, match=r"'round-robin' is a policy of the whole cluster.*balanced"):
        await client.submit(gate.dag(name, 1, policy="round-robin"))
    error = await asyncio.to_thread(coordctl, cluster, "set", name, "--policy", "fastest", code=Exit.INVALID)
    assert error["error"]["reason"] == "INVALID_REQUEST"
    assert (await client.namespaces.get(name)).policy == "cheap-network"


def test_settings_outlive_their_leader_and_are_refused_where_they_make_no_sense(
    cluster: LocalCluster,
) -> None:
    """The commands of an operator, through another node each time."""
    name = f"kept-{uuid.uuid4().hex}"
    assert coordctl(cluster, "set", name, "--weight", "2.5", "--quota", "memory_bytes=7")["weight"] == 2.5
    with Client(cluster.endpoints) as client:
        former = client.cluster_status().leader
        assert client.members.transfer() != former
    shown = coordctl(cluster, "show", name)
    assert (shown["weight"], shown["quotas"]["memory_bytes"]) == (2.5, 7)
    listed = [one["name"] for one in coordctl(cluster, "list")["namespaces"]]
    assert name in listed
    assert listed == sorted(listed)
    for arguments in (
        ["--weight", "0"],
        ["--weight", "nan"],
        ["--quota", "speed=1"],
        ["--quota", "attempts=-1"],
    ):
        coordctl(cluster, "set", name, *arguments, code=Exit.INVALID)
    assert coordctl(cluster, "unset", name)["weight"] == 1.0
    coordctl(cluster, "unset", name, code=Exit.NOT_FOUND)
