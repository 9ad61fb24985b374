"""Who goes in a round of many tasks: the first in line, counted by class."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from itertools import chain
from typing import Final

import numpy as np

from coordinator.scheduling.plans.claims import Claims
from coordinator.scheduling.work.order import STARVATION_S, Place, place_in_line
from coordinator.scheduling.work.waiting import TaskClass, WaitingTask

Some = tuple[TaskClass, list[WaitingTask]]
"""The first tasks of a class."""


def most_urgent(classes: Sequence[TaskClass], most: int, now_ms: int, claims: Claims) -> list[Some]:
    """The first `most` tasks in line, by class: the class of the first of them first."""
    if claims.counted or any(one.profile.deadline_ms or _starves(one, now_ms) for one in classes):
        return _in_turns(classes, most, now_ms, claims)
    counts = _counts_by_level(classes, most)
    chosen = [(one, one.tasks[:count]) for one, count in zip(classes, counts, strict=True) if count]
    chosen.sort(key=lambda some: place_in_line(some[0].profile, some[1][0], 0.0, now_ms))
    return chosen


def _in_turns(classes: Sequence[TaskClass], most: int, now_ms: int, claims: Claims) -> list[Some]:
    """One after the other, each namespace holding what went before as it goes. Those that would break a quota
    are not among them."""
    heads: list[tuple[Place, int, int]] = [
        (place_in_line(one.profile, one.tasks[0], claims.share(one.owner), now_ms), at, 0)
        for at, one in enumerate(classes)
    ]
    heapify(heads)
    counts: dict[int, int] = {}
    while heads and most > 0:
        place, at, next_one = heads[0]
        members = classes[at]
        owner, profile, tasks = members.owner, members.profile, members.tasks
        share = claims.share(owner)
        if claims.refused(owner, profile):
            heappop(heads)
        elif share > place[1]:
            heapreplace(heads, ((place[0], share, *place[2:]), at, next_one))
        else:
            claims.take(owner, profile)
            most -= 1
            counts[at] = end = next_one + 1
            if end < len(tasks):
                place = place_in_line(profile, tasks[end], claims.share(owner), now_ms)
                heapreplace(heads, (place, at, end))
            else:
                heappop(heads)
    return [(classes[at], classes[at].tasks[:count]) for at, count in counts.items()]


def _starves(members: TaskClass, now_ms: int) -> bool:
    """Whether any of its tasks may have waited long enough for a higher level."""
    return now_ms - members.oldest_ms > STARVATION_S * 1_000


def _counts_by_level(classes: Sequence[TaskClass], most: int) -> list[int]:
    """As many of each, where priority, order and key alone decide: level by level."""
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
