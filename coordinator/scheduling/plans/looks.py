"""How agents stand for a task of a plan by cost, for a `Witness`, or at any other time."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np

from coordinator.core.model import Task
from coordinator.scheduling.agents.feasibility import needs_of
from coordinator.scheduling.agents.ledger import Ledger
from coordinator.scheduling.agents.rows import BoolRow
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.terms import total
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.assignments import SECONDS, SHARES, Assignment, How, Look, Witness
from coordinator.scheduling.plans.bulk import Places
from coordinator.scheduling.plans.lane import NOWHERE, Lane
from coordinator.scheduling.plans.round import Round, Spare
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.graphs import AT_ONCE, Arrivals
from coordinator.scheduling.tasks.waiting import NOBODY_ELSE, WaitingTask

_ANYWHERE: Final = How("the cheapest of all, busy or not", "")
_OPEN: Final = How("the cheapest that has room", "it has no slot free")
_TOGETHER: Final = How(
    "the cheapest with a free slot, of many tasks at once", "its slots have gone to others"
)
_LEVEL: Final = How("so that queues are level, of many brief tasks at once", "it takes no more now")
_SCHEDULED: Final = How("it begins now in the best schedule found of all that is left", "")
_NOW: Final = How("the cheapest of all that could take it", "")


class Here(NamedTuple):
    """An attempt of a task, and what its client expects of it."""

    key: int
    attempt: int
    hint: int


def look_at_lane(
    around: Round,
    lane: Lane,
    task: WaitingTask,
    work_s: float,
    arrivals: Arrivals,
    previous: int,
    anywhere: bool,
    brief: bool,
) -> Look:
    """At a task that goes alone: `anywhere` if it may keep a place, else only where there is room."""
    within = around.ledger.accepting
    if not anywhere:
        within = around.open & around.ledger.slot_free
        if brief:
            within |= around.open & around.ledger.queue_free(work_s)
    how = _ANYWHERE if anywhere else _OPEN
    return _look(lane, task, (work_s, arrivals, previous), within, how)


def look_at_class(around: Round, lane: Lane, task: WaitingTask, work_s: float, places: Places | None) -> Look:
    """At the first of many tasks that go together, to these places; None: to slots and queues, as brief ones
    do."""
    within = around.open.copy() if places is None else places.left()
    return _look(lane, task, (work_s, AT_ONCE, NOWHERE), within, _LEVEL if places is None else _TOGETHER)


def look_at_schedule(around: Round, lane: Lane, task: WaitingTask, work_s: float) -> Look:
    """At a task that goes where a schedule of all that is left has it."""
    return _look(lane, task, (work_s, AT_ONCE, NOWHERE), around.ledger.accepting, _SCHEDULED)


def would_go(
    snapshot: Snapshot, policy: Policy | Simple, name: str, task: Task, attempt: int, row: int, now_s: float
) -> Assignment:
    """How it would be decided now that this attempt of the task goes to this row, where the agent may hold it
    already: it is looked at as if it did not."""
    profile, graph = task.profile, snapshot.graphs.of(task.key)
    held = snapshot.agents.held_attempts[row].get((task.key, attempt))
    task_s = snapshot.work_s(profile, task.key, task.hint)
    here = Here(task.key, attempt, task.hint)
    if isinstance(policy, Policy):
        policy = policy if graph is None else snapshot.policy_for(graph.owner, policy)
        spares = {row: Spare(task.key, attempt, 0.0)} if held is not None else {}
        around = Round(snapshot, policy.weights, now_s, spares)
        ledger, unit = around.ledger, SECONDS
        if held is not None:
            around.set_free(row, held.seconds)
        owner = NOBODY_ELSE if graph is None else graph.owner
        barrier = around.barrier(owner, profile, task.key, task.hint)
        lane = Lane(profile, policy, around, snapshot.prices.renew(), len(ledger.slots), task_s, barrier)
        asked = task_s, snapshot.graphs.arrivals(task.key, snapshot.agents, {}), NOWHERE
        look = _look(lane, here, asked, ledger.accepting, _NOW)
    else:
        ledger, unit = Ledger(snapshot.agents, snapshot.look_ahead), SHARES
        if held is not None:
            ledger.held[row] -= 1
        capable = snapshot.feasible.rows(needs_of(profile), snapshot.agents)
        terms = policy(ledger, snapshot.turn).terms(profile, np.arange(len(capable)))
        costs = np.where(capable, total(terms), np.inf)
        considered = int(np.count_nonzero(capable))
        look = Look(profile, *here, terms, costs, ledger.accepting, considered, _NOW, task_s)
    witness = Witness(name, now_s, 1, unit, recorded=False)
    witness.keep(look, row, snapshot, ledger)
    found = witness.taken[0]
    if graph is None:
        return found
    itself = -1 if snapshot.reserved.counts(task.key, attempt) else 0
    slot = snapshot.reserved.slot_for(graph.owner.namespace, row, now_s, itself)
    return msgspec.structs.replace(found, reserved=slot)


def _look(
    lane: Lane, task: WaitingTask | Here, asked: tuple[float, Arrivals, int], within: BoolRow, how: How
) -> Look:
    """`asked` is what the cost of the task depends on, as in `Lane.terms`."""
    terms, barred = lane.terms(*asked), lane.barred(asked[0])
    return Look(
        lane.profile,
        task.key,
        task.attempt,
        task.hint,
        terms,
        np.where(lane.capable, total(terms), np.inf),
        within & ~barred,
        int(np.count_nonzero(lane.capable)),
        how,
        asked[0],
        lane.policy.name,
        barred,
    )
