"""What placement has decided, in the wire's words."""

from __future__ import annotations

from typing import Final

from coordinator.replica.decisions import Decisions
from coordinator.scheduling.decision_log import Adapted, Logged, Moved, RoundMade
from quorumflow_proto.v1 import operator_pb2 as pb

MAX_WAIT_MS: Final = 10_000
"""For which a call waits for something new."""


async def page_of(
    decisions: Decisions, request: pb.ListDecisionsRequest, term: int, size: int
) -> pb.ListDecisionsReply:
    """The entries after that which the request names; waits for one as long as it says."""
    after = request.after if request.term == term else 0
    found = decisions.after(after, size)
    if not found and request.wait_ms:
        await decisions.news(after, min(request.wait_ms, MAX_WAIT_MS) / 1_000)
        found = decisions.after(after, size)
    return pb.ListDecisionsReply(term=term, decisions=[_to_proto(one) for one in found], last=decisions.last)


def _to_proto(one: Logged) -> pb.DecisionView:
    view = pb.DecisionView(number=one.number, at_ms=one.at_ms)
    match one.what:
        case RoundMade() as made:
            view.round.CopyFrom(
                pb.RoundView(
                    waiting=made.waiting,
                    placed=made.placed,
                    kept=made.kept,
                    unplaced=made.unplaced,
                    duration_us=made.duration_us,
                    batch=made.batch,
                    policy=made.policy,
                )
            )
        case Adapted() as adapted:
            view.adaptation.CopyFrom(
                pb.AdaptationView(
                    parameter=adapted.parameter,
                    before=adapted.before,
                    after=adapted.after,
                    because=adapted.because,
                )
            )
        case Moved() as moved:
            view.move.CopyFrom(
                pb.MoveView(
                    what=moved.what,
                    dag_id=moved.dag_id,
                    task_id=moved.task_id,
                    attempt=moved.attempt,
                    agent_id=moved.agent,
                    because=moved.because,
                )
            )
    return view
