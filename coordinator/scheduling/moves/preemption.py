"""Room for urgent tasks that no agent can take now, and for those whose slots others have: which attempts to
end for them (E4, E8, E9).

An attempt may be ended if its task is preemptible and not urgent itself. What that costs is the work that it
has done, which counts double for every level of priority. What is gained are the seconds that the urgent task
need not wait: until an agent would have room for it anyway or, since that is a guess, as long as it has
waited already. Nothing is ended that costs more than `URGENCY` times the gain; so an attempt that has nearly
ended ends, and an urgent task that has waited long gets its room in any case. The same holds of a task for
whose namespace slots are kept that others had before; it gets those alone. Nobody takes what is kept for
another.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nsmallest
from itertools import islice
from typing import Final, NamedTuple

import numpy as np

from coordinator.core.model import AttemptOutcome, Priority, Task, TaskProfile
from coordinator.scheduling.agents.feasibility import fitting, needs_of
from coordinator.scheduling.agents.ledger import Ledger, demand_of
from coordinator.scheduling.agents.reserved import set_aside
from coordinator.scheduling.agents.rows import BoolRow, IntRow
from coordinator.scheduling.agents.table import resource_vector
from coordinator.scheduling.plans.claims import Claims
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.order import place_in_line
from coordinator.scheduling.tasks.running import Live
from coordinator.scheduling.tasks.waiting import TaskClass, WaitingTask

URGENCY: Final = 10.0
"""Seconds of work that may be lost for each second that an urgent task waits less."""

MOST_PREEMPTED: Final = 3
"""Attempts of one task that may be ended for others; then it is left alone until it ends."""

ENDED_AT_ONCE: Final = 16
"""Attempts that one decision ends."""

ENDED_FOR_ONE: Final = 4
"""Attempts that are ended for one urgent task, all on the same agent."""

ATTEMPTS_LOOKED_AT: Final = 5_000
AGENTS_LOOKED_AT: Final = 64
"""Those whose cheapest attempts cost least."""

UNDONE_S: Final = 1.0
"""An attempt that is still live so long after it was to be ended has not been."""

STUCK_S: Final = 30.0
"""An agent that has not stopped an attempt by then may never do so."""

_START_S: Final = 1.0
"""What an attempt costs that has done nothing yet."""


class Eviction(NamedTuple):
    """Attempts, as (key, number), to end for an urgent task."""

    key: int
    attempts: list[tuple[int, int]]


class _Victim(NamedTuple):
    cost: float
    key: int
    number: int
    profile: TaskProfile
    namespace: str


class Preempting:
    """Remembers for whom room is being made: until the attempts have stopped nothing more is ended for
    them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._begun: dict[int, tuple[float, list[tuple[int, int]]]] = {}

    def evictions(self, now_s: float) -> list[Eviction]:
        """What to end now; it is taken to be done."""
        self._begun = {key: one for key, one in self._begun.items() if self._goes_on(key, *one, now_s)}
        found = room_for(self._snapshot, self._urgent(now_s), now_s)
        for eviction in found:
            self._begun[eviction.key] = now_s, eviction.attempts
        return found

    def _urgent(self, now_s: float) -> list[tuple[TaskClass, WaitingTask]]:
        """Urgent tasks without room, and others whose slots are taken, in line; not those of a DAG that has
        ended, which wait until they are chosen."""
        some = [
            (members, task)
            for members in self._snapshot.waiting.classes.values()
            if members.profile.priority is Priority.URGENT or self._is_owed(members, now_s)
            for task in islice(members.tasks, ENDED_AT_ONCE + len(self._begun))
            if task.key not in self._begun and _task_of(self._snapshot, task.key) is not None
        ]
        now_ms = round(now_s * 1_000)
        return nsmallest(
            ENDED_AT_ONCE, some, key=lambda one: place_in_line(one[0].profile, one[1], 0.0, now_ms)
        )

    def _is_owed(self, members: TaskClass, now_s: float) -> bool:
        """Whether slots are kept for its namespace that it does not hold."""
        reserved = self._snapshot.reserved
        lacks = reserved.lacks(members.owner.namespace, now_s) if reserved else None
        return lacks is not None and bool(lacks.any())

    def _goes_on(self, key: int, since_s: float, attempts: list[tuple[int, int]], now_s: float) -> bool:
        if key not in self._snapshot.waiting or now_s - since_s > STUCK_S:
            return False
        running = self._snapshot.running
        held = [one for one in attempts if running.get(*one) is not None]
        undone = now_s - since_s > UNDONE_S and any(_is_live(self._snapshot, *one) for one in held)
        return bool(held) and not undone


def room_for(snapshot: Snapshot, urgent: list[tuple[TaskClass, WaitingTask]], now_s: float) -> list[Eviction]:
    """What to end for these tasks, of which the first have the first choice."""
    if not urgent:
        return []
    look = _Look(snapshot, now_s)
    if not look.victims:
        return []
    claims = Claims(snapshot, now_s, [members.owner for members, _ in urgent])
    found: list[Eviction] = []
    left = ENDED_AT_ONCE
    for members, task in urgent:
        if claims.refused(members.owner, members.profile):
            continue
        victims = look.cheapest(members, task, left)
        if victims:
            claims.take(members.owner, members.profile)
            found.append(Eviction(task.key, [(one.key, one.number) for one in victims]))
            left -= len(victims)
    return found


class _Look:
    """At what runs, once for all urgent tasks. `victims` are those on each row that may be ended, the
    cheapest first."""

    def __init__(self, snapshot: Snapshot, now_s: float) -> None:
        self._snapshot = snapshot
        self._now_s = now_s
        self._ledger = Ledger(snapshot.agents, snapshot.look_ahead)
        self._given: set[int] = set()
        """Rows where room is being made."""
        self.victims: dict[int, list[_Victim]] = {}
        size = snapshot.agents.size
        self._stopping = np.zeros(size, np.int64)
        """Preemptible attempts that agents have been told to stop, by row."""
        self._ends = np.full(size, np.inf)
        counted = np.zeros(size, np.int64)
        left = snapshot.running.left(now_s)
        for (key, number), live in islice(snapshot.running.items(), ATTEMPTS_LOOKED_AT):
            self._ends[live.row] = min(self._ends[live.row], left.item(live.place))
            counted[live.row] += 1
            if live.profile.preemptible and live.profile.priority < Priority.URGENT:
                self._consider(key, number, live)
        # What is brief ends by itself.
        self._ends[snapshot.agents.held[:size] > counted] = 0.0
        for some in self.victims.values():
            some.sort()

    def cheapest(self, members: TaskClass, task: WaitingTask, most: int) -> list[_Victim]:
        """Whom to end for a task of this class; nobody if an agent can take it, or it would cost too much."""
        snapshot, ledger, profile = self._snapshot, self._ledger, members.profile
        waited_s = max(self._now_s - task.ready_ms / 1_000, 0.0)
        capable = snapshot.feasible.rows(needs_of(profile), snapshot.agents) & ledger.accepting
        for one in fitting(profile, snapshot.agents):
            if one.reason != "free_resources":
                capable = capable & one.holds(profile, 0.0, ledger)
        if profile.priority is not Priority.URGENT:
            capable = capable & self._owed(members.owner.namespace)
        slots, free = self._without_kept(members, task)
        needed = resource_vector(profile.requirements.resources)
        now = capable & (ledger.held < slots) & ((free >= needed) | (needed == 0)).all(axis=1)
        if not capable.any() or self._has_room(profile, now):
            return []
        gain_s = max(float(self._ends[capable].min()), waited_s)
        rows = [row for row in self.victims if capable.item(row) and row not in self._given]
        rows = nsmallest(AGENTS_LOOKED_AT, rows, key=lambda row: self.victims[row][0])
        most = min(most, ENDED_FOR_ONE)
        sets = [(row, self._set(members, row, slots.item(row), free[row], most)) for row in rows]
        priced = [(sum(one.cost for one in some), row, some) for row, some in sets if some]
        if not priced:
            return []
        cost, row, some = min(priced)
        if cost > URGENCY * gain_s:
            return []
        self._given.add(row)
        return some

    def _without_kept(self, members: TaskClass, task: WaitingTask) -> tuple[IntRow, IntRow]:
        """By row, the slots that such a task could have one of and the resources that are free, but for what
        is kept for others."""
        ledger, name, profile = self._ledger, members.owner.namespace, members.profile
        barrier = self._snapshot.barrier(name, profile, task.key, task.hint, self._now_s)
        if barrier is None:
            return ledger.slots, ledger.free
        work_s = self._snapshot.work_s(profile, task.key, task.hint)
        bound = barrier.bound(work_s * self._snapshot.prices.renew().inverse_speed(profile.family))
        free = ledger.free.copy()
        for column, _ in demand_of(profile).amounts:
            free[:, column] -= set_aside(ledger, column, bound.aside)
        return np.minimum(ledger.slots, bound.most), free

    def _owed(self, namespace: str) -> BoolRow:
        """Rows with slots that are kept for a namespace, that it does not hold, and that nobody is about to
        leave."""
        lacks = self._snapshot.reserved.lacks(namespace, self._now_s)
        owed: BoolRow = (0 if lacks is None else lacks) > self._stopping
        return owed

    def _may_end(self, members: TaskClass, row: int, victim: _Victim) -> bool:
        """Nobody takes what is kept for another, nor from its own what is kept for it."""
        namespace = members.owner.namespace
        if victim.namespace == namespace:
            return members.profile.priority is Priority.URGENT
        return not self._snapshot.reserved.keeps(victim.namespace, row, self._now_s)

    def _has_room(self, profile: TaskProfile, capable: BoolRow) -> bool:
        rows = capable & self._ledger.slot_free
        for one in fitting(profile, self._snapshot.agents):
            rows = rows & one.holds(profile, 0.0, self._ledger)
        return bool(rows.any())

    def _set(self, members: TaskClass, row: int, of: int, free: IntRow, most: int) -> list[_Victim]:
        """The cheapest attempts on this agent without which it could take the task in one `of` its slots,
        with what is `free` now; none if these are too many."""
        needed = resource_vector(members.profile.requirements.resources)
        slots = self._ledger.held.item(row) - of + 1
        some: list[_Victim] = []
        allowed = (one for one in self.victims[row] if self._may_end(members, row, one))
        for victim in islice(allowed, most):
            lacks = (needed > 0) & (needed > free)
            gives = resource_vector(victim.profile.requirements.resources)
            if len(some) < slots or (gives[lacks] > 0).any():
                some.append(victim)
                free = free + gives
            if len(some) >= slots and not ((needed > 0) & (needed > free)).any():
                return some
        return []

    def _consider(self, key: int, number: int, live: Live) -> None:
        task = _task_of(self._snapshot, key)
        if task is None or task.live_attempt(number) is None:
            self._stopping[live.row] += 1
            return
        if sum(one.outcome is AttemptOutcome.PREEMPTED for one in task.attempts) >= MOST_PREEMPTED:
            return
        done_s = 0.0 if live.began_s is None else max(self._now_s - live.began_s, 0.0)
        cost = (_START_S + done_s) * 2.0 ** (live.profile.priority - Priority.LOW)
        graph = self._snapshot.graphs.of(key)
        assert graph is not None
        victim = _Victim(cost, key, number, live.profile, graph.owner.namespace)
        self.victims.setdefault(live.row, []).append(victim)


def _task_of(snapshot: Snapshot, key: int) -> Task | None:
    graph = snapshot.graphs.of(key)
    return None if graph is None or graph.dag.record.ending is not None else graph.task(key)


def _is_live(snapshot: Snapshot, key: int, number: int) -> bool:
    task = _task_of(snapshot, key)
    return task is not None and task.live_attempt(number) is not None


def named(snapshot: Snapshot, evictions: list[Eviction]) -> Iterator[tuple[Eviction, str]]:
    """Each with the reason that is kept with the attempts."""
    for eviction in evictions:
        graph = snapshot.graphs.of(eviction.key)
        assert graph is not None
        task = graph.task(eviction.key)
        name = f"{graph.dag.record.header.dag_id}/{task.id}"
        if task.profile.priority is Priority.URGENT:
            yield eviction, f"to make room for the urgent task {name}"
        else:
            yield eviction, f"to make room for the task {name}, for which the slot is kept"
