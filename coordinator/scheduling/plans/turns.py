"""Who goes in a round of many tasks: the first in line, counted by class."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from itertools import chain
from typing import Final

import numpy as np

from coordinator.scheduling.plans.claims import Claims
from coordinator.scheduling.tasks.order import Place, place_in_line
from coordinator.scheduling.tasks.waiting import TaskClass, WaitingTask, column

Some = tuple[TaskClass, list[WaitingTask]]
"""The first tasks of a class."""


def most_urgent(classes: Sequence[TaskClass], most: int, now_ms: int, claims: Claims) -> list[Some]:
    """The first `most` tasks in line, by class: the class of the first of them first."""
    if claims.counted or min([one.steady_ms for one in classes], default=now_ms) < now_ms:
        return _in_turns(classes, most, now_ms, claims)
    levels = {one.level for one in classes}
    if len(levels) == 1:
        return _first_of_level(classes, most)
    chosen: list[Some] = []
    for level in sorted(levels):
        some = _first_of_level([one for one in classes if one.level == level], most)
        most -= sum([len(tasks) for _, tasks in some])
        chosen += some
        if most <= 0:
            break
    return chosen


def _first_of_level(classes: Sequence[TaskClass], most: int) -> list[Some]:
    """The same of classes of one priority, where order and key alone decide."""
    queues = [one.tasks for one in classes]
    heads = [tasks[0] for tasks in queues]
    order = np.lexsort((column(heads, "key"), column(heads, "order_ms"))).tolist()
    if sum(map(len, queues)) <= most:
        return [(classes[at], queues[at]) for at in order]
    counts = _counts_of_first(queues, most)
    return [(classes[at], queues[at][: counts[at]]) for at in order if counts[at]]


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


def _counts_of_first(queues: Sequence[Sequence[WaitingTask]], most: int) -> list[int]:
    """How many of each queue, sorted all of them, are among the first `most` of all, which are not all of
    them: those up to a threshold that is found on as much of each as reaches beyond it."""
    sizes = list(map(len, queues))
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
