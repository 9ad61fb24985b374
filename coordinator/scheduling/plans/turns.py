"""Who goes in a round of many tasks: the first in line, counted by class."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from itertools import chain
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduling.agents.rows import IntRow
from coordinator.scheduling.plans.claims import Claims
from coordinator.scheduling.tasks.order import Place, place_in_line
from coordinator.scheduling.tasks.waiting import WaitingTable, WaitingTask


class Line(NamedTuple):
    """The first tasks of classes: the rows of these in `WaitingTable.columns`, the class of the first task
    first, and how many of each."""

    rows: NDArray[np.intp]
    counts: IntRow


def most_urgent(
    waiting: WaitingTable, rows: NDArray[np.intp], most: int, now_ms: int, claims: Claims
) -> Line:
    """The first `most` tasks in line, of the classes in these rows."""
    columns = waiting.columns
    if claims.counted or columns["steady_ms"][rows].min(initial=now_ms) < now_ms:
        return _in_turns(waiting, rows, most, now_ms, claims)
    levels = columns["level"][rows]
    lines: list[Line] = []
    for level in np.unique(levels).tolist():
        lines.append(_first_of_level(waiting, rows[levels == level], most))
        most -= int(lines[-1].counts.sum())
        if most <= 0:
            break
    return Line(*map(np.concatenate, zip(*lines, strict=True))) if lines else Line(rows, rows)


def _first_of_level(waiting: WaitingTable, rows: NDArray[np.intp], most: int) -> Line:
    """The same of classes of one priority, where order and key alone decide."""
    columns = waiting.columns
    orders = columns["order_ms"][rows]
    if len(rows) > most:
        # Of a class whose first task is not among the first of all classes, none is.
        near = orders <= np.partition(orders, most - 1)[most - 1]
        rows, orders = rows[near], orders[near]
    rows = rows[np.lexsort((columns["key"][rows], orders))[:most]]
    counts = columns["count"][rows]
    if counts.sum() > most:
        queues = [waiting.by_row[row].tasks for row in rows.tolist()]
        counts = np.array(_counts_of_first(queues, most))
        rows, counts = rows[counts > 0], counts[counts > 0]
    return Line(rows, counts)


def _in_turns(waiting: WaitingTable, rows: NDArray[np.intp], most: int, now_ms: int, claims: Claims) -> Line:
    """One after the other, each namespace holding what went before as it goes. Those that would break a quota
    are not among them."""
    classes = [waiting.by_row[row] for row in rows.tolist()]
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
    firsts, taken = np.fromiter(counts, np.intp), np.fromiter(counts.values(), np.int64)
    return Line(rows[firsts], taken)


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
