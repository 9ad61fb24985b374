"""Submissions of a client that goes on submitting share a stream (G1): what goes on it, what a failure on it
means, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from agent_sdk import AsyncClient, Dag, Task, errors
from agent_sdk._submit import AWAITED_AT_ONCE, STREAMED_BYTES, STREAMED_TASKS
from quorumflow_proto.v1 import client_pb2, common_pb2
from tests.sdk.conftest import NewNode
from tests.sdk.scripted import END, STAY, Node, not_leader, refusal

SUBMITTED = client_pb2.SubmitDagReply(dag_id="d1", revision=5, tasks=1)
COMPLETED = client_pb2.GetDagReply(
    dag=common_pb2.DagView(dag_id="d1", state=common_pb2.DAG_STATE_COMPLETED), revision=7
)
ENDED = client_pb2.DagSubmissionReply(done=SUBMITTED, end=COMPLETED)


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


async def test_a_dag_that_is_run_comes_back_with_its_end_in_one_message_each_way(node: Node) -> None:
    node.script.on("SubmitDag", ENDED)
    async with AsyncClient(node.address) as client:
        status = await client.run(dag())
    assert (status.dag_id, status.state, status.revision) == ("d1", "COMPLETED", 7)
    assert (len(node.script.streamed), node.script.waits_ms) == (1, [10_000])
    assert not node.script.calls["GetDag"]


@pytest.mark.parametrize("large", [dag(STREAMED_TASKS + 1), dag()], ids=["large", "no end in time"])
async def test_what_has_no_end_yet_is_waited_for(node: Node, large: Dag) -> None:
    node.script.on("SubmitDag", SUBMITTED)
    node.script.on("GetDag", COMPLETED)
    async with AsyncClient(node.address) as client:
        assert (await client.run(large, request_id="r")).state == "COMPLETED"
    assert [asked.request_id for asked in node.script.calls["SubmitDag"]] == ["r"]
    assert [asked.dag_id for asked in node.script.calls["GetDag"]] == ["d1"]


async def test_a_dag_is_run_by_calls_where_there_is_no_stream() -> None:
    older = Node(older=True)
    await older.start()
    try:
        older.script.on("SubmitDag", SUBMITTED)
        older.script.on("GetDag", COMPLETED)
        async with AsyncClient(older.address) as client:
            assert (await client.run(dag())).state == "COMPLETED"
    finally:
        await older.stop()


async def test_a_run_outlives_its_stream_under_the_same_request(node: Node) -> None:
    node.script.on("SubmitDag", END, ENDED)
    async with AsyncClient(node.address) as client:
        assert (await client.run(dag())).state == "COMPLETED"
    assert len({asked.request_id for asked in node.script.streamed}) == 1
    assert len(node.script.streamed) == 2


async def test_a_run_that_takes_longer_than_one_has_time_for_says_which(node: Node) -> None:
    node.script.on("SubmitDag", STAY)
    async with AsyncClient(node.address) as client:
        with pytest.raises(errors.DeadlineExceeded, match="'mine' has not ended within"):
            await client.run(dag(), 0.05, request_id="mine")


async def test_of_very_many_that_run_at_once_some_are_waited_for_by_calls(node: Node) -> None:
    node.script.on("SubmitDag", *[STAY] * AWAITED_AT_ONCE, SUBMITTED)
    node.script.on("GetDag", COMPLETED)
    async with AsyncClient(node.address) as client, asyncio.TaskGroup() as group:
        running = [group.create_task(client.run(dag())) for _ in range(AWAITED_AT_ONCE + 1)]
        assert (await running[-1]).state == "COMPLETED"
        assert node.script.waits_ms.count(0) == 1
        for task in running:
            task.cancel()
