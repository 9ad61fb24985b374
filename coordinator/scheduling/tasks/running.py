"""The attempts that agents hold, in time: when each slot is free again. Brief ones are not among them: of
those the seconds that an agent holds are enough.

Attempts have columns, so that a look at all of them is a handful of vector operations, whatever their number.
What an attempt may still take follows from how long it has run: the longer than expected, the longer it will
go on.
"""

from __future__ import annotations

import math
from collections.abc import ItemsView
from itertools import islice
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.core.kinds import kind_of
from coordinator.core.model import INDEX_BITS, TaskProfile
from coordinator.scheduling.agents.rows import BoolRow, FloatRow
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.learning.chance import remaining
from coordinator.scheduling.learning.estimates import Estimates
from coordinator.scheduling.learning.expectation import Expectation

_FIRST_ATTEMPTS: Final = 256
_NOWHERE: Final = -1

_RENEWED_AT_ONCE: Final = 500
_RENEWED_AT_LEAST: Final = 32
_RENEWED_PER_TASK: Final = 0.5
"""Attempts that are expected anew in one decision, per task that the one before has placed: so each is about
once or more often while it lasts, and this takes a small part of what it takes to place them."""

_LEAST_SIGMA: Final = 0.1
"""Of the logarithm: whatever is known of a kind, an attempt that lasts a third longer does not hang."""

_FRESH_S: Final = 0.02
"""Waits are computed anew once they are this old, or an attempt that is followed comes, begins or goes."""


class Live(NamedTuple):
    """An attempt with an agent: its place in the columns, what it is, and when it began (None: it has not
    said so)."""

    place: int
    row: int
    profile: TaskProfile
    hint: int
    began_s: float | None


class Running:
    """Per attempt (`place`): its agent's row, the logarithm of its expected duration there, and since
    when."""

    def __init__(self, agents: AgentTable, estimates: Estimates) -> None:
        self._agents = agents
        self._estimates = estimates
        self._renewed = estimates.version
        self._behind = 0
        """Attempts that are not yet expected to end as the latest estimates have it."""
        self._live: dict[tuple[int, int], Live] = {}
        """Those first that were longest not expected anew."""
        self._tasks: dict[int, list[int]] = {}
        """The attempts of each task."""
        self._shared: dict[int, None] = {}
        """Tasks of which several attempts are with agents."""
        self._vacant: list[int] = []
        self._used = 0
        self._row: NDArray[np.int64] = np.full(_FIRST_ATTEMPTS, _NOWHERE)
        self._log_mean: FloatRow = np.zeros(_FIRST_ATTEMPTS)
        self._sigma: FloatRow = np.zeros(_FIRST_ATTEMPTS)
        self._since: FloatRow = np.zeros(_FIRST_ATTEMPTS)
        self._nominal: FloatRow = np.zeros(_FIRST_ATTEMPTS)
        """The seconds that an attempt counts for in what its agent holds."""
        self._began: BoolRow = np.zeros(_FIRST_ATTEMPTS, np.bool_)
        self._waits: FloatRow = np.zeros(0)
        self._waits_at = -np.inf
        self._waits_of = -1
        self._stale = True
        self._left: FloatRow = np.zeros(0)
        self._left_at = -np.inf
        self._stale_left = True

    def __len__(self) -> int:
        return len(self._live)

    def get(self, key: int, attempt: int) -> Live | None:
        """The attempt, if an agent holds it."""
        return self._live.get((key, attempt))

    def holds(self, key: int) -> bool:
        """Whether any attempt of this task is with an agent."""
        return key in self._tasks

    def shared(self) -> dict[int, list[tuple[int, Live]]]:
        """Tasks of which several attempts are with agents: by key, (number, attempt)."""
        return {
            key: [(number, self._live[key, number]) for number in self._tasks[key]] for key in self._shared
        }

    def attempts(self, key: int) -> list[int]:
        """The numbers of a task's attempts that are with agents."""
        return self._tasks.get(key, [])

    def ends(self, key: int, now_s: float) -> tuple[int, float] | None:
        """Where a task is expected to end first, as a row, and in how many seconds; None if no agent has
        it."""
        numbers = self._tasks.get(key)
        if not numbers:
            return None
        live = [self._live[key, number] for number in numbers]
        left, row = min((self.left_of(one, now_s), one.row) for one in live)
        return row, left

    def items(self) -> ItemsView[tuple[int, int], Live]:
        """All of them, by (key, attempt)."""
        return self._live.items()

    def hold(
        self,
        key: int,
        attempt: int,
        row: int,
        profile: TaskProfile,
        hint: int,
        seconds: float,
        now_s: float,
    ) -> None:
        """The agent in this row has been given this attempt, which counts for so many seconds there."""
        place = self._vacant.pop() if self._vacant else self._next_place()
        live = self._live[key, attempt] = Live(place, row, profile, hint, None)
        attempts = self._tasks.setdefault(key, [])
        attempts.append(attempt)
        if len(attempts) > 1:
            self._shared[key] = None
        self._row[place] = row
        self._since[place] = now_s
        self._nominal[place] = seconds
        self._began[place] = False
        self._expect(key, live)
        self._stale = self._stale_left = True

    def begin(self, key: int, attempt: int, at_s: float) -> None:
        """The agent has begun with it."""
        live = self._live.get((key, attempt))
        if live is not None:
            self._live[key, attempt] = live._replace(began_s=at_s)
            self._since[live.place] = at_s
            self._began[live.place] = True
            self._stale = self._stale_left = True

    def release(self, key: int, attempt: int) -> Live | None:
        """The agent has it no more; returns what it was."""
        live = self._live.pop((key, attempt), None)
        if live is not None:
            attempts = self._tasks[key]
            attempts.remove(attempt)
            if len(attempts) < 2:
                self._shared.pop(key, None)
            if not attempts:
                del self._tasks[key]
            self._row[live.place] = _NOWHERE
            self._vacant.append(live.place)
            self._stale = self._stale_left = True
        return live

    def renew(self, placed: int) -> None:
        """Expect of what runs what is known by now: of a bounded number at once, where decisions place so
        many tasks."""
        if self._renewed != self._estimates.version:
            self._renewed, self._behind = self._estimates.version, len(self._live)
        most = max(_RENEWED_AT_LEAST, min(_RENEWED_AT_ONCE, round(_RENEWED_PER_TASK * placed)))
        count = min(self._behind, most, len(self._live))
        if not count:
            return
        self._behind -= count
        self._stale = self._stale_left = True
        for found in list(islice(self._live, count)):
            live = self._live[found] = self._live.pop(found)
            self._expect(found[0], live)

    def work(self, key: int, live: Live) -> Expectation:
        """Of an attempt's task, in seconds at speed 1."""
        kind = kind_of(live.profile, live.hint)
        return self._estimates.work(kind, key >> INDEX_BITS, live.hint)

    def left(self, now_s: float) -> FloatRow:
        """By place, the seconds that an attempt is still expected to take; all of it for those that have not
        begun."""
        return self._left_at_places(slice(0, self._used), now_s)

    def lasts(self, live: Live, now_s: float) -> float:
        """For how long the attempt has run, as a multiple of what was expected; 0 if it has not begun."""
        if live.began_s is None:
            return 0.0
        return max(now_s - live.began_s, 0.0) / math.exp(self._log_mean.item(live.place))

    def sigma(self, live: Live) -> float:
        """The deviation of the logarithm of what was expected, above 0."""
        return max(self._sigma.item(live.place), _LEAST_SIGMA)

    def left_of(self, live: Live, now_s: float) -> float:
        """`left` of one attempt."""
        if self._left_at != now_s or self._stale_left:
            self._left, self._left_at, self._stale_left = self.left(now_s), now_s, False
        return self._left.item(live.place)

    def waits(self, now_s: float) -> FloatRow:
        """By agent row, the seconds until a slot is expected to be free; 0 where one is. The caller's to
        write to."""
        agents = self._agents.latest_version
        fresh = self._waits_of == agents and 0 <= now_s - self._waits_at <= _FRESH_S
        if self._stale or not fresh:
            self._waits = self._compute(now_s)
            self._waits_at, self._waits_of = now_s, agents
            self._stale = False
        # A brief attempt, of which nothing is known here, may have left its slot since.
        return np.where(self._agents.standing().full, self._waits, 0.0)

    def _expect(self, key: int, live: Live) -> None:
        work = self.work(key, live)
        kind = kind_of(live.profile, live.hint)
        log_speed, spread = self._estimates.log_pace(kind, live.row)
        self._log_mean[live.place] = work.log_mean - log_speed
        self._sigma[live.place] = math.hypot(work.sigma, spread)

    def _left_at_places(self, places: slice | NDArray[np.intp], now_s: float) -> FloatRow:
        elapsed = np.where(self._began[places], now_s - self._since[places], 0.0)
        return remaining(self._log_mean[places], self._sigma[places], elapsed)

    def _compute(self, now_s: float) -> FloatRow:
        agents = self._agents
        size = agents.size
        standing = agents.standing()
        if not standing.many_full:
            return np.zeros(size)
        slots, full = agents.slots[:size], standing.full
        if not self._live:
            return np.where(full, agents.held_s[:size] / slots, 0.0)
        rows = self._row[: self._used]
        # Places without an attempt find the last.
        held = np.flatnonzero(np.append(full, [False])[rows])
        rows, left, began = rows[held], self._left_at_places(held, now_s), self._began[held]
        first = np.full(size, np.inf)
        np.minimum.at(first, rows[began], left[began])
        nominal = np.bincount(rows, self._nominal[held], minlength=size)
        total = np.bincount(rows, left, minlength=size)
        queued = np.bincount(rows[~began], left[~began], minlength=size)
        behind = np.where(np.isfinite(first), first + queued / slots, total / slots)
        brief_s = np.maximum(agents.held_s[:size] - nominal, 0.0)
        of_brief = slots - np.bincount(rows, minlength=size)
        """Slots that those leave which last: they are free as soon as the brief attempts there have ended."""
        behind = np.where(of_brief > 0, brief_s / np.maximum(of_brief, 1), behind + brief_s / slots)
        waits: FloatRow = np.where(full, behind, 0.0)
        return waits

    def _next_place(self) -> int:
        if self._used == len(self._row):
            for name in ("_row", "_log_mean", "_sigma", "_since", "_nominal", "_began"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
            self._row[self._used :] = _NOWHERE
        self._used += 1
        return self._used - 1
