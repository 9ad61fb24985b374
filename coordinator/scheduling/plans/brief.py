"""Brief tasks of a round of many: they queue, so that all agents come to their end at the same time."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.core.commands import Choice
from coordinator.scheduling.agents.table import FloatRow
from coordinator.scheduling.plans.crowd import Crowd
from coordinator.scheduling.plans.lane import Lane
from coordinator.scheduling.plans.round import Round

_INSTANT_S: Final = 1e-9

_LEVELS: Final = 24
"""Halvings of the search for a level: finer than any difference that matters."""


def place_brief(around: Round, lane: Lane, crowd: Crowd) -> list[Choice]:
    """Agents for brief tasks of one class, in their slots and queues: for as many as there is room for."""
    rows = _level(around, lane, float(crowd.work.mean()), len(crowd))
    return crowd.choices(around.snapshot, rows)


def _level(around: Round, lane: Lane, work_s: float, tasks: int) -> NDArray[np.intp]:
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
    room = np.where(costs < np.inf, np.minimum(room, lane.fits_times(work_s)), 0).astype(np.int64)
    step = np.maximum(seconds / slots, _INSTANT_S)
    first = np.where(room > 0, costs, np.inf)
    counts = _fill(first, step, room, tasks)
    rows = np.flatnonzero(counts)
    around.give_many(rows, counts[rows], lane.demand, seconds[rows])
    # Each agent's share in turn, not all of one agent first: who is most urgent starts at once.
    order = np.repeat(first[rows], counts[rows]) + np.concatenate(
        [np.arange(count) * step[row] for row, count in zip(rows, counts[rows], strict=True)] or [np.zeros(0)]
    )
    spread: NDArray[np.intp] = np.repeat(rows, counts[rows])[order.argsort(kind="stable")]
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
