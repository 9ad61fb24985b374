"""Who goes first: by priority, then by the share that a namespace has had, then by what hangs on a task.

Waiting makes up for a lower priority, one level for every `STARVATION_S`, and slowly for a lower rank: nobody
waits for ever. A deadline counts as soon as it is near.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from itertools import chain
from typing import Final

import numpy as np

from coordinator.core.model import Priority, TaskProfile
from coordinator.scheduling.waiting import AGEING, TaskClass, WaitingTask

STARVATION_S: Final = 3_600.0
"""Whoever has waited so long goes with the next higher priority."""

_DEADLINE_S: Final = 60.0
"""A deadline begins to count when a task has less than this to spare, or less than its rank."""

Place = tuple[int, float, float, int]
"""In a line, lower going first: level, share, when the task became ready less what hangs on it in
milliseconds, key."""

Some = tuple[TaskClass, list[WaitingTask]]
"""The first tasks of a class."""


def place_in_line(profile: TaskProfile, task: WaitingTask, share: float, now_ms: int) -> Place:
    """Where a task stands. `share` is what its namespace has, in seconds of work by its weight."""
    level = int(profile.priority)
    waited_ms = now_ms - task.ready_ms
    if waited_ms > STARVATION_S * 1_000:
        level = min(level + int(waited_ms / (STARVATION_S * 1_000)), int(Priority.URGENT))
    order: float = task.order_ms
    if profile.deadline_ms:
        order -= _pressure(profile.deadline_ms, task.rank_s, now_ms) / AGEING * 1_000
    return -level, share, order, task.key


def _pressure(deadline_ms: int, rank_s: float, now_ms: int) -> float:
    """Grows from 0 to the horizon, as what can be spared before the deadline goes down to nothing."""
    horizon_s = max(_DEADLINE_S, rank_s)
    spare_s = (deadline_ms - now_ms) / 1_000 - rank_s
    return min(max(horizon_s - spare_s, 0.0), horizon_s)


def most_urgent(classes: Sequence[TaskClass], most: int, now_ms: int) -> list[Some]:
    """The first `most` tasks in line, by class: the class of the first of them first."""
    if any(one.profile.deadline_ms or _starves(one, now_ms) for one in classes):
        counts = _counts_in_line(classes, most, now_ms)
    else:
        counts = _counts_by_level(classes, most)
    chosen = [(one, one.tasks[:count]) for one, count in zip(classes, counts, strict=True) if count]
    chosen.sort(key=lambda some: place_in_line(some[0].profile, some[1][0], 0.0, now_ms))
    return chosen


def _starves(members: TaskClass, now_ms: int) -> bool:
    """Whether any of its tasks may have waited long enough for a higher level."""
    return now_ms - members.oldest_ms > STARVATION_S * 1_000


def _counts_in_line(classes: Sequence[TaskClass], most: int, now_ms: int) -> list[int]:
    """One task after the other, as `place_in_line` has it."""
    heads: list[tuple[Place, int]] = [
        (place_in_line(one.profile, one.tasks[0], 0.0, now_ms), at) for at, one in enumerate(classes)
    ]
    heapify(heads)
    counts = [0] * len(classes)
    while heads and most > 0:
        at = heads[0][1]
        tasks = classes[at].tasks
        counts[at] += 1
        most -= 1
        if counts[at] < len(tasks):
            place = place_in_line(classes[at].profile, tasks[counts[at]], 0.0, now_ms)
            heapreplace(heads, (place, at))
        else:
            heappop(heads)
    return counts


def _counts_by_level(classes: Sequence[TaskClass], most: int) -> list[int]:
    """The same where priority, order and key alone decide: level by level."""
    levels: dict[int, list[int]] = {}
    for at, one in enumerate(classes):
        levels.setdefault(int(one.profile.priority), []).append(at)
    counts = [0] * len(classes)
    for level in sorted(levels, reverse=True):
        within = levels[level]
        for at, count in zip(
            within, _counts_of_first([classes[at].tasks for at in within], most), strict=True
        ):
            counts[at] = count
            most -= count
        if most <= 0:
            break
    return counts


def _counts_of_first(queues: Sequence[Sequence[WaitingTask]], most: int) -> list[int]:
    """How many of each queue, sorted all of them, are among the first `most` of all: those up to a threshold
    that is found on as much of each as reaches beyond it."""
    sizes = [len(queue) for queue in queues]
    if sum(sizes) <= most:
        return sizes
    lengths = [min(size, _LOOKED_AT + 2 * most // len(queues)) for size in sizes]
    while True:
        heads = [queue[:length] for queue, length in zip(queues, lengths, strict=True)]
        last = _nth(heads, most) if sum(lengths) >= most else None
        short = [
            at
            for at, length in enumerate(lengths)
            if length < sizes[at] and (last is None or queues[at][length - 1] <= last)
        ]
        if not short:
            break
        for at in short:
            lengths[at] = min(sizes[at], 4 * lengths[at])
    assert last is not None
    return [bisect_right(queue, last, hi=length) for queue, length in zip(queues, lengths, strict=True)]


def _nth(queues: Sequence[Sequence[WaitingTask]], nth: int) -> WaitingTask:
    """The `nth` of all of them, from 1, in the order of `order_ms` and key."""
    orders = np.array([task.order_ms for queue in queues for task in queue])
    threshold = np.partition(orders, nth - 1)[nth - 1]
    rest = nth - int((orders < threshold).sum())
    tasks = list(chain.from_iterable(queues))
    at: list[int] = (orders == threshold).nonzero()[0].tolist()
    equal = [tasks[one] for one in at]
    keys = np.array([task.key for task in equal])
    last: int = np.argpartition(keys, rest - 1).item(rest - 1)
    return equal[last]


_LOOKED_AT: Final = 8
"""Tasks of each class that are looked at first, beside their share of twice the round."""
