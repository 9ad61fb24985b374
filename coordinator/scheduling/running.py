"""The attempts that agents hold, in time: when each slot is free again.

Attempts have columns, so that a look at all of them is a handful of vector operations, whatever their number.
What an attempt may still take follows from how long it has run: the longer than expected, the longer it will
go on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduling.agents import AgentTable, BoolRow, FloatRow
from coordinator.scheduling.chance import remaining
from coordinator.scheduling.estimates import Expectation

_FIRST_ATTEMPTS: Final = 256
_NOWHERE: Final = -1

_FRESH_S: Final = 0.02
"""Waits are computed anew once they are this old; until then an agent's own is renewed where it changes."""


class Live(NamedTuple):
    """An attempt with an agent: its place in the columns, the work that it was expected to be at speed 1, and
    when it began (None: it has not said so)."""

    place: int
    row: int
    work: Expectation
    began_s: float | None


class Running:
    """Per attempt (`place`): its agent's row, the logarithm of its expected duration there, and since when."""

    def __init__(self, agents: AgentTable) -> None:
        self._agents = agents
        self._live: dict[tuple[int, int], Live] = {}
        self._tasks: dict[int, int] = {}
        self._vacant: list[int] = []
        self._used = 0
        self._row: NDArray[np.int64] = np.full(_FIRST_ATTEMPTS, _NOWHERE)
        self._log_mean: FloatRow = np.zeros(_FIRST_ATTEMPTS)
        self._sigma: FloatRow = np.zeros(_FIRST_ATTEMPTS)
        self._since: FloatRow = np.zeros(_FIRST_ATTEMPTS)
        self._began: BoolRow = np.zeros(_FIRST_ATTEMPTS, np.bool_)
        self._waits: FloatRow = np.zeros(0)
        self._waits_at = -np.inf
        self._stale = True

    def __len__(self) -> int:
        return len(self._live)

    def get(self, key: int, attempt: int) -> Live | None:
        """The attempt, if an agent holds it."""
        return self._live.get((key, attempt))

    def holds(self, key: int) -> bool:
        """Whether any attempt of this task is with an agent."""
        return key in self._tasks

    def shares(self, key: int) -> bool:
        """Whether several attempts of this task are with agents."""
        return self._tasks.get(key, 0) > 1

    def items(self) -> list[tuple[tuple[int, int], Live]]:
        """All of them, by (key, attempt)."""
        return list(self._live.items())

    def hold(
        self, key: int, attempt: int, row: int, work: Expectation, speed: float, spread: float, now_s: float
    ) -> None:
        """The agent has been given this attempt. `speed` is its expected one, `spread` that of its
        logarithm."""
        place = self._vacant.pop() if self._vacant else self._next_place()
        self._live[key, attempt] = Live(place, row, work, None)
        self._tasks[key] = self._tasks.get(key, 0) + 1
        self._row[place] = row
        self._log_mean[place] = work.log_mean - np.log(speed)
        self._sigma[place] = np.hypot(work.sigma, spread)
        self._since[place] = now_s
        self._began[place] = False
        self._stale = True

    def begin(self, key: int, attempt: int, at_s: float) -> None:
        """The agent has begun with it."""
        live = self._live.get((key, attempt))
        if live is not None:
            self._live[key, attempt] = live._replace(began_s=at_s)
            self._since[live.place] = at_s
            self._began[live.place] = True
            self._stale = True

    def release(self, key: int, attempt: int) -> Live | None:
        """The agent has it no more; returns what it was."""
        live = self._live.pop((key, attempt), None)
        if live is not None:
            self._tasks[key] -= 1
            if not self._tasks[key]:
                del self._tasks[key]
            self._row[live.place] = _NOWHERE
            self._vacant.append(live.place)
            self._stale = True
        return live

    def left(self, now_s: float) -> FloatRow:
        """By place, the seconds that an attempt is still expected to take; all of it for those that have not
        begun."""
        used = slice(0, self._used)
        elapsed = np.where(self._began[used], now_s - self._since[used], 0.0)
        return remaining(self._log_mean[used], self._sigma[used], elapsed)

    def waits(self, now_s: float) -> FloatRow:
        """By agent row, the seconds until a slot is expected to be free; 0 where one is. The caller's to
        write to."""
        if self._stale or now_s - self._waits_at > _FRESH_S or now_s < self._waits_at:
            self._waits = self._compute(now_s)
            self._waits_at = now_s
            self._stale = False
        return self._waits.copy()

    def _compute(self, now_s: float) -> FloatRow:
        agents = self._agents
        size = agents.size
        if not self._live:
            return np.zeros(size)
        rows = self._row[: self._used]
        held = np.flatnonzero(rows != _NOWHERE)
        rows, left, began = rows[held], self.left(now_s)[held], self._began[held]
        first = np.full(size, np.inf)
        np.minimum.at(first, rows[began], left[began])
        total = np.bincount(rows, left, minlength=size)
        queued = np.bincount(rows[~began], left[~began], minlength=size)
        slots = agents.slots[:size]
        behind = np.where(np.isfinite(first), first + queued / slots, total / slots)
        waits: FloatRow = np.where(agents.held[:size] < slots, 0.0, behind)
        return waits

    def _next_place(self) -> int:
        if self._used == len(self._row):
            for name in ("_row", "_log_mean", "_sigma", "_since", "_began"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
            self._row[self._used :] = _NOWHERE
        self._used += 1
        return self._used - 1
