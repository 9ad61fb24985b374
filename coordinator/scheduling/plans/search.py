"""Plans that are searched for: whole schedules of all that is left to do are made, and the best is begun.

Each is an active schedule (Giffler and Thompson, Operations Research 8(4), 1960): of the tasks that compete
for the slot on which one would end first, the one of the highest priority goes. Priorities are upward ranks,
changed in each schedule by chance, and so is its *thrift* with each slot: beside the end of a task, the time
that it takes of the slot counts so many times. The best priorities and thrift are kept, and the next search
goes on around them, from what has happened by then (a (1 + lambda) evolution strategy: Beyer and Schwefel,
Natural Computing 1, 2002).

All schedules of a search are made side by side, as rows of arrays."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.learning.chance import quantile

FloatGrid = NDArray[np.float64]
IntGrid = NDArray[np.intp]

NEVER_S: Final = 1e12
"""What a task takes of a slot where it cannot go."""

FIRST_THRIFT: Final = 0.5
"""With a slot of which nothing was found yet."""
_FIRST_TRIED: Final = (FIRST_THRIFT, 0.0, 0.25, 1.0, 2.0)
"""With all slots, by the first schedules of all."""
_STRIDE: Final = 0.3
"""Standard deviation of the logarithm by which the boldest schedule of a search changes priorities, and of
what it changes thrift by."""
_FEW: Final = 0.15
"""Of all tasks, and of all slots, the share for which every other schedule changes anything."""
_SOONER: Final = 1e-3
"""What an earlier end of a task in the mean counts beside an earlier end of all."""


class Work(NamedTuple):
    """What is left to do: `seconds` by task and slot, `NEVER_S` where one cannot go; the tasks `before` and
    `after` each, rows filled up with the number of tasks; when a task is `ready_s` as far as others than
    these hold it up, and a slot `free_s`, from now on; upward ranks. Every task can go somewhere."""

    seconds: FloatGrid
    before: IntGrid
    after: IntGrid
    ready_s: FloatRow
    free_s: FloatRow
    ranks: FloatRow

    def __len__(self) -> int:
        return len(self.ranks)


class Schedules(NamedTuple):
    """By schedule and task: when it begins and ends, in seconds from now, and in which slot."""

    start_s: FloatGrid
    end_s: FloatGrid
    slot: IntGrid

    def best(self) -> int:
        """The one that ends first."""
        return int((self.end_s.max(axis=1) + _SOONER * self.end_s.mean(axis=1)).argmin())


class Found(NamedTuple):
    """The best of a search, and what it was made by: of each task the logarithm of what its rank is
    multiplied with (`bias`), and the thrift with each slot."""

    start_s: FloatRow
    end_s: FloatRow
    slot: NDArray[np.intp]
    bias: FloatRow
    thrift: FloatRow


def search(work: Work, bias: FloatRow, thrift: FloatRow | None, many: int, turn: int) -> Found:
    """Make so many schedules around what was found before, if anything was (`thrift`). The same arguments
    give the same schedules; another `turn` gives others."""
    slots = len(work.free_s)
    around = np.full(slots, FIRST_THRIFT) if thrift is None else thrift
    biases = bias + _changes(_RANKS, turn, many, len(work))
    thrifts = np.abs(around + _changes(_THRIFT, turn, many, slots))
    if thrift is None:
        first = _FIRST_TRIED[:many]
        biases[: len(first)] = bias
        thrifts[: len(first)] = np.array(first)[:, None]
    made = schedules(work, work.ranks * np.exp(biases), thrifts)
    best = made.best()
    return Found(made.start_s[best], made.end_s[best], made.slot[best], biases[best], thrifts[best])


def schedules(work: Work, priority: FloatGrid, thrift: FloatGrid) -> Schedules:
    """One for each row of priorities, by task, and of thrift, by slot."""
    many, size = priority.shape
    rows = np.arange(many)
    start, end = np.zeros((many, size)), np.zeros((many, size))
    slot = np.zeros((many, size), np.intp)
    free = np.repeat(work.free_s[None], many, axis=0)
    # What stands in for no task has a column of its own.
    ready = np.repeat(np.append(work.ready_s, 0.0)[None], many, axis=0)
    left = np.repeat(np.append((work.before < size).sum(axis=1), size + 1)[None], many, axis=0)
    open_ = left[:, :size] == 0
    for _ in range(size):
        whose, task = np.nonzero(open_)
        seconds = work.seconds[task]
        begin = np.maximum(free[whose], ready[whose, task][:, None])
        ends = begin + seconds
        at = (ends + thrift[whose] * seconds).argmin(axis=1)
        pairs = np.arange(len(task))
        ends, begin = ends[pairs, at], begin[pairs, at]
        first = np.searchsorted(whose, rows)
        soonest = np.minimum.reduceat(ends, first)
        contested = np.empty(many, np.intp)
        ahead = _first_of(whose, ends == soonest[whose])
        contested[whose[ahead]] = at[ahead]
        compete = (at == contested[whose]) & (begin < soonest[whose])
        compete[ahead] = True
        rank = np.where(compete, priority[whose, task], -np.inf)
        chosen = _first_of(whose, rank == np.maximum.reduceat(rank, first)[whose])
        one = task[chosen]
        start[rows, one], end[rows, one], slot[rows, one] = begin[chosen], ends[chosen], at[chosen]
        free[rows, at[chosen]] = ends[chosen]
        open_[rows, one] = False
        after = work.after[one]
        wide = rows[:, None]
        ready[wide, after] = np.maximum(ready[wide, after], ends[chosen][:, None])
        left[wide, after] -= 1
        mine, came = np.nonzero(left[wide, after] == 0)
        open_[mine, after[mine, came]] = True
    return Schedules(start, end, slot)


def _first_of(whose: NDArray[np.intp], those: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The first of those in each run of `whose`."""
    places = np.flatnonzero(those)
    return places[np.unique(whose[places], return_index=True)[1]]


def _changes(stream: int, turn: int, many: int, size: int) -> FloatGrid:
    """What each schedule changes, from nothing in the first to most in the last: one of them everything, the
    next few things twice as much."""
    stride = _STRIDE * np.arange(many) / many
    few = np.arange(many) % 2 == 1
    which, how = _chances(stream, turn, (2, many, size))
    changes = (np.where(few, 2.0, 1.0) * stride)[:, None] * quantile(how)
    found: FloatGrid = np.where(which < np.where(few, _FEW, 1.0)[:, None], changes, 0.0)
    return found


_RANKS, _THRIFT = range(2)
"""Streams of chance."""


def _chances(stream: int, turn: int, shape: tuple[int, ...]) -> FloatGrid:
    """Numbers between 0 and 1 that look like chance: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    state = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64((2 * turn + stream) << 32)
    state *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    state ^= state >> np.uint64(31)
    chances: FloatGrid = (state >> np.uint64(11)).astype(np.float64).reshape(shape)
    return (chances + 0.5) / 2.0**53
