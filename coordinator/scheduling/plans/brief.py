"""Brief tasks of a round of many: they queue, so that all agents come to their end at the same time."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.core.commands import Choice
from coordinator.scheduling.agents.rows import BoolRow, FloatRow, IntRow
from coordinator.scheduling.plans.crowd import Crowd
from coordinator.scheduling.plans.lane import Lane
from coordinator.scheduling.plans.round import Round

INSTANT_S: Final = 1e-9

_FIRST: Final = 32
_WIDER: Final = 4
"""Agents that are looked at first, or so many for each task, and by how much more where too few of these have
room."""

_PLACES: Final = 16
"""Places per task that are quicker brought into order than counted below a level."""


def place_brief(around: Round, lane: Lane, crowd: Crowd) -> list[Choice]:
    """Agents for brief tasks of one class, in their slots and queues: for as many as there is room for."""
    least = float(crowd.work.min())
    # Of tasks that all take the same the mean is that, to the last bit.
    mean = least + float((crowd.work - least).mean())
    return crowd.choices(around.snapshot, _level(around, lane, mean, len(crowd)))


def room_in_all(around: Round, lane: Lane, work_s: float) -> int:
    """For how many brief tasks of so many seconds at speed 1 all agents together have room."""
    rows = (lane.queue_costs(work_s) < np.inf).nonzero()[0]
    return int(_room(around, lane, rows, work_s).sum())


def _level(around: Round, lane: Lane, work_s: float, tasks: int) -> NDArray[np.intp]:
    """Rows for brief tasks, which queue up: as many on each agent as make all of them end level, within what
    each may hold in seconds of work."""
    costs = lane.queue_costs(work_s)
    rows, room = _with_room(around, lane, costs, work_s, tasks)
    first, seconds = costs[rows], work_s * lane.inverse_speed[rows]
    step = np.maximum(seconds / around.ledger.slots[rows], INSTANT_S)
    counts = _fill(first, step, room, tasks)
    there = counts > 0
    around.give_many(rows[there], counts[there], lane.demand, seconds[there])
    # Each agent's share in turn, not all of one agent first: who is most urgent starts at once.
    of, ends = _ends(first, step, counts)
    spread: NDArray[np.intp] = rows[of[ends.argsort(kind="stable")]]
    return spread


def _with_room(
    around: Round, lane: Lane, costs: FloatRow, work_s: float, tasks: int
) -> tuple[NDArray[np.intp], IntRow]:
    """Agents that have room for such tasks, and for how many: all that could be among the cheapest for so
    many of them, each of which takes one at least."""
    length = max(_FIRST, _WIDER * tasks)
    while True:
        rows = _cheapest(costs, length)
        room = _room(around, lane, rows, work_s)
        there = room > 0
        if len(rows) < length or np.count_nonzero(there) >= tasks:
            return rows[there], room[there]
        length *= _WIDER


def _cheapest(costs: FloatRow, most: int) -> NDArray[np.intp]:
    """So many rows of least cost, the first of equals, in the order of the table; fewer if the others cannot
    be had."""
    within: BoolRow = costs < np.inf
    if most < len(costs):
        highest = np.partition(costs, most - 1)[most - 1]
        within &= costs <= highest
        beyond = np.count_nonzero(within) - most
        if beyond > 0:
            within[(costs == highest).nonzero()[0][-beyond:]] = False
    rows: NDArray[np.intp] = within.nonzero()[0]
    return rows


def _room(around: Round, lane: Lane, rows: NDArray[np.intp], work_s: float) -> IntRow:
    """For how many brief tasks these agents have room, in slots and queues."""
    ledger, bound = around.ledger, around.snapshot.look_ahead
    slots, held = ledger.slots[rows], ledger.held[rows]
    seconds = np.maximum(work_s * lane.inverse_speed[rows], INSTANT_S)
    in_time = np.floor((bound.seconds * slots - ledger.held_s[rows]) / seconds)
    in_queue = np.minimum(bound.least, bound.most) - np.maximum(held - slots, 0)
    room = np.maximum(np.maximum(slots - held, 0) + np.maximum(in_queue, 0), in_time)
    room = np.minimum(room, slots + bound.most - held)
    room = np.minimum(room, ledger.credit[rows] - held)
    times: IntRow = np.minimum(room, lane.fits_times(rows, work_s)).astype(np.int64)
    return times


def _fill(first: FloatRow, step: FloatRow, room: IntRow, tasks: int) -> IntRow:
    """How many go where, the next always to where it costs least: the k-th on a row costs `first + k x
    step`."""
    if int(room.sum()) <= tasks:
        return room
    firsts = first[room > 0]
    if len(firsts) >= tasks:
        # So many places cost no more than this.
        enough = np.partition(firsts, tasks - 1)[tasks - 1]
        most = np.minimum(room, np.maximum((enough - first) / step + 2, 0.0)).astype(np.int64)
        if int(most.sum()) <= _PLACES * tasks:
            of, ends = _ends(first, step, most)
            return np.bincount(of[ends.argsort(kind="stable")[:tasks]], minlength=len(first))
    return _fill_to_level(first, step, room, tasks)


def _fill_to_level(first: FloatRow, step: FloatRow, room: IntRow, tasks: int) -> IntRow:
    """The same by a level below which there are so many places."""
    low, high, least = float(first.min()), float((first + room * step).max()), float(step.min())
    # Until no row has more than one place between the two, or there is no number between them.
    while high - low > least and low < (middle := 0.5 * (low + high)) < high:
        if int(_below(first, step, room, middle).sum()) > tasks:
            high = middle
        else:
            low = middle
    counts = _below(first, step, room, low)
    left = tasks - int(counts.sum())
    while left > 0:
        some = (counts < room).nonzero()[0]
        nearest = some[(first + counts * step)[some].argsort(kind="stable")[:left]]
        counts[nearest] += 1
        left -= len(nearest)
    return counts


def _ends(first: FloatRow, step: FloatRow, counts: IntRow) -> tuple[NDArray[np.intp], FloatRow]:
    """The first so many places of each row: the rows, and what each place costs."""
    of = np.repeat(np.arange(len(first)), counts)
    before = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    return of, first[of] + before * step[of]


def _below(first: FloatRow, step: FloatRow, room: IntRow, level: float) -> IntRow:
    reached = np.maximum(np.ceil((level - first) / step), 0.0)
    counts: IntRow = np.minimum(reached, room).astype(np.int64)
    return counts
