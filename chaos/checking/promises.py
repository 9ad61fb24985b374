"""What must hold after a drill. Pure: records in, verdicts out.

About tasks, three witnesses are held against each other: the cluster's own record (`dags`, `tasks`, `nodes`),
the events that it told (`endings`, `lost_agents`), and what the agents wrote down as they did it (`effects`).
About the key-value space, its clients' histories are the witness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from agent_sdk import AttemptStatus, DagStatus, NodeStatus, TaskStatus
from chaos.checking.history import Operation, Outcome
from chaos.checking.linearizability import Model, State, Verdict, judge
from chaos.effects import Effects

_SHOWN: Final = 5
"""Names in a finding; the rest is counted."""

_NO_RESTART: Final = frozenset({"COMPLETED", "SUPERSEDED", "PREEMPTED"})
"""How an attempt that had begun may end without that it is begun again for nothing."""


class Check(NamedTuple):
    """One promise: whether it held, and what was found."""

    promise: str
    held: bool
    found: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the checkers look at. `acknowledged` gives the number of tasks of each DAG that a client was told
    to be accepted; `endings` how often each (DAG id, task id) was told to have ended; `watch_problem` why
    not all events were seen, if so; `watch_gaps` how often some were missed that could not be kept."""

    acknowledged: Mapping[str, int]
    dags: Mapping[str, DagStatus]
    tasks: Sequence[TaskStatus]
    nodes: Sequence[NodeStatus]
    endings: Mapping[tuple[str, str], int]
    lost_agents: frozenset[str]
    watch_problem: str
    watch_gaps: int = 0
    effects: Effects


def check_all(evidence: Evidence) -> list[Check]:
    """Every promise."""
    return [
        all_completed(evidence),
        effects_present(evidence),
        recorded_once(evidence),
        not_restarted(evidence),
        replicas_agree(evidence),
    ]


def all_completed(evidence: Evidence) -> Check:
    """Every acknowledged DAG is there, whole, and COMPLETED."""
    missing = [dag_id for dag_id in evidence.acknowledged if dag_id not in evidence.dags]
    unfinished = [
        f"{dag_id} {dag.state}"
        for dag_id, dag in evidence.dags.items()
        if dag.state != "COMPLETED" or dag.tasks != {"COMPLETED": evidence.acknowledged.get(dag_id)}
    ]
    total = sum(evidence.acknowledged.values())
    found = _first("missing", missing) or _first("not completed", unfinished) or f"{total} tasks"
    return Check("every acknowledged task is COMPLETED", not missing and not unfinished, found)


def effects_present(evidence: Evidence) -> Check:
    """The attempt that is recorded as COMPLETED is one that an agent did."""
    missing = [
        _name(task)
        for task in evidence.tasks
        if not any(
            (attempt.attempt, attempt.agent) in evidence.effects.ended.get((task.dag_id, task.id), ())
            for attempt in task.attempts
            if attempt.outcome == "COMPLETED"
        )
    ]
    return Check("no task's effect is missing", not missing, _first("missing", missing) or "all there")


def recorded_once(evidence: Evidence) -> Check:
    """One terminal event, and one attempt that COMPLETED, for each task; at most one where events may have
    been missed."""
    right = (0, 1) if evidence.watch_gaps else (1,)
    wrong = [
        _name(task)
        for task in evidence.tasks
        if evidence.endings.get((task.dag_id, task.id), 0) not in right
        or sum(attempt.outcome == "COMPLETED" for attempt in task.attempts) != 1
    ]
    missed = f", events missed {evidence.watch_gaps} times" if evidence.watch_gaps else ""
    results = f"{len(evidence.tasks)} results{missed}"
    found = evidence.watch_problem or _first("not once", wrong) or results
    return Check("every result is recorded exactly once", not wrong and not evidence.watch_problem, found)


def not_restarted(evidence: Evidence) -> Check:
    """A task that had begun is begun again only if its agent was lost: missed by the cluster, or back as
    another process before it was; or as a rival, beside the attempt that had begun; or if it was taken away:
    preempted, or recalled before the cluster knew that it had begun."""
    lost = evidence.lost_agents | evidence.effects.reborn
    repeated = [task for task in evidence.tasks if _begun(evidence, task) > 1]
    restarted = [
        _name(task)
        for task in repeated
        if any(
            attempt.outcome not in _NO_RESTART and attempt.agent not in lost and not _recalled(attempt)
            for attempt in task.attempts
            if (attempt.attempt, attempt.agent) in evidence.effects.begun.get((task.dag_id, task.id), ())
        )
    ]
    moved = sum(len(task.attempts) > 1 for task in evidence.tasks) - len(repeated)
    counts = f"{len(repeated)} begun again after a lost agent, {moved} given to another before they began"
    return Check("no running task was restarted", not restarted, _first("restarted", restarted) or counts)


def replicas_agree(evidence: Evidence) -> Check:
    """All nodes stand at the same entry with the same digest of the state."""
    found = ", ".join(
        f"{node.id} at {node.applied_index}: {node.digest[:8] or node.role}" for node in evidence.nodes
    )
    states = {(node.applied_index, node.digest) for node in evidence.nodes}
    return Check("all nodes hold the same state", len(states) == 1, found)


def in_time(what: str, durations_ms: Sequence[int], limit_ms: int) -> Check:
    """No duration is above the limit."""
    worst = max(durations_ms, default=0)
    return Check(f"{what} within {limit_ms} ms each time", worst <= limit_ms, f"{worst} ms at the worst")


def linearizable(what: str, history: Sequence[Operation], model: Model[State]) -> Check:
    """Some order of the clients' operations explains all that they saw. A history that could not be
    decided, or in which nothing succeeded, is no pass."""
    judgements = judge(history, model)
    wrong = [judgement for judgement in judgements if judgement.verdict is not Verdict.LINEARIZABLE]
    outcomes = Counter(operation.outcome for operation in history)
    counts = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in Outcome)
    found = str(wrong[0]) if wrong else f"{len(history)} operations on {len(judgements)} keys: {counts}"
    return Check(f"{what} are linearizable", not wrong and outcomes[Outcome.OK] > 0, found)


def versions_grow(history: Iterable[Operation]) -> Check:
    """No two writes of registers were given the same version, and one that began after another had ended a
    higher one, whatever their keys."""
    puts = [
        (operation, operation.result)
        for operation in history
        if operation.name == "put" and isinstance(operation.result, int)
    ]
    times = Counter(version for _, version in puts)
    wrong = [f"{version} given {often} times" for version, often in times.items() if often > 1]
    ended = sorted(puts, key=lambda put: put[0].completed)
    newest = position = 0
    for put, version in sorted(puts, key=lambda put: put[0].invoked):
        while ended[position][0].completed < put.invoked:
            newest = max(newest, ended[position][1])
            position += 1
        if version < newest:
            wrong.append(f"{version} given after {newest} to {put}")
    return Check("versions grow", not wrong, _first("versions", wrong) or f"{len(puts)} writes")


def diverged(sightings: Iterable[NodeStatus]) -> int | None:
    """The first applied index at which two nodes were seen with different digests; None if there is none."""
    digests: dict[int, str] = {}
    wrong = [
        node.applied_index
        for node in sightings
        if digests.setdefault(node.applied_index, node.digest) != node.digest
    ]
    return min(wrong, default=None)


def _begun(evidence: Evidence, task: TaskStatus) -> int:
    return len(evidence.effects.begun.get((task.dag_id, task.id), ()))


def _recalled(attempt: AttemptStatus) -> bool:
    return attempt.outcome == "RESCHEDULED" and not attempt.started_ms


def _name(task: TaskStatus) -> str:
    return f"{task.dag_id}/{task.id}"


def _first(what: str, names: Sequence[str]) -> str:
    """`what` with the first names, and how many there are; empty if there are none."""
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(names[:_SHOWN])}{more}"
