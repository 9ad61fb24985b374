"""Rounds of many tasks, class by class: who goes is decided exactly, who goes where nearly so.

The most urgent tasks that there are places for are taken together by class, in the order of the first of
each. A class has its costs computed once, and gives its tasks, first to last, to its cheapest agents,
cheapest first. Beside the exact plan this lets a class go before tasks of others that stand between its own,
which costs somebody the better of two free agents at most, and a few microseconds per task are saved of each
hundred."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.core.commands import Choice
from coordinator.core.model import INDEX_BITS, TaskFamily
from coordinator.scheduling.agents import BoolRow, FloatRow
from coordinator.scheduling.estimates import kind_of
from coordinator.scheduling.lane import Lane
from coordinator.scheduling.order import Place, place_in_line
from coordinator.scheduling.pricing import Prices
from coordinator.scheduling.round import Round
from coordinator.scheduling.waiting import TaskClass, WaitingTask
from coordinator.scheduling.weights import Policy

MANY: Final = 64
"""Tasks, and places for them, from which on a round is one of many."""

_SPARE_PLACES: Final = 16
_POOL: Final = 4
"""Places that are brought into order, per task of the round; others come after them as they are."""

_LEVELS: Final = 24
"""Halvings of the search for a level: finer than any difference that matters."""


def most_urgent(
    classes: Sequence[TaskClass], most: int, now_ms: int
) -> list[tuple[TaskClass, list[WaitingTask]]]:
    """The first `most` tasks in line, by class."""
    heads: list[tuple[Place, int, int]] = [
        (place_in_line(one.profile, one.tasks[0], 0.0, now_ms), at, 0) for at, one in enumerate(classes)
    ]
    heapify(heads)
    counts: dict[int, int] = {}
    while heads and most > 0:
        _, at, next_one = heads[0]
        members = classes[at]
        tasks = members.tasks
        # Alone, or among many: as far as nobody of another class comes between.
        end = len(tasks) if len(heads) == 1 else next_one + 1
        end = min(end, next_one + most)
        most -= end - next_one
        counts[at] = end
        if end < len(tasks):
            heapreplace(heads, (place_in_line(members.profile, tasks[end], 0.0, now_ms), at, end))
        else:
            heappop(heads)
    return [(classes[at], classes[at].tasks[:count]) for at, count in counts.items()]


def place_class(
    around: Round, lane: Lane, tasks: Sequence[WaitingTask], places: Places, *, brief_s: float
) -> list[Choice]:
    """Agents for tasks of one class, none of which has data to wait for: for as many as there are."""
    work = _work(around, lane, tasks)
    mean_s = sum(work) / len(work)
    if mean_s <= brief_s:
        chosen = _level(around, lane, mean_s, len(tasks))
    else:
        rows = places.take(lane, len(tasks))
        chosen = rows.tolist()
        places.book(rows, lane, work[: len(chosen)])
    agents = around.snapshot.agents
    ids, epochs = agents.ids, agents.epochs[chosen].tolist()
    return [
        Choice(task.key, task.attempt, ids[row], epoch)
        for task, row, epoch in zip(tasks, chosen, epochs, strict=False)
    ]


class Places:
    """The free slots of a round, each of which takes one task. `typical_s` is the work of a task in it: of
    tasks that last longer or less long than others the order of agents may be another one.

    A family sees them in the order of what they cost it; there is no cost of a place that others could
    change."""

    def __init__(self, around: Round, policy: Policy, prices: Prices, most: int, typical_s: float) -> None:
        ledger = around.ledger
        rows = np.flatnonzero(ledger.slot_free & around.open)
        free = np.minimum(ledger.slots[rows], ledger.credit[rows]) - ledger.held[rows]
        self._around = around
        self._policy = policy
        self._prices = prices
        self._most = most
        self._typical_s = typical_s
        self._row: NDArray[np.intp] = np.repeat(rows, free)
        before = np.arange(len(self._row)) - np.repeat(np.cumsum(free) - free, free)
        """Free slots of the same agent that come first."""
        slots = ledger.slots[self._row]
        speeds = prices.inverse_speed(TaskFamily.UNSPECIFIED)[self._row]
        self._base: FloatRow = around.base[self._row]
        self._base += policy.weights.balance * typical_s * speeds * before / slots
        self._unused: BoolRow = np.ones(len(self._row), np.bool_)
        self._orders: dict[TaskFamily, NDArray[np.intp]] = {}
        self._begins: dict[TaskFamily, int] = {}
        self._booked: list[tuple[NDArray[np.intp], FloatRow]] = []

    def take(self, lane: Lane, most: int) -> NDArray[np.intp]:
        """Rows for up to `most` tasks of a lane, the cheapest first; an agent may be among them several
        times."""
        family = lane.profile.family
        order = self._order(family)
        begin = self._begins[family]
        length = 2 * most + _SPARE_PLACES
        while True:
            places = order[begin : begin + length]
            unused = self._unused[places]
            rows = self._row[places]
            fits = np.flatnonzero(unused & lane.can_take(rows))[:most]
            if len(fits) == most or begin + length >= len(order):
                break
            length *= 4
        self._begins[family] = begin + (int(unused.argmax()) if len(unused) else 0)
        rows = rows[fits]
        self._unused[places[fits]] = False
        if lane.demand.amounts and not lane.take_each(rows):
            return self._one_by_one(places[fits], rows, lane)
        return rows

    def book(self, rows: NDArray[np.intp], lane: Lane, work: Sequence[float]) -> None:
        """Tasks of so much work have been given to these agents."""
        self._booked.append((rows, np.asarray(work) * lane.inverse_speed[rows]))

    def close(self) -> None:
        """Let the round know what was given."""
        if self._booked:
            rows = np.concatenate([rows for rows, _ in self._booked])
            seconds = np.concatenate([seconds for _, seconds in self._booked])
            self._around.booked(rows, seconds)
        self._booked = []

    def _order(self, family: TaskFamily) -> NDArray[np.intp]:
        order = self._orders.get(family)
        if order is None:
            costs = self._prices.per_second(self._policy, family)[self._row] * self._typical_s + self._base
            kept = _POOL * self._most
            pool = np.argpartition(costs, kept) if kept < len(costs) else np.arange(len(costs))
            order = self._orders[family] = np.concatenate(
                [pool[:kept][costs[pool[:kept]].argsort(kind="stable")], pool[kept:]]
            )
            self._begins[family] = 0
        return order

    def _one_by_one(self, places: NDArray[np.intp], rows: NDArray[np.intp], lane: Lane) -> NDArray[np.intp]:
        """Some agents among these have a slot for each of the tasks, but not the resources."""
        kept = []
        for place, row in zip(places.tolist(), rows.tolist(), strict=True):
            if lane.take_one(row):
                kept.append(row)
            else:
                self._unused[place] = True
        return np.array(kept, np.intp)


def _work(around: Round, lane: Lane, tasks: Sequence[WaitingTask]) -> list[float]:
    """Seconds of each at speed 1."""
    estimates, profile = around.snapshot.estimates, lane.profile
    kinds = (kind_of(profile, 0), kind_of(profile, 1))
    known: dict[tuple[int, bool], float] = {}
    work: list[float] = []
    for task in tasks:
        expected_ms = task.expected_ms
        dag, stated = task.key >> INDEX_BITS, expected_ms > 0
        factor = known.get((dag, stated))
        if factor is None:
            factor = known[dag, stated] = estimates.work_s(kinds[stated], dag, 1_000)
        work.append(factor * expected_ms * 1e-3 if stated else factor)
    return work


def _level(around: Round, lane: Lane, work_s: float, tasks: int) -> list[int]:
    """Rows for brief tasks, which queue up: as many on each agent as make all of them end level, within what
    each may hold in seconds of work."""
    ledger, bound = around.ledger, around.snapshot.look_ahead
    costs = lane.queue_costs(work_s)
    seconds = work_s * lane.inverse_speed
    slots = ledger.slots
    queue = np.maximum((bound.seconds * slots - ledger.held_s) / np.maximum(seconds, 1e-9), bound.least)
    room = np.minimum(
        np.maximum(slots - ledger.held, 0) + np.minimum(queue, bound.most), ledger.credit - ledger.held
    )
    room = np.where(costs < np.inf, np.minimum(room, lane.fits_times()), 0).astype(np.int64)
    step = np.maximum(seconds / slots, 1e-12)
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
