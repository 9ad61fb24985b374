"""What a leader has learned of how long tasks last is known to the next one (D5, E5, E10)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent_sdk import AsyncClient, Dag, Task
from quorumflow_proto.v1 import agent_pb2, common_pb2
from tests.integration.conftest import WAIT_S, Wire, eventually

if TYPE_CHECKING:
    from tests.integration.conftest import StartCluster

TOOK_S = {"long": 100.0, "brief": 0.001}
"""By type, what the agents say that tasks have taken."""


class ByHand:
    """An agent of one slot for one type, whose sessions are spoken by hand: it completes tasks at once, and
    says what it likes of how long they took."""

    def __init__(self, task_type: str) -> None:
        self._hello = agent_pb2.Hello(
            agent_id=f"agent-{task_type}", instance_id="i", slots=1, credit=5, task_types=[task_type]
        )
        self._took_us = round(TOOK_S[task_type] * 1e6)
        self._stream: Any = None

    async def meet(self, leader: Wire) -> None:
        """Open a session."""
        self._stream = leader.agent.Session()
        await self._say(hello=self._hello)
        assert (await self._stream.read()).HasField("welcome")

    async def complete(self, tasks: int) -> None:
        """Complete so many."""
        while tasks:
            for fence in await self._given():
                done = agent_pb2.Ended(
                    outcome=common_pb2.ATTEMPT_OUTCOME_COMPLETED, duration_us=self._took_us
                )
                await self._report(fence, ended=done)
                tasks -= 1

    async def begin(self) -> None:
        """Begin with what comes first."""
        await self._report((await self._given())[0], started=agent_pb2.Started())

    async def _given(self) -> list[agent_pb2.Fence]:
        while True:
            message = await asyncio.wait_for(self._stream.read(), WAIT_S)
            if message.HasField("assignments"):
                return [one.fence for one in message.assignments.tasks]

    async def _report(self, fence: agent_pb2.Fence, **body: Any) -> None:
        await self._say(reports=agent_pb2.Reports(reports=[agent_pb2.TaskReport(fence=fence, **body)]))

    async def _say(self, **body: Any) -> None:
        await self._stream.write(agent_pb2.AgentMessage(**body))


def dag_of(**tasks: int) -> Dag:
    """So many tasks of each type, without estimates."""
    return Dag().extend(
        [Task(id=f"{name}-{at}", type=name) for name, count in tasks.items() for at in range(count)]
    )


async def leader_of(client: AsyncClient, addresses: Mapping[str, str]) -> tuple[str, Wire]:
    """The leader's id, and stubs to it."""
    leader = (await client.cluster_status()).leader
    return leader, Wire(addresses[leader])


async def test_a_new_leader_knows_how_long_tasks_last(start_cluster: StartCluster) -> None:
    """Nobody says what to expect. The new leader sees no task end: what it knows the old one has learned."""
    cluster = start_cluster(nodes=3, settings={"scheduling.policy": "balanced"})
    addresses = {node.id: node.grpc for node in cluster.nodes.values()}
    agents = {name: ByHand(name) for name in TOOK_S}
    async with AsyncClient(cluster.endpoints) as client:
        former, wire = await leader_of(client, addresses)
        for agent in agents.values():
            await agent.meet(wire)
        taught = await client.submit(dag_of(long=8, brief=8))
        await asyncio.gather(*(agent.complete(8) for agent in agents.values()))
        assert (await client.wait(taught, WAIT_S)).state == "COMPLETED"

        cluster.kill_node(former)
        await wire.channel.close()
        leader, wire = await leader_of(client, addresses)
        assert leader != former
        for agent in agents.values():
            await agent.meet(wire)
        dag_id = await client.submit(dag_of(long=2, brief=3))
        await agents["long"].begin()

        async def waits() -> float | None:
            for task in [task async for task in client.tasks(dag_id, states=["READY"])]:
                said = (await client.explain(dag_id, task.id)).summary
                found = re.search(r"waits for agent agent-long, .* ended in ([0-9.]+) s", said)
                if found is not None:
                    return float(found[1])
            return None

        async def queued() -> bool:
            return len([task async for task in client.tasks(dag_id, states=["ASSIGNED"])]) == 3

        # A hundred seconds for the one that runs, a hundred for itself; a guess is a second for each.
        assert 150 < await eventually(waits, "the second long task waits for its agent") < 260
        # What is known not to last queues behind another; what is only guessed does not.
        assert await eventually(queued, "all brief tasks are queued on their agent")
        await wire.channel.close()
