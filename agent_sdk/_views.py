"""From the wire to the records of `agent_sdk.types`."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from agent_sdk import types
from quorumflow_proto.v1 import client_pb2, common_pb2, operator_pb2


class Labelled(Protocol):
    """A reply that says which state was read, and how old it may be."""

    @property
    def revision(self) -> int:
        """Log index up to which the state had been applied."""

    @property
    def stale(self) -> bool:
        """Whether a newer state may exist."""

    @property
    def age_ms(self) -> int:
        """How long ago it held all that was committed; -1: not known."""


def task_state(number: common_pb2.TaskState.ValueType) -> str:
    """ "COMPLETED" for TASK_STATE_COMPLETED."""
    return common_pb2.TaskState.Name(number).removeprefix("TASK_STATE_")


def dag_state(number: common_pb2.DagState.ValueType) -> str:
    """ "COMPLETED" for DAG_STATE_COMPLETED."""
    return common_pb2.DagState.Name(number).removeprefix("DAG_STATE_")


def _outcome(number: common_pb2.AttemptOutcome.ValueType) -> str:
    if number == common_pb2.ATTEMPT_OUTCOME_UNSPECIFIED:
        return "LIVE"
    return common_pb2.AttemptOutcome.Name(number).removeprefix("ATTEMPT_OUTCOME_")


def _counts(view: common_pb2.TaskCounts) -> dict[str, int]:
    return {descriptor.name.upper(): count for descriptor, count in view.ListFields()}


def dag(view: common_pb2.DagView, reply: Labelled) -> types.DagStatus:
    """A DAG, as the reply that holds it says that it was read."""
    return types.DagStatus(
        dag_id=view.dag_id,
        name=view.name,
        namespace=view.namespace,
        state=dag_state(view.state),
        tasks=_counts(view.counts),
        created_ms=view.created_ms,
        finished_ms=view.finished_ms,
        reason=view.reason,
        labels=dict(view.labels),
        metadata=dict(view.metadata),
        revision=reply.revision,
        stale=reply.stale,
        age_ms=reply.age_ms,
    )


def task(view: common_pb2.TaskView, reply: Labelled) -> types.TaskStatus:
    """A task with its attempts, as the reply that holds it says that it was read."""
    return types.TaskStatus(
        dag_id=view.dag_id,
        id=view.id,
        index=view.index,
        type=view.type,
        state=task_state(view.state),
        attempts=tuple(_attempt(attempt) for attempt in view.attempts),
        depends_on=tuple(view.depends_on),
        progress=view.progress,
        ready_ms=view.ready_ms,
        ended_ms=view.ended_ms,
        not_before_ms=view.not_before_ms,
        reason=view.reason,
        parent_id=view.parent_id,
        has_result=view.has_result,
        revision=reply.revision,
        stale=reply.stale,
        age_ms=reply.age_ms,
    )


def _attempt(view: common_pb2.AttemptView) -> types.AttemptStatus:
    return types.AttemptStatus(
        attempt=view.attempt,
        agent=view.agent_id,
        outcome=_outcome(view.outcome),
        assigned_ms=view.assigned_ms,
        started_ms=view.started_ms,
        ended_ms=view.ended_ms,
        reason=view.reason,
    )


def result(dag_id: str, task_id: str, reply: client_pb2.GetResultReply) -> types.TaskResult:
    """What a task left."""
    return types.TaskResult(
        dag_id,
        task_id,
        task_state(reply.state),
        reply.result,
        reply.reference,
        reply.error,
        revision=reply.revision,
        stale=reply.stale,
        age_ms=reply.age_ms,
    )


def explanation(reply: client_pb2.ExplainTaskReply) -> types.Explanation:
    """Why a task is where it is."""
    return types.Explanation(
        state=task_state(reply.state),
        summary=reply.summary,
        waiting_for=tuple(reply.waiting_for),
        refusals=tuple(
            types.Refusal(one.reason, one.agents, one.example_agent, one.detail) for one in reply.refusals
        ),
        agents_total=reply.agents_total,
        agents_feasible=reply.agents_feasible,
        near_misses=tuple(types.NearMiss(one.agent_id, one.reason, one.detail) for one in reply.near_misses),
        groups=tuple(
            types.AgentGroup(one.name, one.agents, one.capable, one.feasible, dict(one.refused))
            for one in reply.groups
        ),
        unblocked_by=tuple(reply.unblocked_by),
        impossible_since_ms=reply.impossible_since_ms,
        assignments=tuple(_assignment(one) for one in reply.assignments),
    )


def _assignment(view: client_pb2.AssignmentView) -> types.Assignment:
    return types.Assignment(
        attempt=view.attempt,
        agent_id=view.agent_id,
        at_ms=view.at_ms,
        recorded=view.recorded,
        policy=view.policy,
        unit=view.unit,
        how=view.how,
        considered=view.considered,
        expected_s=view.expected_s,
        low_s=view.low_s,
        high_s=view.high_s,
        actual_s=view.actual_s,
        candidates=tuple(
            types.Candidate(
                one.agent_id,
                one.cost,
                tuple(types.CostTerm(term.name, term.weight, term.value, term.product) for term in one.terms),
                one.lost,
            )
            for one in view.candidates
        ),
        reserved=view.reserved,
    )


def decision(term: int, view: operator_pb2.DecisionView) -> types.Decision | None:
    """None for a kind that this SDK does not know."""
    match view.WhichOneof("what"):
        case "round":
            made = view.round
            facts: dict[str, object] = {
                "waiting": made.waiting,
                "placed": made.placed,
                "kept": made.kept,
                "unplaced": dict(made.unplaced),
                "duration_us": made.duration_us,
                "batch": made.batch,
                "policy": made.policy,
            }
        case "adaptation":
            change = view.adaptation
            facts = {
                "parameter": change.parameter,
                "before": change.before,
                "after": change.after,
                "because": change.because,
            }
        case "move":
            move = view.move
            facts = {
                "what": move.what,
                "dag_id": move.dag_id,
                "task_id": move.task_id,
                "attempt": move.attempt,
                "agent_id": move.agent_id,
                "because": move.because,
            }
        case _:
            return None
    return types.Decision(term, view.number, view.at_ms, view.WhichOneof("what") or "", facts)


def event(wire: client_pb2.Event) -> types.Event | None:
    """None for a kind of change that this SDK does not know."""
    kind = wire.WhichOneof("change")
    if kind == "task":
        change = wire.task
        return types.TaskEvent(
            wire.revision,
            wire.at_ms,
            change.dag_id,
            change.task_id,
            task_state(change.state),
            change.attempt,
            change.agent_id,
            change.reason,
        )
    if kind == "dag":
        return types.DagEvent(wire.revision, wire.at_ms, wire.dag.dag_id, dag_state(wire.dag.state))
    if kind == "agent":
        return types.AgentEvent(wire.revision, wire.at_ms, wire.agent.agent_id, wire.agent.state)
    return None


def node(view: operator_pb2.NodeView) -> types.NodeStatus:
    """A node as the leader sees it."""
    return types.NodeStatus(
        id=view.id,
        role=view.role,
        grpc_address=view.grpc_address,
        raft_address=view.raft_address,
        applied_index=view.applied_index,
        last_log_index=view.last_log_index,
        digest=view.digest,
        draining=view.draining,
        version=view.version,
        free_bytes=view.free_bytes,
        low_on_space=view.low_on_space,
        refuses_work=view.refuses_work,
        kind=view.kind,
        lag=view.lag,
        differs_at=view.differs_at,
    )


def node_itself(reply: operator_pb2.NodeStatusReply) -> types.NodeStatus:
    """A node as it sees itself."""
    return dataclasses.replace(
        node(reply.node),
        term=reply.term,
        commit_index=reply.commit_index,
        leader=reply.leader_id,
        leader_address=reply.leader_address,
        cluster_id=reply.cluster_id,
        counters=dict(reply.counters),
    )


def cluster(reply: operator_pb2.ClusterStatusReply) -> types.ClusterStatus:
    """The cluster as its leader sees it."""
    return types.ClusterStatus(
        cluster_id=reply.cluster_id,
        leader=reply.leader_id,
        leader_address=reply.leader_address,
        term=reply.term,
        commit_index=reply.commit_index,
        nodes=tuple(node(view) for view in reply.nodes),
        tasks=_counts(reply.tasks),
        unfinished_dags=reply.unfinished_dags,
        agents=reply.agents,
    )


def forecast(view: operator_pb2.ForecastView) -> types.Forecast:
    """A forecast."""
    return types.Forecast(
        agent_id=view.agent_id,
        series=view.series,
        horizon=view.horizon,
        ahead_s=view.ahead_s,
        target_ms=view.target_ms,
        model=view.model,
        value=view.value,
        low=view.low,
        high=view.high,
        now=view.now,
        scored=view.scored,
        error=view.error,
        naive_error=view.naive_error,
        outcomes=tuple(
            types.ForecastOutcome(one.target_ms, one.forecast, one.naive, one.actual) for one in view.outcomes
        ),
    )


def group(view: operator_pb2.GroupSummary) -> types.GroupStatus:
    """A group of agents."""
    return types.GroupStatus(
        name=view.name,
        agents=view.agents,
        accepting=view.accepting,
        slots=view.slots,
        held=view.held,
        held_s=view.held_s,
        load_score=view.load_score,
        free_slots=view.free_slots,
        wait_s=view.wait_s if view.HasField("wait_s") else None,
        speed=view.speed,
        busy_watts=view.busy_watts,
        free={
            "milli_cores": view.free.milli_cores,
            "memory_bytes": view.free.memory_bytes,
            "gpu_memory_bytes": view.free.gpu_memory_bytes,
            "disk_bytes": view.free.disk_bytes,
            "bandwidth_bps": view.free.bandwidth_bps,
        },
    )


def agent(view: operator_pb2.AgentView) -> types.AgentStatus:
    """An agent."""
    return types.AgentStatus(
        agent_id=view.agent_id,
        state=view.state,
        session_epoch=view.session_epoch,
        slots=view.slots,
        credit=view.credit,
        held=view.held,
        running=view.running,
        completed=view.completed,
        failed=view.failed,
        task_types=tuple(view.task_types),
        capabilities={one.name: one.level for one in view.capabilities},
        labels=dict(view.labels),
        zone=view.zone,
        cpu=view.cpu,
        memory=view.memory,
        since_ms=view.since_ms,
        speed=view.speed,
        busy_watts=view.busy_watts,
        tool_limits=dict(view.tool_limits),
        model_limits=dict(view.model_limits),
        data=tuple(view.data),
        groups=tuple(view.groups),
        load_score=view.load_score,
        overloaded=view.overloaded,
        network=view.network,
        gpu=view.gpu,
    )
