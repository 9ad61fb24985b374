"""What the leader does when a time has come: wake delayed tasks, expire attempts, give up lost agents.

The state machine decides whether it still applies; a timer that comes late, or twice, changes nothing.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Final, TypeVar

from coordinator.core.commands import Command, ExpireAttempts, LoseAgents, WakeTasks
from coordinator.defects import Defects
from coordinator.replica.clock import Clock

_T = TypeVar("_T")

_LONGEST_SLEEP_S: Final = 1.0
"""The wall clock may be set: look at it this often at the least."""

_ITEMS_PER_COMMAND: Final = 1_000

_FEW: Final = 10_000
"""Attempts that are watched for their timeout without looking which of them have ended."""


class Timers:
    """Due times in Unix ms. `fire` takes the commands that are due; `runs` says whether an attempt, named by
    its task's key and its number, has not ended. What has ended is forgotten when it has become as much as
    what has not, so that memory goes by what runs and not by how long it may."""

    def __init__(
        self,
        clock: Clock,
        fire: Callable[[Command], None],
        runs: Callable[[int, int], bool],
        defects: Defects | None = None,
    ) -> None:
        self._clock = clock
        self._fire = fire
        self._runs = runs
        self._defects = defects or Defects()
        self._look_at = _FEW
        """With so many attempts, see which have ended."""
        self._order = count()
        self._wakes: list[tuple[int, int, int]] = []
        self._expiries: list[tuple[int, int, tuple[int, int]]] = []
        self._losses: list[tuple[int, int, tuple[str, int]]] = []
        self._handle: asyncio.TimerHandle | None = None
        # Kept beside it: what uvloop gives for a time that has come already does not know its own.
        self._armed_for = 0.0
        self._stopped = False

    def wake_at(self, due_ms: int, key: int) -> None:
        """The delay before the task's next attempt ends then."""
        heapq.heappush(self._wakes, (due_ms, next(self._order), key))
        self._arm()

    def expire_at(self, due_ms: int, key: int, attempt: int) -> None:
        """The attempt's timeout ends then."""
        heapq.heappush(self._expiries, (due_ms, next(self._order), (key, attempt)))
        if len(self._expiries) >= self._look_at:
            self._expiries = [one for one in self._expiries if self._runs(*one[2])]
            heapq.heapify(self._expiries)
            self._look_at = max(_FEW, 2 * len(self._expiries))
        self._arm()

    def lose_at(self, due_ms: int, agent: str, epoch: int) -> None:
        """The agent is lost then, unless it has opened a session after `epoch`."""
        heapq.heappush(self._losses, (due_ms, next(self._order), (agent, epoch)))
        self._arm()

    def stop(self) -> None:
        """Nothing fires any more."""
        self._stopped = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        heads = [heap[0][0] for heap in (self._wakes, self._expiries, self._losses) if heap]
        if not heads or self._stopped:
            return
        loop = asyncio.get_running_loop()
        delay = min(max(min(heads) - self._clock.now_ms(), 0) / 1000, _LONGEST_SLEEP_S)
        due = loop.time() + delay
        if self._handle is not None:
            if self._armed_for <= due:
                return
            self._handle.cancel()
        self._handle, self._armed_for = loop.call_at(due, self._run), due

    def _run(self) -> None:
        self._handle = None
        with self._defects.vital("timers"):
            self._fire_due(self._clock.now_ms())
        self._arm()

    def _fire_due(self, now_ms: int) -> None:
        for keys in _due(self._wakes, now_ms):
            self._fire(WakeTasks(keys))
        for attempts in _due(self._expiries, now_ms):
            if running := [one for one in attempts if self._runs(*one)]:
                self._fire(ExpireAttempts(running))
        for agents in _due(self._losses, now_ms):
            self._fire(LoseAgents(agents, "its agent was lost"))


def _due(heap: list[tuple[int, int, _T]], now_ms: int) -> list[list[_T]]:
    items: list[_T] = []
    while heap and heap[0][0] <= now_ms:
        items.append(heapq.heappop(heap)[2])
    return [items[at : at + _ITEMS_PER_COMMAND] for at in range(0, len(items), _ITEMS_PER_COMMAND)]
