"""Why a task is where it is, in the wire's words."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.core.lifecycle import TERMINAL
from coordinator.core.model import Attempt, Dag, Task, TaskState
from coordinator.scheduling.explain import Explanation
from coordinator.scheduling.plans.assignments import Assignment
from quorumflow_proto.v1 import client_pb2, common_pb2


def explanation_to_proto(
    dag: Dag,
    task: Task,
    placement: Explanation | None,
    assignments: Sequence[Assignment] = (),
    now_ms: int = 0,
) -> client_pb2.ExplainTaskReply:
    """The answer to "why is my task not running?" and "why this agent?" (E10). `placement` is the scheduler's
    view of a waiting task, `assignments` that of the agents that have it, or had it last."""
    waiting_for = [
        dag.tasks[index].id for index in task.depends if dag.tasks[index].state is not TaskState.COMPLETED
    ]
    reply = client_pb2.ExplainTaskReply(
        state=common_pb2.TaskState.ValueType(task.state),
        summary=_summary(task, waiting_for, placement),
        waiting_for=waiting_for,
        assignments=[_assignment(task, one, now_ms) for one in assignments],
    )
    if placement is not None:
        _add_placement(reply, task, placement)
    return reply


def _add_placement(reply: client_pb2.ExplainTaskReply, task: Task, placement: Explanation) -> None:
    reply.agents_total = placement.agents
    reply.agents_feasible = placement.feasible
    for refusal in placement.refusals:
        reply.refusals.add(
            reason=refusal.reason,
            agents=refusal.agents,
            example_agent=refusal.example,
            detail=refusal.detail,
        )
    for miss in placement.near_misses:
        reply.near_misses.add(agent_id=miss.agent, reason=miss.reason, detail=miss.detail)
    for group in placement.groups:
        reply.groups.add(
            name=group.name,
            agents=group.agents,
            capable=group.capable,
            feasible=group.feasible,
            refused=group.refused,
        )
    reply.unblocked_by.extend(placement.unblocked_by)
    if placement.impossible:
        reply.impossible_since_ms = max(task.ready_ms, round(placement.lost_s * 1_000))


def _assignment(task: Task, one: Assignment, now_ms: int) -> client_pb2.AssignmentView:
    view = client_pb2.AssignmentView(
        attempt=one.attempt,
        agent_id=one.agent,
        at_ms=round(one.at_s * 1_000),
        recorded=one.recorded,
        policy=one.policy,
        unit=one.unit,
        how=one.how,
        considered=one.considered,
        expected_s=one.expected_s,
        low_s=one.low_s,
        high_s=one.high_s,
        reserved=one.reserved,
    )
    made = next((attempt for attempt in task.attempts if attempt.number == one.attempt), None)
    if made is not None and made.started_ms:
        view.actual_s = ((made.ended_ms or now_ms) - made.started_ms) / 1_000
    for candidate in one.candidates:
        shown = view.candidates.add(agent_id=candidate.agent, cost=candidate.cost, lost=candidate.lost)
        for part in candidate.parts:
            shown.terms.add(name=part.name, weight=part.weight, value=part.value, product=part.product)
    return view


def _whereabouts(attempt: Attempt) -> str:
    verb = "runs" if attempt.started_ms else "is queued"
    return f"attempt {attempt.number} {verb} on agent {attempt.agent}"


def _summary(task: Task, waiting_for: list[str], placement: Explanation | None) -> str:
    if task.state in TERMINAL:
        return f"it has ended as {task.state.name}" + (f": {task.reason}" if task.reason else "")
    if live := task.live:
        return ", and ".join(_whereabouts(attempt) for attempt in live)
    if waiting_for:
        return f"it waits for {len(waiting_for)} of its {len(task.depends)} predecessors"
    if task.state is TaskState.PENDING:
        return f"attempt {task.attempt + 1} begins after a delay; the one before ended with: {task.reason}"
    return placement.summary if placement is not None else "it is about to be placed"
