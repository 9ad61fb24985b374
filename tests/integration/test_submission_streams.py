"""The stream of submissions on real processes: many at once, and through changes of the leader none is lost
and none recorded twice. Answers G1 and A5."""

from __future__ import annotations

import asyncio
from collections.abc import Sized

from agent_sdk import AsyncClient, Dag, Task
from coordinator.cli.agent_spec import alike
from tests.integration.conftest import StartCluster, eventually

AT_ONCE = 20


def dag(name: str) -> Dag:
    return Dag(name=name).add(Task(id="t", type="nobody-does-this"))


async def more_than(many: int, found: Sized) -> None:
    """Wait until work has gone on after a change of the leader."""

    async def enough() -> bool:
        return len(found) > many

    await eventually(enough, f"there are more than {many}")


async def test_leadership_that_is_handed_over_costs_no_submission_and_doubles_none(
    start_cluster: StartCluster,
) -> None:
    own = start_cluster(nodes=3)
    submitted: dict[str, str] = {}
    enough = asyncio.Event()

    async def keep_submitting(client: AsyncClient, name: str) -> None:
        number = 0
        while not enough.is_set():
            number += 1
            wanted = f"{name}/{number}"
            submitted[await client.submit(dag(wanted))] = wanted

    async with AsyncClient(own.endpoints) as one, AsyncClient(own.endpoints) as other:
        async with asyncio.TaskGroup() as submitters:
            for number in range(AT_ONCE):
                submitters.create_task(keep_submitting((one, other)[number % 2], f"s{number}"))
            for changes in range(1, 4):
                await other.members.transfer()
                await more_than(changes * AT_ONCE, submitted)
            enough.set()
        found = {status.dag_id: status.name async for status in one.list()}
    assert len(submitted) > AT_ONCE
    assert found == submitted


async def test_the_leader_says_how_much_it_has_in_its_queues(start_cluster: StartCluster) -> None:
    """Less than all that waits while it still fills them, after a change of leader (I1)."""
    own = start_cluster(nodes=3)
    async with AsyncClient(own.endpoints) as client:
        await asyncio.gather(*(client.submit(dag(f"q{number}")) for number in range(AT_ONCE)))
        await client.members.transfer()
        leader = own.leader()
        for node, addresses in own.nodes.items():
            queued = (await client.node_status(addresses.grpc)).counters.get("queued_tasks")
            while node == leader and queued < AT_ONCE:
                queued = (await client.node_status(addresses.grpc)).counters["queued_tasks"]
            assert queued == (AT_ONCE if node == leader else None)


async def test_every_dag_that_is_run_comes_back_with_its_end_through_changes_of_the_leader(
    start_cluster: StartCluster,
) -> None:
    own = start_cluster(nodes=3, agents=alike(2, 4))
    enough = asyncio.Event()
    ended: dict[str, str] = {}

    async def keep_running(client: AsyncClient) -> None:
        while not enough.is_set():
            status = await client.run(Dag(name="run").add(Task(id="t", type="noop")))
            ended[status.dag_id] = status.state

    async with AsyncClient(own.endpoints) as client:
        async with asyncio.TaskGroup() as runners:
            for _ in range(AT_ONCE):
                runners.create_task(keep_running(client))
            for changes in range(1, 4):
                await client.members.transfer()
                await more_than(changes * AT_ONCE, ended)
            enough.set()
        found = {status.dag_id: status.state async for status in client.list()}
    assert set(ended.values()) == {"COMPLETED"}
    assert found == ended
