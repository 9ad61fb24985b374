"""The plan of a round: tasks in order of priority, deadline, readiness and key, each to the feasible agent of
lowest cost.

Greedy, without a loop over agents x tasks: tasks of a class are alike, so a class keeps a shortlist of its
cheapest agents, found with vector operations, as a heap. Costs only rise within a round: an agent that was
booked meanwhile is looked at again when it comes to the top, and the shortlist is made anew once its top is
dearer than what was left out. Free slots anywhere go before queues anywhere.

Where there are more tasks than free slots the order is exact. Where there is a slot for everybody, up to
`PlanLimits.run` tasks of a class go together before others of the same priority and deadline that became
ready earlier: it costs nobody anything, unless they compete for a rare agent, and saves most of the work.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from coordinator.core.commands import Choice
from coordinator.scheduling.agents.feasibility import blocked_by, fitting, needs_of
from coordinator.scheduling.agents.ledger import Ledger, demand_of
from coordinator.scheduling.agents.reserved import RESERVED
from coordinator.scheduling.agents.rows import BoolRow
from coordinator.scheduling.costs.objectives import PREVIOUS_PENALTY, LeastLoaded, Objective, drawn
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.terms import total
from coordinator.scheduling.plans.assignments import How, Look, Witness
from coordinator.scheduling.plans.claims import QUOTA, Claims
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.graphs import Expected
from coordinator.scheduling.tasks.waiting import TaskClass, WaitingTask

NOWHERE: Final = -1
_LEAST_SHORTLIST: Final = 8
_NOBODY: Final = (float("inf"), 0, 0)
_ALL: Final = How("the cheapest of all that have room", "it has no slot free")
_DRAWN: Final = How("the cheaper of two that were drawn", "it was not drawn")
_MANY_BOOKINGS: Final = 24
"""By other classes: from here on a new shortlist is cheaper than looking at its agents one by one."""


class PlanLimits(msgspec.Struct, frozen=True):
    """`max_choices` bounds a round, `shortlist` the agents that a class looks at before it asks again, `run`
    the tasks of a class that go together while slots abound."""

    max_choices: int = 1_000
    shortlist: int = 128
    run: int = 64


class Plan(msgspec.Struct, frozen=True):
    """What to propose, most urgent first. `considered` tasks waited; `unplaced` counts, by reason, those that
    no agent can take now (see `feasibility`); those that were left to the next round make up the rest. `turn`
    goes into the next snapshot once this plan is proposed. `withdrawn` are attempts (key, number) to preempt
    first: their agents are needed, and better attempts of the same tasks go on. `kept`
    are places that tasks, by key, will have."""

    choices: list[Choice]
    considered: int
    unplaced: dict[str, int]
    turn: int
    withdrawn: list[tuple[int, int]] = []
    kept: dict[int, Expected] = {}

    @property
    def placed(self) -> int:
        """Tasks that have an agent."""
        return len(self.choices)


def plan(
    snapshot: Snapshot,
    limits: PlanLimits,
    policy: Simple = LeastLoaded,
    now_s: float = 0.0,
    witness: Witness | None = None,
) -> Plan:
    """Place what waits by a simple policy. The same snapshot at the same time gives the same plan, with a
    witness or without."""
    ledger = Ledger(snapshot.agents, snapshot.look_ahead)
    objective = policy(ledger, snapshot.turn)
    classes = snapshot.waiting.classes.values()
    claims, witness = Claims(snapshot, now_s, snapshot.waiting.owners), witness or Witness()
    queues = [
        _ClassQueue(members, snapshot, ledger, objective, limits.shortlist, claims, witness, now_s)
        for members in classes
    ]
    heads = [(queue.head_rank(), at) for at, queue in enumerate(queues)]
    heapify(heads)
    considered = len(snapshot.waiting)
    abundant = ledger.free_slots() >= min(considered, limits.max_choices)
    choices: list[Choice] = []
    unplaced: dict[str, int] = {}
    while heads and len(choices) < limits.max_choices:
        queue = queues[heads[0][1]]
        if claims.counted and queue.head_rank() > heads[0][0]:
            # Its namespace has got something since it stood in line.
            heapreplace(heads, (queue.head_rank(), heads[0][1]))
            continue
        most = min(limits.run if abundant and not claims.counted else 1, limits.max_choices - len(choices))
        blocked = queue.place_run(most, choices)
        if blocked:
            unplaced[blocked] = unplaced.get(blocked, 0) + queue.left
        if blocked or not queue.left:
            heappop(heads)
        else:
            heapreplace(heads, (queue.head_rank(), heads[0][1]))
    turn = snapshot.agents.rows[choices[-1].agent] + 1 if choices else snapshot.turn
    return Plan(choices, considered, unplaced, turn % max(1, snapshot.agents.size))


class _ClassQueue:
    """The tasks of a class that are still to be placed, and its shortlist: a heap of (cost, row,
    bookings of that row when the cost was right)."""

    def __init__(
        self,
        members: TaskClass,
        snapshot: Snapshot,
        ledger: Ledger,
        objective: Objective,
        shortlist: int,
        claims: Claims,
        witness: Witness,
        now_s: float,
    ) -> None:
        self._members = members
        self._next = 0
        self._snapshot = snapshot
        self._ledger = ledger
        self._claims = claims
        self._objective = objective
        self._witness = witness
        self._demand = demand_of(members.profile)
        self._fitting = fitting(members.profile, snapshot.agents)
        self._feasible = snapshot.feasible.rows(needs_of(members.profile), snapshot.agents)
        first = members.tasks[0]
        self._barrier = snapshot.barrier(
            members.owner.namespace, members.profile, first.key, first.hint, now_s
        )
        self._heap: list[tuple[float, int, int]] = []
        self._longest = shortlist
        self._left_out = _NOBODY
        """Every agent that can take a task and is not on the shortlist comes after this."""
        self._queueing = False
        """No agent on the shortlist has a free slot."""
        self._bookings = 0
        """Made by all classes when this one had its last turn."""

    @property
    def left(self) -> int:
        """Tasks still to be placed."""
        return len(self._members.tasks) - self._next

    def head_rank(self) -> tuple[int, float, int, int, int]:
        """Where its next task stands among those of all classes."""
        members, task = self._members, self._members.tasks[self._next]
        level, deadline_ms = members.traits.level, members.traits.deadline_ms
        return level, self._claims.share(members.owner), deadline_ms, task.order_ms, task.key

    def place_run(self, most: int, choices: list[Choice]) -> str:
        """Place up to `most` tasks; returns why the next one could not be, "" if all could."""
        agents, tasks = self._snapshot.agents, self._members.tasks
        if self._ledger.bookings - self._bookings > _MANY_BOOKINGS:
            self._heap = []
        blocked = ""
        for task in tasks[self._next : self._next + most]:
            if self._claims.refused(self._members.owner, self._members.profile):
                blocked = QUOTA
                break
            task_s = self._snapshot.work_s(self._members.profile, task.key, task.hint)
            row = self._place(task, task_s)
            if row == NOWHERE:
                blocked = blocked_by(self._members.profile, task_s, self._ledger, self._feasible) or RESERVED
                break
            choices.append(Choice(task.key, task.attempt, agents.agent_id(row), agents.epochs.item(row)))
            self._claims.take(self._members.owner, self._members.profile)
            self._next += 1
        self._bookings = self._ledger.bookings
        return blocked

    def _place(self, task: WaitingTask, task_s: float) -> int:
        """Book the task on the agent of lowest cost; returns its row, or NOWHERE."""
        if self._objective.draws:
            row = self._cheapest_drawn(task, task_s)
            if row == NOWHERE:
                return NOWHERE
        elif (self._settle(task_s) and self._heap[0] <= self._left_out) or self._refill(task_s):
            row = self._heap[0][1]
            if task.previous and self._snapshot.agents.rows.get(task.previous) == row:
                row = self._other_than_top(task_s)
        else:
            return NOWHERE
        if self._witness.left:
            self._witness.keep(self._look(task, task_s), row, self._snapshot, self._ledger)
        self._ledger.book(row, self._demand, task_s)
        return row

    def _cheapest_drawn(self, task: WaitingTask, task_s: float) -> int:
        rows = self._drawn(task, task_s)
        return min(rows, key=lambda row: self._objective.cost(self._members.profile, row), default=NOWHERE)

    def _drawn(self, task: WaitingTask, task_s: float) -> list[int]:
        rows = self._with_room(task_s)
        return [rows.item(at) for at in drawn(task.key, task.attempt, len(rows), self._objective.draws)]

    def _look(self, task: WaitingTask, task_s: float) -> Look:
        profile, within = self._members.profile, np.zeros_like(self._feasible)
        draws = self._objective.draws
        within[self._drawn(task, task_s) if draws else self._with_room(task_s)] = True
        terms = self._objective.terms(profile, np.arange(len(within)))
        return Look(
            profile,
            task.key,
            task.attempt,
            task.hint,
            terms,
            np.where(self._feasible, total(terms), np.inf),
            within,
            int(np.count_nonzero(self._feasible)),
            _DRAWN if draws else _ALL,
            task_s,
            barred=None if self._barrier is None else self._barred(np.arange(len(within)), task_s),
        )

    def _other_than_top(self, task_s: float) -> int:
        """The row that comes after that of the failed attempt, unless it costs so much more that going back
        is better."""
        top = heappop(self._heap)
        if not (self._settle(task_s) and self._heap[0] <= self._left_out):
            self._refill(task_s)
            top = heappop(self._heap)
        better = self._heap and self._heap[0][0] <= top[0] + PREVIOUS_PENALTY
        row = self._heap[0][1] if better else top[1]
        heappush(self._heap, top)
        return row

    def _settle(self, task_s: float) -> bool:
        """Bring the top of the shortlist up to date with what was booked; False if nobody is left on it."""
        heap, ledger = self._heap, self._ledger
        while heap:
            _, row, seen = heap[0]
            booked = ledger.booked.item(row)
            if booked == seen and not self._queueing and self._barrier is None:
                return True
            has_place = self._queueing or ledger.slot_free[row]
            if not (has_place and ledger.admits(row, self._demand, task_s)) or self._is_barred(row, task_s):
                heappop(heap)
            elif booked == seen:
                return True
            else:
                heapreplace(heap, (self._objective.cost(self._members.profile, row), row, booked))
        return False

    def _refill(self, task_s: float) -> bool:
        """Make the shortlist anew, of agents with a free slot or else with room in their queue; False if
        there are none."""
        rows = self._with_room(task_s)
        self._queueing = not self._ledger.slot_free[rows].any()
        costs = total(self._objective.terms(self._members.profile, rows))
        length = max(2, min(self._longest, _LEAST_SHORTLIST + 2 * self.left))
        self._left_out = _NOBODY
        if len(rows) > length:
            highest = np.partition(costs, length - 1)[length - 1]
            cheaper = np.flatnonzero(costs < highest)
            equal = np.flatnonzero(costs == highest)[: length - len(cheaper)]
            self._left_out = (highest.item(), rows[equal[-1]].item(), self._ledger.bookings)
            chosen = np.concatenate([cheaper, equal])
            rows, costs = rows[chosen], costs[chosen]
        seen = self._ledger.booked[rows]
        self._heap = sorted(zip(costs.tolist(), rows.tolist(), seen.tolist(), strict=True))
        return bool(self._heap)

    def _with_room(self, task_s: float) -> NDArray[np.intp]:
        """Agents with a free slot or else with room in their queue."""
        feasible = self._feasible
        if self._barrier is not None:
            feasible = feasible & ~self._barred(np.arange(len(feasible)), task_s)
        rows = self._fit(feasible & self._ledger.slot_free)
        return rows if len(rows) else self._fit(feasible & self._ledger.queue_free(task_s))

    def _fit(self, rows: BoolRow) -> NDArray[np.intp]:
        for predicate in self._fitting:
            rows = rows & predicate.holds(self._members.profile, 0.0, self._ledger)
        return np.flatnonzero(rows)

    def _is_barred(self, row: int, task_s: float) -> bool:
        """Whether the agent's free slots are kept for others."""
        if self._barrier is None:
            return False
        return bool(self._barred(np.array([row]), task_s).any())

    def _barred(self, rows: NDArray[np.intp], task_s: float) -> BoolRow:
        assert self._barrier is not None
        seconds = task_s / self._ledger.agents.speed[rows]
        barred: BoolRow = self._barrier.room(self._ledger, seconds, rows) <= 0
        return barred
