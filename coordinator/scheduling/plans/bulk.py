"""Rounds of many tasks, by blocks of classes: who goes is decided exactly, who goes where nearly so.

The most urgent tasks that there are places for are taken together by class, in the order of the first of
each. The classes of a block see the free places of all agents in the order of what these cost their family,
and take them one class after the other, cheapest first; what each may take of a window of places is found
for all of them at once. Beside the exact plan this lets a class go before tasks of others that stand between
its own, which costs somebody the better of two free agents at most, and saves most of the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.core.commands import Choice
from coordinator.core.kinds import kind_of
from coordinator.core.model import INDEX_BITS, TaskFamily, TaskProfile
from coordinator.scheduling.agents.feasibility import fitting, needs_of
from coordinator.scheduling.agents.ledger import demand_of
from coordinator.scheduling.agents.table import BoolRow, FloatRow
from coordinator.scheduling.costs.pricing import Prices
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.lane import Lane
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.plans.turns import Some
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.work.waiting import WaitingTask

MANY: Final = 64
"""Tasks, and places for them, from which on a round is one of many."""

_BLOCK: Final = 256
"""Classes that look for places together."""

_WINDOW: Final = 4
_SPARE_PLACES: Final = 64
"""Places that a block looks at first: so many for each of its tasks, and some more."""

_PASSES: Final = 12
"""Over wider and wider windows, and over what agents have left; what still has no place waits."""

_POOL: Final = 4
"""Places that are brought into order, per task of the round; others come after them as they are."""

_ANYTHING: Final = np.iinfo(np.int64).min
"""What an agent may have overdrawn of what a task does not need."""

_INSTANT_S: Final = 1e-9

_LEVELS: Final = 24
"""Halvings of the search for a level: finer than any difference that matters."""


class Wanted(NamedTuple):
    """Tasks of one class, and the work of each in seconds at speed 1."""

    profile: TaskProfile
    tasks: list[WaitingTask]
    work: list[float]


def split(snapshot: Snapshot, some: Some) -> tuple[Wanted | None, Wanted | None]:
    """Tasks that wait for a free slot, and brief ones, which may queue (`Snapshot.is_brief`); None if there
    are none."""
    members, tasks = some
    profile = members.profile
    work, brief = _work(snapshot, profile, tasks)
    if not brief:
        return Wanted(profile, tasks, work), None
    if len(brief) == len(tasks):
        return None, Wanted(profile, tasks, work)
    rest = sorted(set(range(len(tasks))).difference(brief))
    longer, briefer = (
        Wanted(profile, [tasks[at] for at in chosen], [work[at] for at in chosen]) for chosen in (rest, brief)
    )
    return longer, briefer


def _work(
    snapshot: Snapshot, profile: TaskProfile, tasks: Sequence[WaitingTask]
) -> tuple[list[float], list[int]]:
    """Seconds of each at speed 1, and the positions of those that are brief."""
    estimates, brief_s = snapshot.estimates, snapshot.look_ahead.brief_s
    work: list[float] = []
    brief: list[int] = []
    of, stated, second, limit_s = -1, False, 0.0, 0.0
    for task in tasks:
        expected_ms, dag = task.expected_ms, task.key >> INDEX_BITS
        if dag != of or (expected_ms > 0) is not stated:
            of, stated = dag, expected_ms > 0
            expected = estimates.basic(kind_of(profile, expected_ms), dag)
            second, limit_s = expected.seconds, brief_s if expected.known else -1.0
        seconds = second * expected_ms * 1e-3 if stated else second
        if seconds <= limit_s:
            brief.append(len(work))
        work.append(seconds)
    return work, brief


def blocks(urgent: Sequence[Some]) -> Iterator[Sequence[Some]]:
    """Classes that look for places together."""
    for begin in range(0, len(urgent), _BLOCK):
        yield urgent[begin : begin + _BLOCK]


def place_brief(around: Round, lane: Lane, wanted: Wanted) -> list[Choice]:
    """Agents for brief tasks of one class, in their slots and queues: for as many as there is room for."""
    rows = _level(around, lane, sum(wanted.work) / len(wanted.work), len(wanted.tasks))
    return _choices(around.snapshot, wanted.tasks, rows)


def _choices(snapshot: Snapshot, tasks: Sequence[WaitingTask], rows: list[int]) -> list[Choice]:
    """The first of the tasks go to these agents."""
    ids, epochs = snapshot.agents.ids, snapshot.agents.epochs[rows].tolist()
    return [
        Choice(task.key, task.attempt, ids[row], epoch)
        for task, row, epoch in zip(tasks, rows, epochs, strict=False)
    ]


class _Alike(NamedTuple):
    """Classes that see places in one order: all of a family, or one class whose tasks cost something beside
    their work."""

    family: TaskFamily
    plug_in: str
    own: TaskProfile | None


class Places:
    """The free slots of a round, each of which takes one task. `typical_s` is the work of a task in it: of
    tasks that last longer or less long than others the order of agents may be another one.

    A family sees them in the order of what they cost it; there is no cost of a place that others could
    change."""

    def __init__(self, around: Round, policy: Policy, prices: Prices, most: int, typical_s: float) -> None:
        self._around = around
        self._policy = policy
        self._prices = prices
        self._most = most
        self._typical_s = typical_s
        self._row: NDArray[np.intp] = np.zeros(0, np.intp)
        self._base: FloatRow = np.zeros(0)
        self._unused: BoolRow = np.zeros(0, np.bool_)
        self._orders: dict[_Alike, NDArray[np.intp]] = {}
        self._booked: list[tuple[NDArray[np.intp], FloatRow]] = []
        self._open = False

    def left(self) -> BoolRow:
        """By row, whether a place there is left."""
        if not self._open:
            self._look()
        there: BoolRow = np.zeros(len(self._around.wait), np.bool_)
        there[self._row[self._unused]] = True
        return there

    def place(self, wanted: Sequence[Wanted]) -> list[Choice]:
        """Agents for tasks of these classes, none of which has data to wait for: for as many as there are."""
        affinity = self._around.snapshot.affinity
        alike: dict[_Alike, list[Wanted]] = {}
        for one in wanted:
            own = None if affinity.setup_s(one.profile) is None else one.profile
            alike.setdefault(_Alike(one.profile.family, one.profile.family_name, own), []).append(one)
        choices: list[Choice] = []
        for kind, some in alike.items():
            self._place_alike(kind, some, choices)
        return choices

    def close(self) -> None:
        """Let the round know what was given; it may give places to others before the next are taken."""
        if self._booked:
            rows = np.concatenate([rows for rows, _ in self._booked])
            seconds = np.concatenate([seconds for _, seconds in self._booked])
            self._around.booked(rows, seconds)
        self._booked, self._open = [], False

    # --- in what order --------------------------------------------------------------------------------------

    def _look(self) -> None:
        """At the places that there are now."""
        ledger = self._around.ledger
        rows = (ledger.slot_free & self._around.open).nonzero()[0]
        free = np.minimum(ledger.slots[rows], ledger.credit[rows]) - ledger.held[rows]
        self._row = np.repeat(rows, free)
        before = np.arange(len(self._row)) - np.repeat(np.cumsum(free) - free, free)
        """Free slots of the same agent that come first."""
        slots = ledger.slots[self._row]
        speeds = self._prices.inverse_speed(TaskFamily.UNSPECIFIED)[self._row]
        self._base = self._around.base_of(self._policy.weights)[self._row]
        self._base += self._policy.weights.balance * self._typical_s * speeds * before / slots
        self._unused = np.ones(len(self._row), np.bool_)
        self._orders, self._open = {}, True

    def _order(self, kind: _Alike) -> NDArray[np.intp]:
        order = self._orders.get(kind)
        if order is not None:
            order = self._orders[kind] = order[self._unused[order]]
        else:
            price = self._prices.per_second(self._policy, kind.family, kind.plug_in, self._typical_s)
            costs = price[self._row] * self._typical_s + self._base
            setup = None if kind.own is None else self._around.snapshot.affinity.setup_s(kind.own)
            if setup is not None:
                costs += self._policy.weights.time * setup[self._row]
            kept = _POOL * self._most
            pool = np.argpartition(costs, kept) if kept < len(costs) else np.arange(len(costs))
            order = self._orders[kind] = np.concatenate(
                [pool[:kept][costs[pool[:kept]].argsort(kind="stable")], pool[kept:]]
            )
        return order

    # --- who takes which ------------------------------------------------------------------------------------

    def _place_alike(self, kind: _Alike, wanted: list[Wanted], choices: list[Choice]) -> None:
        if not self._open:
            self._look()
        length = _SPARE_PLACES + _WINDOW * sum(len(one.tasks) for one in wanted)
        for _ in range(_PASSES):
            order, made = self._order(kind), len(choices)
            if not len(order):
                return
            wanted = self._take(kind.family, order[:length], wanted, choices)
            if not wanted or (length >= len(order) and len(choices) == made):
                return
            length *= 4

    def _take(
        self, family: TaskFamily, places: NDArray[np.intp], wanted: list[Wanted], choices: list[Choice]
    ) -> list[Wanted]:
        """Give each class the first of these places that it can take; returns what has none."""
        rows, unused = self._row[places], self._unused[places]
        taken: list[int] = []
        counts: list[int] = []
        tasks: list[WaitingTask] = []
        work: list[float] = []
        left: list[Wanted] = []
        for one, can in zip(wanted, self._can_take(wanted, rows), strict=True):
            can &= unused
            size, first = len(one.tasks), int(can.argmax())
            if not can.item(first):
                count = 0
            elif size == 1:
                count = 1
                unused[first] = False
                taken.append(first)
            else:
                found = can.nonzero()[0][:size]
                count = len(found)
                unused[found] = False
                taken += found.tolist()
            counts.append(count)
            tasks += one.tasks if count == size else one.tasks[:count]
            work += one.work if count == size else one.work[:count]
            if count < size:
                left.append(Wanted(one.profile, one.tasks[count:], one.work[count:]))
        given = np.array(taken, np.intp)
        kept = self._take_resources(rows[given], wanted, counts)
        if kept is not None:
            of = [one.profile for one, count in zip(wanted, counts, strict=True) for _ in range(count)]
            left += [Wanted(of[at], [tasks[at]], [work[at]]) for at in (~kept).nonzero()[0].tolist()]
            tasks = [tasks[at] for at in kept.nonzero()[0].tolist()]
            work = [work[at] for at in kept.nonzero()[0].tolist()]
            given = given[kept]
        self._unused[places[given]] = False
        self._booked.append((rows[given], np.array(work) * self._prices.inverse_speed(family)[rows[given]]))
        choices += _choices(self._around.snapshot, tasks, rows[given].tolist())
        return left

    def _can_take(self, wanted: Sequence[Wanted], rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """By class and place, whether its agent, which has a free slot, has all else that one such task
        takes."""
        snapshot, ledger = self._around.snapshot, self._around.ledger
        can = np.empty((len(wanted), len(rows)), np.bool_)
        for at, one in enumerate(wanted):
            snapshot.feasible.rows(needs_of(one.profile), snapshot.agents).take(
                rows, out=can[at], mode="clip"
            )
            for predicate in fitting(one.profile, snapshot.agents):
                if predicate.fixed:
                    can[at] &= predicate.holds(one.profile, 0.0, ledger)[rows]
        amounts = np.array([demand_of(one.profile).vector for one in wanted])
        for column in np.flatnonzero(amounts.any(axis=0)).tolist():
            needed = amounts[:, column]
            can &= ledger.free[rows, column] >= np.where(needed, needed, _ANYTHING)[:, None]
        return can

    def _take_resources(
        self, rows: NDArray[np.intp], wanted: Sequence[Wanted], counts: Sequence[int]
    ) -> BoolRow | None:
        """Book what each task takes of its agent, of which some may be there several times. Where that is
        more than the agent has, only the first of them gets it: returns who does, None if all do."""
        free = self._around.ledger.free
        vectors = np.array([demand_of(one.profile).vector for one in wanted])
        columns = np.flatnonzero(vectors.any(axis=0))
        if not len(columns) or not len(rows):
            return None
        amounts = np.repeat(vectors, counts, axis=0)
        for column in columns.tolist():
            np.subtract.at(free[:, column], rows, amounts[:, column])
        over = ((free[rows] < 0) & (amounts > 0)).any(axis=1)
        if not over.any():
            return None
        first = np.zeros(len(rows), np.bool_)
        first[np.unique(rows, return_index=True)[1]] = True
        kept: BoolRow = first | ~over
        np.add.at(free, rows[~kept], amounts[~kept])
        return kept


def _level(around: Round, lane: Lane, work_s: float, tasks: int) -> list[int]:
    """Rows for brief tasks, which queue up: as many on each agent as make all of them end level, within what
    each may hold in seconds of work."""
    ledger, bound = around.ledger, around.snapshot.look_ahead
    costs = lane.queue_costs(work_s)
    seconds = work_s * lane.inverse_speed
    slots = ledger.slots
    queued = np.maximum(ledger.held - slots, 0)
    in_time = np.floor((bound.seconds * slots - ledger.held_s) / np.maximum(seconds, _INSTANT_S))
    in_queue = np.minimum(bound.least, bound.most) - queued
    room = np.maximum(np.maximum(slots - ledger.held, 0) + np.maximum(in_queue, 0), in_time)
    room = np.minimum(room, slots + bound.most - ledger.held)
    room = np.minimum(room, ledger.credit - ledger.held)
    room = np.where(costs < np.inf, np.minimum(room, lane.fits_times()), 0).astype(np.int64)
    step = np.maximum(seconds / slots, _INSTANT_S)
    first = np.where(room > 0, costs, np.inf)
    counts = _fill(first, step, room, tasks)
    rows = np.flatnonzero(counts)
    around.give_many(rows, counts[rows], lane.demand, seconds[rows])
    # Each agent's share in turn, not all of one agent first: who is most urgent starts at once.
    order = np.repeat(first[rows], counts[rows]) + np.concatenate(
        [np.arange(count) * step[row] for row, count in zip(rows, counts[rows], strict=True)] or [np.zeros(0)]
    )
    spread: list[int] = np.repeat(rows, counts[rows])[order.argsort(kind="stable")].tolist()
    return spread


def _fill(first: FloatRow, step: FloatRow, room: NDArray[np.int64], tasks: int) -> NDArray[np.int64]:
    """How many go where, the next always to where it costs least: the k-th on a row costs `first + k x
    step`."""
    if int(room.sum()) <= tasks:
        return room
    there = room > 0
    low = float(first[there].min())
    high = float((first + room * step)[there].max())
    for _ in range(_LEVELS):
        middle = 0.5 * (low + high)
        if int(_below(first, step, room, middle).sum()) > tasks:
            high = middle
        else:
            low = middle
    counts = _below(first, step, room, low)
    left = tasks - int(counts.sum())
    if left > 0:
        nearest = np.where(counts < room, first + counts * step, np.inf).argsort(kind="stable")
        counts[nearest[:left]] += 1
    return np.minimum(counts, room)


def _below(first: FloatRow, step: FloatRow, room: NDArray[np.int64], level: float) -> NDArray[np.int64]:
    reached = np.where(room > 0, (level - first) / step, 0.0)
    counts: NDArray[np.int64] = np.minimum(np.maximum(np.ceil(reached), 0.0), room).astype(np.int64)
    return counts
