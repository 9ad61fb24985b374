"""Submission of a DAG: in one message while it is small, in parts beyond that. The small ones of a client
that goes on submitting share a stream, on which the end of a DAG may be waited for too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agent_sdk._call_streams import CallStreams, Kind
from agent_sdk._channels import Node
from agent_sdk.errors import Unsupported
from quorumflow_proto.v1 import client_pb2, common_pb2

STREAMED_TASKS: Final = 64
"""Of the DAGs that go on a stream: it should not be held up by any of them,"""
STREAMED_BYTES: Final = 32 << 10
"""nor by what such a DAG takes."""
AWAITED_AT_ONCE: Final = 250
"""DAGs whose ends are waited for on a stream: a node has less room for others the more of them there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitSettings:
    """A DAG of more tasks or bytes than this is sent in parts, each within the same bounds (a single task may
    be larger, up to the server's message limit)."""

    tasks_per_message: int = 1_000
    bytes_per_message: int = 1 << 20


class Submission:
    """One DAG on its way, under one request id. `send` may be repeated."""

    def __init__(self, spec: common_pb2.DagSpec, request_id: str, settings: SubmitSettings) -> None:
        self._spec = spec
        self.request_id = request_id
        self._settings = settings
        self._streamed = (
            len(spec.tasks) > settings.tasks_per_message or spec.ByteSize() > settings.bytes_per_message
        )

    @property
    def small(self) -> bool:
        """Whether it may go on a stream with others."""
        return len(self._spec.tasks) <= STREAMED_TASKS and self._spec.ByteSize() <= STREAMED_BYTES

    def request(self) -> client_pb2.SubmitDagRequest:
        """All of it in one message."""
        return client_pb2.SubmitDagRequest(request_id=self.request_id, dag=self._spec)

    async def send(self, node: Node, timeout_s: float) -> client_pb2.SubmitDagReply:
        """One try at one node."""
        if self._streamed:
            return await node.client.SubmitDagStream(self.parts(), timeout=timeout_s)
        return await node.client.SubmitDag(self.request(), timeout=timeout_s)

    def parts(self) -> Iterator[client_pb2.SubmitDagPart]:
        """The header with the first tasks, then the other tasks in their order."""
        tasks = self._spec.tasks
        part = client_pb2.SubmitDagPart(request_id=self.request_id, header=self._header())
        first, size = 0, part.ByteSize()
        for at, task in enumerate(tasks):
            task_size = task.ByteSize()
            full = at - first == self._settings.tasks_per_message
            if at > first and (full or size + task_size > self._settings.bytes_per_message):
                part.tasks.extend(tasks[first:at])
                yield part
                part, first, size = client_pb2.SubmitDagPart(), at, 0
            size += task_size
        part.tasks.extend(tasks[first:])
        yield part

    def _header(self) -> common_pb2.DagSpec:
        spec = self._spec
        return common_pb2.DagSpec(
            dag_id=spec.dag_id,
            namespace=spec.namespace,
            name=spec.name,
            labels=spec.labels,
            metadata=spec.metadata,
            failure_policy=spec.failure_policy,
            priority=spec.priority,
            deadline_ms=spec.deadline_ms,
            policy=spec.policy,
        )


class Submitting:
    """The submissions of one client. Its first is a call, as many submit no other; small ones that follow
    share a stream, where a node has it, and so does whatever is waited for."""

    def __init__(self) -> None:
        self._streams = CallStreams(_SUBMISSIONS)
        self._first = ""
        """The request id of the first."""
        self._streamless: set[str] = set()
        """Addresses of nodes that do not know of such a stream."""
        self._awaited = 0

    async def send(self, submission: Submission, node: Node, timeout_s: float) -> client_pb2.SubmitDagReply:
        """One try at one node. Raises as the call."""
        self._first = self._first or submission.request_id
        if submission.request_id == self._first:
            return await submission.send(node, timeout_s)
        return (await self._stream(submission, node, timeout_s, 0.0)).done

    async def run(
        self, submission: Submission, node: Node, timeout_s: float, wait_s: float
    ) -> client_pb2.DagSubmissionReply:
        """The same, and wait for the end, for so long at most; the reply may have none though it has come."""
        if self._awaited >= AWAITED_AT_ONCE:
            wait_s = 0.0
        self._awaited += 1
        try:
            return await self._stream(submission, node, timeout_s, wait_s)
        finally:
            self._awaited -= 1

    async def _stream(
        self, submission: Submission, node: Node, timeout_s: float, wait_s: float
    ) -> client_pb2.DagSubmissionReply:
        """On the stream, if it may go there."""
        if submission.small and node.address not in self._streamless:
            request, wait_ms = submission.request(), round(wait_s * 1_000)
            asked = client_pb2.DagSubmission(request=request, wait_ms=wait_ms)
            try:
                return await self._streams.ask(node, asked, timeout_s)
            except Unsupported:
                self._streamless.add(node.address)
        return client_pb2.DagSubmissionReply(done=await submission.send(node, timeout_s))

    async def close(self) -> None:
        """Submit nothing more; whoever waits for an answer is told."""
        await self._streams.close()


async def _alone(node: Node, asked: client_pb2.DagSubmission, left_s: float) -> client_pb2.DagSubmissionReply:
    return client_pb2.DagSubmissionReply(done=await node.client.SubmitDag(asked.request, timeout=left_s))


def _replies(message: client_pb2.DagSubmissionReplies) -> Sequence[client_pb2.DagSubmissionReply]:
    return message.replies


_SUBMISSIONS: Final = Kind[client_pb2.DagSubmission, client_pb2.DagSubmissionReply](
    what="submissions",
    open=lambda node: node.client.SubmitDags(),
    message=lambda submissions: client_pb2.DagSubmissions(submissions=submissions),
    replies=_replies,
    alone=_alone,
)
