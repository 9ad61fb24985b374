"""Submissions of a client that goes on submitting share a stream (G1): what goes on it, what a failure on it
means, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from agent_sdk import AsyncClient, Dag, Task, errors
from agent_sdk._submit import STREAMED_BYTES, STREAMED_TASKS
from quorumflow_proto.v1 import client_pb2
from tests.sdk.conftest import NewNode
from tests.sdk.scripted import END, STAY, Node, not_leader, refusal

SUBMITTED = client_pb2.SubmitDagReply(dag_id="d1", revision=5, tasks=1)


def dag(tasks: int = 1, payload: bytes = b"") -> Dag:
    return Dag(name="d").extend(Task(f"t{at}", "noop", payload=payload) for at in range(tasks))


@pytest.fixture
async def client(node: Node) -> AsyncIterator[AsyncClient]:
    """One that has made its first submission."""
    node.script.on("SubmitDag", SUBMITTED)
    async with AsyncClient(node.address, timeout_s=15.0) as open_client:
        await open_client.submit(dag())
        node.script.forget("SubmitDag")
        yield open_client


async def test_the_first_submission_is_a_call_and_those_after_it_share_a_stream(
    node: Node, client: AsyncClient
) -> None:
    assert node.script.submission_streams == []
    submitted = await asyncio.gather(*(client.submit(dag()) for _ in range(10)))
    assert submitted == ["d1"] * 10
    assert len({asked.request_id for asked in node.script.streamed}) == 10
    assert len(node.script.submission_streams) == 1


@pytest.mark.parametrize(
    "large", [dag(STREAMED_TASKS + 1), dag(payload=bytes(STREAMED_BYTES))], ids=["tasks", "bytes"]
)
async def test_what_would_hold_up_others_is_a_call(node: Node, client: AsyncClient, large: Dag) -> None:
    await client.submit(large)
    await client.submit(dag(STREAMED_TASKS))
    assert [len(asked.dag.tasks) for asked in node.script.streamed] == [STREAMED_TASKS]


async def test_a_refusal_is_that_of_a_call(node: Node, client: AsyncClient) -> None:
    node.script.on("SubmitDag", refusal(grpc.StatusCode.INVALID_ARGUMENT, "DAG_CYCLE", fields={"a": "b"}))
    assert await client.submit(dag()) == "d1"
    with pytest.raises(errors.DagCycle, match="said DAG_CYCLE") as raised:
        await client.submit(dag())
    assert raised.value.fields == {"a": "b"}
    assert not node.script.submission_streams[0].is_set()


async def test_a_stream_that_breaks_is_opened_anew_with_the_same_request(
    node: Node, client: AsyncClient
) -> None:
    node.script.on("SubmitDag", END, END, SUBMITTED)
    await client.submit(dag())
    node.script.streamed.clear()
    assert await client.submit(dag()) == "d1"
    assert len(node.script.streamed) == 3
    assert len({asked.request_id for asked in node.script.streamed}) == 1
    assert len(node.script.submission_streams) == 3


async def test_it_follows_the_leader(node: Node, client: AsyncClient, new_node: NewNode) -> None:
    new = await new_node()
    new.script.on("SubmitDag", SUBMITTED)
    node.script.on("SubmitDag", not_leader(new.address))
    await client.submit(dag())
    assert await client.submit(dag()) == "d1"
    assert len(new.script.streamed) == 1
    async with asyncio.timeout(10):
        await node.script.submission_streams[0].wait()


async def test_a_node_that_has_no_such_stream_gets_calls() -> None:
    older = Node(older=True)
    await older.start()
    try:
        older.script.on("SubmitDag", SUBMITTED)
        async with AsyncClient(older.address) as client:
            for _ in range(3):
                assert await client.submit(dag()) == "d1"
        assert len(older.script.calls["SubmitDag"]) == 3
    finally:
        await older.stop()


async def test_who_waits_for_an_answer_is_told_that_the_client_is_closed(
    node: Node, client: AsyncClient
) -> None:
    node.script.on("SubmitDag", STAY)
    await client.submit(dag())
    node.script.forget("SubmitDag")
    waiting = asyncio.create_task(client.submit(dag()))
    await node.script.called("SubmitDag")
    await client.close()
    with pytest.raises(errors.WrongState, match="closed"):
        await waiting
