"""Why a task is where it is, in the wire's words."""

from __future__ import annotations

from coordinator.core.lifecycle import TERMINAL
from coordinator.core.model import Attempt, Dag, Task, TaskState
from coordinator.scheduling.explain import Explanation
from quorumflow_proto.v1 import client_pb2, common_pb2


def explanation_to_proto(dag: Dag, task: Task, placement: Explanation | None) -> client_pb2.ExplainTaskReply:
    """The answer to "why is my task not running?" (E10). `placement` is the scheduler's view of a waiting
    task."""
    waiting_for = [
        dag.tasks[index].id for index in task.depends if dag.tasks[index].state is not TaskState.COMPLETED
    ]
    reply = client_pb2.ExplainTaskReply(
        state=common_pb2.TaskState.ValueType(task.state),
        summary=_summary(task, waiting_for, placement),
        waiting_for=waiting_for,
    )
    if placement is not None:
        reply.agents_total = placement.agents
        reply.agents_feasible = placement.feasible
        for refusal in placement.refusals:
            reply.refusals.add(
                reason=refusal.reason,
                agents=refusal.agents,
                example_agent=refusal.example,
                detail=refusal.detail,
            )
    return reply


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
