"""The end of a DAG, answered with its submission: who waits for it anyway need not ask again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coordinator.api import convert
from coordinator.core.model import Dag
from coordinator.core.outcome import Submitted
from coordinator.replica.endings import NOT_KNOWN
from coordinator.replica.node import Node
from quorumflow_proto.v1 import client_pb2 as pb

LONGEST_WAIT_S: Final = 10.0
"""Nobody waits longer for the end of a DAG before it is told that it goes on."""


class EndOfDag:
    """A `call_streams.Sequel`: the answer to a submission waits until its DAG has ended, and for so long at
    most. Then, and where this node may not know, it says no more than that the DAG is recorded."""

    def __init__(self, node: Node, wait_ms: int) -> None:
        self._node = node
        self._wait_s = min(wait_ms / 1_000, LONGEST_WAIT_S)
        self._leave: Callable[[], None] | None = None
        self._dag: Dag | None = None
        self._revision = NOT_KNOWN

    def begin(self, submitted: Submitted, over: Callable[[], None]) -> None:
        """As `Sequel.begin`."""
        self._submitted = submitted
        applier = self._node.applier
        self._dag = applier.newest.dags.get(submitted.number)
        if self._dag is None or self._node.leadership.leader is None:
            over()
            return

        def told(revision: int) -> None:
            self._revision = revision
            over()

        self._leave = applier.endings.listen(submitted.number, self._wait_s, told)

    def leave(self) -> None:
        """As `Sequel.leave`."""
        if self._leave is not None:
            self._leave()

    def answer(self, call: int) -> pb.DagSubmissionReply:
        """As `Sequel.answer`."""
        reply = pb.DagSubmissionReply(call=call, done=submitted_to_proto(self._submitted))
        if self._dag is not None and self._revision != NOT_KNOWN:
            # The entry that ended it was committed after the submission: this is a linearizable read.
            view = convert.dag_to_proto(self._dag.record, self._dag.counts)
            reply.end.CopyFrom(pb.GetDagReply(dag=view, revision=self._revision))
        return reply


def submitted_to_proto(reply: Submitted) -> pb.SubmitDagReply:
    """What a submission is answered with once it is recorded."""
    return pb.SubmitDagReply(dag_id=reply.dag_id, revision=reply.revision, tasks=reply.tasks)
