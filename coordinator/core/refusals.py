"""Refusals that several appliers share."""

from __future__ import annotations

from coordinator.core.keyspace import KvEntry
from coordinator.core.model import Dag, Task
from coordinator.core.outcome import Refusal
from coordinator.core.reservations import ReservationRecord
from coordinator.core.state import State


def not_found(what: str, name: str) -> Refusal:
    """Nothing of this name is known, or its retention has ended."""
    return Refusal("NOT_FOUND", f"{what} {name!r} does not exist, or is no longer kept", {"name": name})


def stale_session(agent: str, epoch: int, current: int) -> Refusal:
    """A report or request of a session that another one has superseded."""
    return Refusal(
        "STALE_FENCE",
        f"session {epoch} of agent {agent!r} is over; the current one is {current}",
        {"agent": agent, "epoch": str(epoch), "current": str(current)},
    )


def stale_version(
    what: str, name: str, expect: int | None, known: KvEntry | ReservationRecord | None
) -> Refusal | None:
    """Whether what is known under a name is not at the version that was expected of it, 0 if nothing is; None
    expects nothing."""
    current = 0 if known is None else known.version
    if expect is None or expect == current:
        return None
    found = f"at version {current}" if current else "not there"
    wanted = f"version {expect}" if expect else f"no such {what}"
    return Refusal(
        "STALE_VERSION",
        f"{what} {shown(name)} is {found}, and {wanted} was expected; read it again",
        {what: name, "expected": str(expect), "current": str(current)},
    )


def shown(name: str) -> str:
    """A name as messages show it: they travel in headers, which are short."""
    return repr(name if len(name) <= 64 else f"{name[:61]}...")


def duplicate_task(task_id: str) -> Refusal:
    """An added task carries an id that its DAG has already."""
    return Refusal("DUPLICATE_TASK_ID", f"the DAG has a task {task_id!r} already", {"task_id": task_id})


def beyond_quota(state: State, namespace: str, tasks: int) -> Refusal | None:
    """Whether so many tasks more are too many for their namespace."""
    limit = state.namespaces.quotas(namespace).tasks
    usage = state.namespaces.usage.get(namespace)
    present = 0 if usage is None else usage.tasks
    if limit is None or present + tasks <= limit:
        return None
    return Refusal(
        "QUOTA_EXCEEDED",
        f"namespace {namespace!r} has {present} unfinished tasks of at most {limit}, and {tasks} more were "
        "to come; retry when some have ended, or have its quota raised",
        {"namespace": namespace, "quota": "tasks", "value": str(present), "limit": str(limit)},
    )


def wrong_task_state(dag: Dag, task: Task, wanted: str) -> Refusal:
    """The task's state does not allow what was asked."""
    return Refusal(
        "WRONG_STATE",
        f"task {task.id!r} of DAG {dag.record.header.dag_id!r} is {task.state.name}; {wanted}",
        {"dag_id": dag.record.header.dag_id, "task_id": task.id, "state": task.state.name},
    )
