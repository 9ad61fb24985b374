"""Upward ranks: what still lies between the start of a task and the end of its DAG (Topcuoglu, Hariri and Wu,
IEEE TPDS 13(3), 2002, section 4.1).

The rank of a task is its own mean duration plus the longest of what follows it, transfers included; it is the
best known priority for lists of dependent tasks. Ranks are those of the estimates at hand, and are renewed as
these change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from coordinator.core.lifecycle import TERMINAL
from coordinator.core.model import Task

RANKED_AT_ONCE: Final = 5_000
"""Tasks between two pauses."""


def upward_ranks(
    tasks: Sequence[Task],
    duration_s: Callable[[Task], float],
    transfer_s: Callable[[int, int], float],
) -> Iterator[list[float]]:
    """By index, in seconds; tasks that have ended have 0. The list is complete when the iterator ends, and
    pauses now and then on the way: the tasks that come meanwhile are left out. `transfer_s(before, after)` is
    the time that data takes between two agents.
    """
    size = len(tasks)
    ranks = [0.0] * size
    for done, index in enumerate(range(size - 1, -1, -1), 1):
        task = tasks[index]
        if task.state not in TERMINAL:
            follows = 0.0
            for after in task.successors:
                if after < size:
                    follows = max(follows, transfer_s(index, after) + ranks[after])
            ranks[index] = duration_s(task) + follows
        if done % RANKED_AT_ONCE == 0:
            yield ranks
    yield ranks
