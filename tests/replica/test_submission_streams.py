"""The node's side of a stream of submissions (G1, A6): each is judged and answered as a call of its own,
whatever is wrong with those around it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from coordinator.api import convert, submissions
from coordinator.api.client_service import ClientService
from coordinator.api.ends import EndOfDag
from coordinator.api.malformed import Malformed
from coordinator.api.watching import Watching
from coordinator.core.commands import CancelDag
from coordinator.core.model import DagState
from coordinator.core.outcome import DagChanged
from coordinator.replica.endings import Endings, Told
from coordinator.replica.node import Node
from quorumflow_proto.v1 import client_pb2 as pb
from quorumflow_proto.v1 import common_pb2
from tests.replica.nodes import Nodes

WAIT_MS = 60_000
SERVING = "the stream"


class Context:
    """The node's end of a stream, whose client says what it asks for."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[object] = asyncio.Queue()
        self.replies: list[pb.DagSubmissionReply] = []

    def ask(self, *asked: pb.DagSubmission) -> None:
        """Send submissions in one message."""
        self.messages.put_nowait(pb.DagSubmissions(submissions=asked))

    async def read(self) -> object:
        return await self.messages.get()

    async def write(self, message: pb.DagSubmissionReplies) -> None:
        self.replies.extend(message.replies)

    @property
    def ends(self) -> dict[int, str]:
        """Of the DAGs that were waited for and have ended, their states by call."""
        name = common_pb2.DagState.Name
        return {reply.call: name(reply.end.dag.state) for reply in self.replies if reply.HasField("end")}

    @property
    def reasons(self) -> dict[int, str]:
        """Of the refusals, by call; empty for what was done."""
        return {reply.call: reply.error.detail.reason for reply in self.replies}


def submission(
    call: int, *tasks: common_pb2.TaskSpec, request_id: str | None = None, wait_ms: int = 0
) -> pb.DagSubmission:
    request = pb.SubmitDagRequest(
        request_id=f"r{call}" if request_id is None else request_id,
        dag=common_pb2.DagSpec(tasks=tasks or [common_pb2.TaskSpec(id="t", type="noop")]),
    )
    return pb.DagSubmission(call=call, request=request, wait_ms=wait_ms)


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[Nodes, Node, Context]]:
    """A stream to a node that leads."""
    nodes, context = Nodes(folder, 1), Context()
    await nodes.start()
    try:
        node = nodes.nodes[await nodes.led()]
        service: Any = ClientService(node, Watching(node))
        serving = asyncio.create_task(service.SubmitDags(None, context), name=SERVING)
        yield nodes, node, context
        serving.cancel()
        await asyncio.wait({serving})
    finally:
        await nodes.stop()


async def test_each_is_recorded_once_and_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as (nodes, node, context):
        context.ask(submission(1), submission(2), submission(3, request_id="r1"))
        await nodes.until(lambda: len(context.replies) == 3, "all are answered")
        assert [reply.call for reply in context.replies] == [1, 2, 3]
        assert [reply.done.dag_id for reply in context.replies] == ["dag-r1", "dag-r2", "dag-r1"]
        assert {dag.record.header.dag_id for dag in node.applier.state.dags.values()} == {"dag-r1", "dag-r2"}


async def test_what_is_wrong_with_one_is_no_matter_of_the_others(tmp_path: Path) -> None:
    noop = common_pb2.TaskSpec(id="t", type="noop")
    circle = [
        common_pb2.TaskSpec(id="a", type="noop", depends_on=["b"]),
        common_pb2.TaskSpec(id="b", type="noop", depends_on=["a"]),
    ]
    many = [common_pb2.TaskSpec(id=f"t{at}", type="noop") for at in range(501)]
    large = common_pb2.TaskSpec(id="t", type="noop", payload=bytes(256 << 10))
    async with served(tmp_path) as (nodes, _, context):
        context.ask(
            submission(1, *circle),
            submission(2, *many),
            submission(3, large),
            submission(4, request_id=""),
            submission(5, noop),
        )
        await nodes.until(lambda: len(context.replies) == 5, "all are answered")
        assert context.reasons == {
            1: "DAG_CYCLE",
            2: "INVALID_REQUEST",
            3: "INVALID_REQUEST",
            4: "INVALID_REQUEST",
            5: "",
        }


async def test_a_message_that_is_none_is_refused_call_by_call(tmp_path: Path) -> None:
    async with served(tmp_path) as (nodes, _, context):
        data = pb.DagSubmissions(submissions=[submission(1), submission(2)]).SerializeToString()
        context.messages.put_nowait(Malformed("SubmitDags", "not UTF-8", data))
        context.ask(submission(3))
        await nodes.until(lambda: len(context.replies) == 3, "all are answered")
        assert context.reasons == {1: "INVALID_REQUEST", 2: "INVALID_REQUEST", 3: ""}


async def test_a_defect_is_of_the_submission_that_met_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = submissions.build

    def fails_once(*of: Any) -> Any:
        monkeypatch.setattr(submissions, "build", build)
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(submissions, "build", fails_once)
    async with served(tmp_path) as (nodes, _, context):
        context.ask(submission(1), submission(2))
        await nodes.until(lambda: len(context.replies) == 2, "all are answered")
        assert context.reasons == {1: "INTERNAL", 2: ""}
        assert "a defect" in context.replies[0].error.detail.message


async def test_who_waits_for_an_end_is_answered_with_it_and_holds_nobody_up(tmp_path: Path) -> None:
    async with served(tmp_path) as (nodes, node, context):
        context.ask(submission(1, wait_ms=WAIT_MS), submission(2), submission(3, wait_ms=WAIT_MS))
        await nodes.until(lambda: len(context.replies) == 1, "the one that nobody waits for is answered")
        assert [reply.call for reply in context.replies] == [2]
        ended = await node.propose(CancelDag("c", "dag-r3", "enough"), DagChanged)
        context.ask(submission(4))
        await nodes.until(lambda: len(context.replies) == 3, "so are an end, and what came after it")
        assert (context.ends, ended.state) == ({3: "DAG_STATE_CANCELLED"}, DagState.CANCELLED)
        reply = next(reply for reply in context.replies if reply.call == 3)
        assert reply.done.dag_id == reply.end.dag.dag_id == "dag-r3"
        read = await node.read_end("dag-r3", 1.0, allow_stale=False)
        assert read is None, "it has ended before"
        record, counts = node.queries.dag_record("dag-r3")
        assert reply.end.dag == convert.dag_to_proto(record, counts)
        assert reply.end.revision == record.revision


async def test_a_read_of_an_end_is_no_older_than_the_end(tmp_path: Path) -> None:
    """It is told before it is stored."""
    async with served(tmp_path) as (nodes, node, context):
        context.ask(submission(1))
        await nodes.until(lambda: len(context.replies) == 1, "it is recorded")
        reading = asyncio.create_task(node.read_end("dag-r1", 60.0, allow_stale=False))
        await asyncio.sleep(0)
        await node.propose(CancelDag("c", "dag-r1", ""), DagChanged)
        read = await reading
        assert read is not None
        record, _ = node.queries.dag_record("dag-r1")
        assert (record.state, read.revision) == (DagState.CANCELLED, record.revision)


async def test_who_has_waited_long_enough_learns_that_the_dag_is_recorded(tmp_path: Path) -> None:
    async with served(tmp_path) as (nodes, _, context):
        context.ask(submission(1, wait_ms=1))
        await nodes.until(lambda: len(context.replies) == 1, "it is answered")
        assert context.replies[0].done.dag_id == "dag-r1"
        assert not context.replies[0].HasField("end")


async def test_who_asks_again_after_the_end_is_answered_at_once(tmp_path: Path) -> None:
    """As a client does whose stream broke meanwhile."""
    async with served(tmp_path) as (nodes, node, context):
        context.ask(submission(1))
        await nodes.until(lambda: len(context.replies) == 1, "it is recorded")
        await node.propose(CancelDag("c", "dag-r1", ""), DagChanged)
        context.ask(submission(2, request_id="r1", wait_ms=WAIT_MS))
        await nodes.until(lambda: len(context.replies) == 2, "so it is said again")
        assert (context.replies[1].done.dag_id, context.ends) == ("dag-r1", {})


async def test_who_waits_at_a_node_that_leaves_is_answered_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as (nodes, node, context):
        context.ask(submission(1, wait_ms=WAIT_MS), submission(2))
        await nodes.until(lambda: len(context.replies) == 1, "one is recorded")
        await node.leave()
        await nodes.until(lambda: len(context.replies) == 2, "so is the other, and that is all it learns")
        assert (context.ends, context.reasons[1]) == ({}, "")
        assert context.replies[1].done.dag_id == "dag-r1"


async def test_a_stream_that_is_gone_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    listen = Endings.listen

    def noting(self: Endings, number: int, timeout_s: float, _: Told) -> Callable[[], None]:
        return listen(self, number, timeout_s, told.append)

    monkeypatch.setattr(Endings, "listen", noting)
    async with served(tmp_path) as (nodes, node, context):
        context.ask(submission(1, wait_ms=WAIT_MS), submission(2, wait_ms=WAIT_MS), submission(3))
        await nodes.until(lambda: len(context.replies) == 1, "one is recorded")
        await node.propose(CancelDag("c1", "dag-r1", ""), DagChanged)
        serving = next(task for task in asyncio.all_tasks() if task.get_name() == SERVING)
        serving.cancel()
        await asyncio.wait({serving})
        await node.propose(CancelDag("c2", "dag-r2", ""), DagChanged)
    assert len(told) == 1


async def test_a_client_that_sends_no_more_gets_the_end_that_it_waits_for(tmp_path: Path) -> None:
    async with served(tmp_path) as (nodes, node, context):
        context.ask(submission(1, wait_ms=WAIT_MS), submission(2))
        context.messages.put_nowait(grpc.aio.EOF)
        await nodes.until(lambda: len(context.replies) == 1, "one is recorded")
        await node.propose(CancelDag("c", "dag-r1", ""), DagChanged)
        await nodes.until(lambda: len(context.replies) == 2, "the other has ended")
        assert context.ends == {1: "DAG_STATE_CANCELLED"}


async def test_who_was_answered_is_not_kept_until_garbage_is_collected(tmp_path: Path) -> None:
    async with served(tmp_path) as (nodes, node, context):
        context.ask(submission(1, wait_ms=WAIT_MS), submission(2, wait_ms=1), submission(3))
        await nodes.until(lambda: len(context.replies) == 2, "two are answered")
        await node.propose(CancelDag("c", "dag-r1", ""), DagChanged)
        await nodes.until(lambda: len(context.replies) == 3, "so is the one that has ended")
        await asyncio.sleep(0)
        assert not [one for one in gc.get_objects() if isinstance(one, EndOfDag)]
