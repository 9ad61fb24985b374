"""Who goes first: by priority, then by the share that a namespace has had, then by what hangs on a task.

Waiting makes up for a lower priority, one level for every `STARVATION_S`, and slowly for a lower rank: nobody
waits for ever. A deadline counts as soon as it is near.
"""

from __future__ import annotations

from typing import Final

from coordinator.core.model import Priority, TaskProfile
from coordinator.scheduling.tasks.waiting import AGEING, STARVATION_S, WaitingTask

_DEADLINE_S: Final = 60.0
"""A deadline begins to count when a task has less than this to spare, or less than its rank."""

Place = tuple[int, float, float, int]
"""In a line, lower going first: level, share, when the task became ready less what hangs on it in
milliseconds, key."""


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
