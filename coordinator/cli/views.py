"""PURE: what the SDK reads, in the shapes that `coordctl --output json` prints. Scripts rely on the names."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from agent_sdk.types import (
    QUOTAS,
    AgentEvent,
    AgentStatus,
    Assignment,
    AttemptStatus,
    ClusterStatus,
    DagEvent,
    DagStatus,
    Decision,
    Event,
    Explanation,
    Forecast,
    GroupStatus,
    KvEvent,
    KvItem,
    MemberStatus,
    Namespace,
    NodeStatus,
    Reservation,
    TaskResult,
    TaskStatus,
)

View = dict[str, Any]


def ended(status: DagStatus) -> View:
    """What a wait ends with. `tasks` counts by state; `makespan_s` is null while it runs."""
    return {
        "dag_id": status.dag_id,
        "state": status.state,
        "tasks": dict(status.tasks),
        "makespan_s": status.makespan_s,
    }


def dag(status: DagStatus) -> View:
    """A DAG. Times in Unix ms, 0 for "not yet"."""
    return ended(status) | {
        "name": status.name,
        "namespace": status.namespace,
        "created_ms": status.created_ms,
        "finished_ms": status.finished_ms,
        "reason": status.reason,
    }


def freshness(status: DagStatus | TaskResult | KvItem) -> View:
    """Whether a newer state may exist, and how old the one read may be; `age_ms` -1: nobody knows."""
    return {"stale": status.stale, "age_ms": status.age_ms}


def dag_with_tasks(status: DagStatus, tasks: Iterable[TaskStatus]) -> View:
    """A DAG with its tasks one by one; the counts are under `counts` then."""
    view = dag(status)
    view["counts"] = view.pop("tasks")
    view["tasks"] = [task(one) for one in tasks]
    return view


def task(status: TaskStatus) -> View:
    """A task with its attempts."""
    return {
        "id": status.id,
        "state": status.state,
        "type": status.type,
        "attempts": [attempt(one) for one in status.attempts],
        "depends_on": list(status.depends_on),
        "progress": status.progress,
        "reason": status.reason,
    }


def attempt(status: AttemptStatus) -> View:
    """One try; its outcome is "LIVE" while an agent holds it. Times in Unix ms."""
    return {
        "attempt": status.attempt,
        "agent": status.agent,
        "outcome": status.outcome,
        "assigned_ms": status.assigned_ms,
        "started_ms": status.started_ms,
        "ended_ms": status.ended_ms,
        "reason": status.reason,
    }


def result(status: TaskResult) -> View:
    """What a task left: `result` as text, or `result_base64` where it is not UTF-8."""
    view: View = {"dag_id": status.dag_id, "task_id": status.task_id, "state": status.state}
    view |= _data("result", status.data)
    return view | {"reference": status.reference, "error": status.error}


def _data(name: str, data: bytes) -> View:
    """Bytes as text, or in base64 and under another name where they are not UTF-8."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def cluster(status: ClusterStatus) -> View:
    """The cluster as its leader sees it."""
    return {
        "cluster_id": status.cluster_id,
        "leader": status.leader,
        "leader_address": status.leader_address,
        "term": status.term,
        "commit_index": status.commit_index,
        "nodes": [node(one) for one in status.nodes],
        "agents": status.agents,
        "unfinished_dags": status.unfinished_dags,
        "tasks": dict(status.tasks),
    }


def node(status: NodeStatus) -> View:
    """A node; `digest` is that of its state at `applied_index`."""
    return {
        "id": status.id,
        "role": status.role,
        "kind": status.kind,
        "lag": status.lag,
        "grpc": status.grpc_address,
        "raft": status.raft_address,
        "applied_index": status.applied_index,
        "digest": status.digest,
        "draining": status.draining,
        "version": status.version,
        "alarms": alarms(status),
    }


def member(status: MemberStatus) -> View:
    """A member of the cluster; `lag` counts the entries that it lacks."""
    return {
        "id": status.id,
        "kind": status.kind,
        "leader": status.leader,
        "connected": status.connected,
        "lag": status.lag,
        "promote": status.promote,
        "raft": status.raft_address,
        "grpc": status.grpc_address,
        "incarnation": status.incarnation,
    }


def alarms(status: NodeStatus) -> list[str]:
    """What is wrong with a node, in words."""
    found = []
    if status.differs_at:
        found.append(f"its state differs from the leader's after entry {status.differs_at}")
    if status.low_on_space:
        free = f" ({status.free_bytes >> 20} MiB free)" if status.free_bytes else ""
        found.append(f"its disk is nearly full{free}")
    if status.refuses_work:
        found.append("it takes no new work")
    return found


def agent(status: AgentStatus) -> View:
    """An agent. `load`, `cpu`, `memory`, `network` and `gpu` are 0 to 1."""
    return {
        "id": status.agent_id,
        "state": status.state,
        "slots": status.slots,
        "held": status.held,
        "running": status.running,
        "completed": status.completed,
        "failed": status.failed,
        "capabilities": dict(status.capabilities),
        "labels": dict(status.labels),
        "task_types": list(status.task_types),
        "cpu": status.cpu,
        "memory": status.memory,
        "network": round(status.network, 3),
        "gpu": status.gpu,
        "load": round(status.load_score, 3),
        "overloaded": status.overloaded,
        "since_ms": status.since_ms,
        "speed": status.speed,
        "busy_watts": status.busy_watts,
        "tool_limits": dict(status.tool_limits),
        "model_limits": dict(status.model_limits),
        "data": list(status.data),
        "groups": list(status.groups),
    }


def group(status: GroupStatus) -> View:
    """A group of agents. `load` is 0 to 1; `wait_s` is null where nobody accepts tasks."""
    return {
        "group": status.name,
        "agents": status.agents,
        "accepting": status.accepting,
        "slots": status.slots,
        "free_slots": status.free_slots,
        "held": status.held,
        "held_s": round(status.held_s, 3),
        "load": round(status.load_score, 3),
        "wait_s": None if status.wait_s is None else round(status.wait_s, 3),
        "speed": status.speed,
        "busy_watts": status.busy_watts,
        "free": dict(status.free),
    }


def forecast(status: Forecast) -> View:
    """A forecast with the latest outcomes of those before it; errors are null before the first."""
    scored = status.scored > 0
    return {
        "agent": status.agent_id,
        "series": status.series,
        "horizon": status.horizon,
        "ahead_s": status.ahead_s,
        "target_ms": status.target_ms,
        "model": status.model,
        "now": status.now,
        "forecast": status.value,
        "low": status.low,
        "high": status.high,
        "scored": status.scored,
        "error": status.error if scored else None,
        "naive_error": status.naive_error if scored else None,
        "relative_error": status.relative_error if scored else None,
        "outcomes": [asdict(one) for one in status.outcomes],
    }


def namespace(status: Namespace) -> View:
    """A namespace; quotas that are not set are null."""
    return asdict(status) | {"quotas": {quota: status.quotas.get(quota) for quota in QUOTAS}}


def reservation(status: Reservation) -> View:
    """A reservation; times in Unix ms, 0 for "at once" and "for good", and slots null for all."""
    return asdict(status)


def explanation(dag_id: str, task_id: str, status: Explanation) -> View:
    """Why a task is where it is."""
    return {"dag_id": dag_id, "task_id": task_id, **asdict(status)}


def candidates(found: Assignment) -> list[View]:
    """The agents that were compared for an attempt, one a line: what adds to the cost of each, and why it
    lost."""
    return [
        {
            "attempt": found.attempt,
            "agent": one.agent_id,
            "cost": f"{one.cost:.4g} {found.unit}",
            "terms": {term.name: f"{term.weight:g}x{term.value:.4g}" for term in one.terms if term.product},
            "lost": one.lost,
        }
        for one in found.candidates
    ]


def assignment(found: Assignment) -> View:
    """An assignment, without the agents that were compared."""
    view = asdict(found)
    del view["candidates"]
    return view


def decision(found: Decision) -> View:
    """Something that placement decided; what `facts` there are depends on its `kind`."""
    return asdict(found)


def event(change: Event) -> View:
    """A change; `kind` is dag, task or agent."""
    kind = "dag" if isinstance(change, DagEvent) else "agent" if isinstance(change, AgentEvent) else "task"
    return {"kind": kind, **asdict(change)}


def key(item: KvItem) -> View:
    """A key with its value: `value` as text, or `value_base64` where it is not UTF-8."""
    return {"key": item.key, **_data("value", item.value), "version": item.version, "created": item.created}


def key_change(change: KvEvent) -> View:
    """A change of a key; without a value if it was deleted."""
    view: View = {"key": change.key, "version": change.version, "deleted": change.deleted}
    if not change.deleted:
        view |= _data("value", change.value)
    return view | {"created": change.created, "at_ms": change.at_ms}
