"""What is left to do of a few DAGs, and in which slots, as a search for schedules sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import Task
from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.costs.pricing import Prices
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.plans.search import NEVER_S, FloatGrid, IntGrid, Work

SLOTS_SEARCHED: Final = 64

_MOST_PER_S: Final = 10.0
"""Tasks that end in a second, if all slots are at those that are left: where it is more, searches would take
too much of the leader's time."""


class Outlook(NamedTuple):
    """The tasks that are left, with the seconds of work of each, as one round sees them; the agent's row of
    each slot, and what schedules are made of."""

    around: Round
    policy: Policy
    tasks: Sequence[Task]
    work_s: FloatRow
    rows: NDArray[np.intp]
    work: Work


def look_out(around: Round, policy: Policy, prices: Prices, tasks: Sequence[Task]) -> Outlook | None:
    """None if there are no slots, or too many, if a task could go to none of them, or if tasks are brief."""
    snapshot = around.snapshot
    rows, free_s = _slots(around)
    if not 0 < len(rows) <= SLOTS_SEARCHED:
        return None
    work_s: FloatRow = np.array([snapshot.work_s(one.profile, one.key, one.hint) for one in tasks])
    seconds = _seconds(policy, prices, tasks, work_s, rows)
    least = seconds.min(axis=1)
    if least.max() >= NEVER_S or len(rows) > _MOST_PER_S * least.mean():
        return None
    return Outlook(around, policy, tasks, work_s, rows, _work(around, tasks, seconds, free_s))


def _slots(around: Round) -> tuple[NDArray[np.intp], FloatRow]:
    """Of agents that take tasks: by slot, the row and the seconds until it is free."""
    ledger = around.ledger
    slots = np.where(ledger.accepting, np.minimum(ledger.slots, ledger.credit), 0)
    rows: NDArray[np.intp] = np.repeat(np.arange(len(slots)), slots)
    if len(rows) > SLOTS_SEARCHED:
        return rows, np.zeros(0)
    ends = [around.slot_ends(row, slots.item(row)) for row in np.flatnonzero(slots).tolist()]
    return rows, np.array([end for some in ends for end in some])


def _seconds(
    policy: Policy, prices: Prices, tasks: Sequence[Task], work_s: FloatRow, rows: NDArray[np.intp]
) -> FloatGrid:
    """By task and slot, attempts that come to nothing included."""
    price = np.array(
        [
            prices.of_class(policy, task.profile, seconds)[1][rows]
            for task, seconds in zip(tasks, work_s.tolist(), strict=True)
        ]
    )
    seconds = price * work_s[:, None] / policy.weights.time
    found: FloatGrid = np.where(np.isfinite(seconds), seconds, NEVER_S)
    return found


def _work(around: Round, tasks: Sequence[Task], seconds: FloatGrid, free_s: FloatRow) -> Work:
    snapshot, size = around.snapshot, len(tasks)
    at = {task.key: number for number, task in enumerate(tasks)}
    before: list[list[int]] = [[] for _ in tasks]
    after: list[list[int]] = [[] for _ in tasks]
    ready_s, ranks = np.zeros(size), np.zeros(size)
    now_ms = round(around.now_s * 1_000)
    for number, task in enumerate(tasks):
        graph = snapshot.graphs.of(task.key)
        assert graph is not None
        ranks[number] = graph.rank(task.index)
        ready_s[number] = max(task.not_before_ms - now_ms, 0) / 1_000
        for index in task.depends if task.waiting else ():
            key = graph.dag.tasks[index].key
            if key in at:
                before[number].append(at[key])
                after[at[key]].append(number)
            elif (end := snapshot.running.ends(key, around.now_s)) is not None:
                ready_s[number] = max(ready_s.item(number), end[1])
    return Work(seconds, _filled(before, size), _filled(after, size), ready_s, free_s, ranks)


def _filled(rows: list[list[int]], filler: int) -> IntGrid:
    """As an array, shorter rows filled up."""
    wide: IntGrid = np.full((len(rows), max(1, *map(len, rows))), filler, np.intp)
    for at, row in enumerate(rows):
        wide[at, : len(row)] = row
    return wide
