"""W1u: tasks that are submitted one by one, many calls at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from agent_sdk import AsyncClient
from bench.puts import channel
from bench.workloads import no_ops
from coordinator.cli.local_cluster import LocalCluster
from quorumflow_proto.v1 import client_pb2, client_pb2_grpc, common_pb2

AT_ONCE: Final = 100
_TIMEOUT_S: Final = 120.0
_FINAL: Final = frozenset(
    {common_pb2.DAG_STATE_COMPLETED, common_pb2.DAG_STATE_FAILED, common_pb2.DAG_STATE_CANCELLED}
)


async def single_calls(cluster: LocalCluster, tasks: int) -> float:
    """Tasks per second from the first call until all ends are known, from one watch of all DAGs."""
    leader = cluster.nodes[cluster.leader()].grpc
    async with AsyncClient(cluster.endpoints) as client, asyncio.timeout(_TIMEOUT_S):
        first = await client.wait(await client.submit(no_ops("first", 1)))
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(_ends(leader, first.revision + 1, tasks))
            calls = iter(range(tasks))
            for _ in range(AT_ONCE):
                group.create_task(_submit(client, calls))
        return tasks / (time.perf_counter() - began)


async def _submit(client: AsyncClient, calls: Iterator[int]) -> None:
    """One call after the other, until others have made all that are left."""
    for _ in calls:
        await client.submit(no_ops("w1u", 1))


async def _ends(leader: str, from_revision: int, count: int) -> None:
    """Return when so many DAGs have ended since a revision. Raises RuntimeError if one did not complete."""
    ended = 0
    request = client_pb2.WatchRequest(from_revision=from_revision, dags_only=True)
    async with channel(leader) as opened:
        watch = client_pb2_grpc.ClientServiceStub(opened).Watch(request)
        try:
            async for reply in watch:
                states = [event.dag.state for event in reply.events if event.dag.state in _FINAL]
                if any(state != common_pb2.DAG_STATE_COMPLETED for state in states):
                    raise RuntimeError("a task of the benchmark did not complete")
                ended += len(states)
                if ended >= count:
                    return
        finally:
            watch.cancel()
    raise RuntimeError(f"the leader ended the watch after {ended} of {count} ends")
