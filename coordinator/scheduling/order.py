"""Who goes first: by priority, then by the share that a namespace has had, then by what hangs on a task.

Waiting makes up for a lower priority, one level for every `STARVATION_S`, and slowly for a lower rank: nobody
waits for ever. A deadline counts as soon as it is near.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from coordinator.core.model import Priority, TaskProfile
from coordinator.scheduling.waiting import AGEING, TaskClass, WaitingTask

STARVATION_S: Final = 600.0
"""Whoever has waited so long goes with the next higher priority."""

_DEADLINE_S: Final = 60.0
"""A deadline begins to count when a task has less than this to spare, or less than its rank."""


class Rank(NamedTuple):
    """Lower goes first."""

    level: int
    share: float
    score: float
    ready_ms: int
    key: int


def rank_of(
    profile: TaskProfile, rank_s: float, ready_ms: int, key: int, share: float, now_ms: int
) -> Rank:
    """Where a task stands. `share` is what its namespace has, in seconds of work by its weight."""
    waited_s = max(0, now_ms - ready_ms) / 1_000
    level = min(int(profile.priority) + int(waited_s / STARVATION_S), int(Priority.URGENT))
    score = rank_s + AGEING * waited_s
    if profile.deadline_ms:
        score += _pressure(profile.deadline_ms, rank_s, now_ms)
    return Rank(-level, share, -score, ready_ms, key)


def head_rank(members: TaskClass, task: WaitingTask, share: float, now_ms: int) -> Rank:
    """Where the first task of a class stands."""
    return rank_of(members.profile, task.rank_s, task.ready_ms, task.key, share, now_ms)


def _pressure(deadline_ms: int, rank_s: float, now_ms: int) -> float:
    """Grows from 0 to the horizon, as what can be spared before the deadline goes down to nothing."""
    horizon_s = max(_DEADLINE_S, rank_s)
    spare_s = (deadline_ms - now_ms) / 1_000 - rank_s
    return min(max(horizon_s - spare_s, 0.0), horizon_s)
