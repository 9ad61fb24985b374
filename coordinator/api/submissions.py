"""Submissions: from the wire to one command or several, each by a call of its own or many on a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from coordinator import errors
from coordinator.api import convert
from coordinator.api.call_streams import Calls, Taken
from coordinator.api.ends import EndOfDag, submitted_to_proto
from coordinator.api.malformed import Malformed
from coordinator.core.commands import StageDag, SubmitDag
from coordinator.core.model import DagHeader
from coordinator.core.outcome import Submitted
from coordinator.dag.builder import BuiltDag, build, split
from coordinator.dag.profiles import Checked
from coordinator.replica.admission import part_id
from coordinator.replica.node import Node
from coordinator.scheduling.costs.policies import check_of_work
from quorumflow_proto.v1 import client_pb2 as pb
from quorumflow_proto.v1 import common_pb2

_BUILD_INLINE_TASKS: Final = 500
"""Larger DAGs are validated in a thread, so that the event loop is not held; on a stream, where they would
hold up those behind them, they are refused,"""
_STREAMED_BYTES: Final = 256 << 10
"""and so is what takes more bytes."""

_STAGE_TASKS: Final = 5_000
"""Tasks per log entry of a submission in parts."""

_STAGE_BYTES: Final = 1 << 20
"""And about so many bytes: an entry must not hold up those behind it."""


class Submissions:
    """Those to one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._limits = node.config.limits
        self._checked = Checked()

    async def submit(
        self, request_id: str, header: DagHeader, specs: Sequence[common_pb2.TaskSpec]
    ) -> pb.SubmitDagReply:
        """Check the DAG and have it recorded. Raises errors of the tree."""
        self._admit(request_id, header, len(specs))
        if len(specs) <= _BUILD_INLINE_TASKS:
            built = self._build(header, specs)
        else:
            built = await asyncio.to_thread(self._build, header, specs)
        if len(built.block.ids) <= _STAGE_TASKS and _size(built) < self._limits.max_message_bytes // 4:
            return submitted_to_proto(await self._node.propose(_whole(request_id, built), Submitted))
        return submitted_to_proto(await self._stage(request_id, built))

    def small(self, request: pb.SubmitDagRequest) -> SubmitDag:
        """The command that submits a small DAG. Raises errors of the tree."""
        specs, size = request.dag.tasks, request.ByteSize()
        if len(specs) > _BUILD_INLINE_TASKS or size > _STREAMED_BYTES:
            raise errors.InvalidRequest(
                f"a DAG of {len(specs)} tasks and {size} bytes is too large for a stream of submissions, "
                f"which takes {_BUILD_INLINE_TASKS} tasks and {_STREAMED_BYTES} bytes: use SubmitDag",
                limit=_STREAMED_BYTES,
            )
        header = convert.header_from_proto(request.dag)
        self._admit(request.request_id, header, len(specs))
        return _whole(request.request_id, self._build(header, specs))

    def _admit(self, request_id: str, header: DagHeader, tasks: int) -> None:
        if not request_id:
            raise errors.InvalidRequest("a submission needs a request_id, so that a retry of it is safe")
        if not header.dag_id:
            # The same on every retry, whichever node takes it.
            header.dag_id = f"dag-{request_id}"
        check_of_work(header.policy, self._node.plugins.policies)
        self._node.admission.admit(request_id, tasks, header.namespace)

    async def _stage(self, request_id: str, built: BuiltDag) -> Submitted:
        """In parts, each remembered by itself: a retry after a lost leader goes on where the first try
        stopped."""
        part_bytes = min(_STAGE_BYTES, self._limits.max_message_bytes // 4)
        blocks = split(built, max_tasks=_STAGE_TASKS, max_bytes=part_bytes)
        profiles = built.profiles
        for block in blocks[:-1]:
            part = part_id(request_id, block.first)
            await self._node.propose(StageDag(part, built.header, profiles, block, last=False), Submitted)
            profiles = []
        last = StageDag(request_id, built.header, profiles, blocks[-1], last=True)
        return await self._node.propose(last, Submitted)

    def _build(self, header: DagHeader, specs: Sequence[common_pb2.TaskSpec]) -> BuiltDag:
        """Perhaps in a thread, beside others."""
        stages = self._node.stages
        began_s = stages.timer()
        draft = convert.draft_from_proto(header, specs)
        parsed_s = stages.timer()
        built = build(draft, self._limits, self._node.plugins.families, self._checked)
        stages["parse"].took(parsed_s - began_s)
        stages["validate"].took(stages.timer() - parsed_s)
        return built


def submissions_on(node: Node, submissions: Submissions) -> Calls[pb.DagSubmission, pb.DagSubmissionReply]:
    """Submissions of small DAGs on a stream to this node."""

    async def propose(request: pb.DagSubmission) -> Taken:
        await node.leadership.serving()
        # Who waits for the end of the DAG will not come back before.
        recorded = await node.submit(submissions.small(request.request), asked=not request.wait_ms)
        return Taken(recorded, Submitted, EndOfDag(node, request.wait_ms) if request.wait_ms else None)

    return Calls(
        requests=lambda message: message.submissions if isinstance(message, pb.DagSubmissions) else None,
        calls_of=_calls_of,
        propose=propose,
        answer=lambda call, reply: pb.DagSubmissionReply(call=call, done=submitted_to_proto(reply)),
        refusal=lambda call, error: pb.DagSubmissionReply(call=call, error=error),
        message=lambda answers: pb.DagSubmissionReplies(replies=answers),
    )


def _calls_of(message: Malformed) -> list[int]:
    try:
        found = pb.DagSubmissionCalls.FromString(message.data).submissions
    except DecodeError:
        return []
    return [one.call for one in found if one.call]


def _whole(request_id: str, built: BuiltDag) -> SubmitDag:
    return SubmitDag(request_id, built.header, built.profiles, built.block)


def _size(built: BuiltDag) -> int:
    """About how many bytes the DAG takes in the log."""
    return sum(map(len, built.block.payloads)) + sum(map(len, built.block.ids)) + 8 * len(built.block.ids)
