"""The bank: samples of named series in, forecasts on every horizon out, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import product
from typing import Final, NamedTuple

import numpy as np

from coordinator.forecast.grid import Ahead, Grid
from coordinator.forecast.history import FIRST_ROWS, BoolRow, FloatRow, IntRow
from coordinator.forecast.horizons import Horizon
from coordinator.forecast.scoring import NAIVE

LARGEST: Final = 1e12
"""Samples beyond it are not believed."""

Key = tuple[str, str]
"""An agent, "" for the cluster, and what is measured of it."""


class Outcome(NamedTuple):
    """What was said of a time, and what then happened."""

    target_ms: int
    forecast: float
    naive: float
    actual: float


class Forecast(NamedTuple):
    """What is expected of a series at `target_ms`. `error` and `naive_error` are the mean absolute errors of
    what was said before and of the naive forecast, over the same `scored` outcomes with the latest counting
    most, and NaN before the first."""

    key: Key
    horizon: str
    lead_s: int
    target_ms: int
    model: str
    value: float
    low: float
    high: float
    now: float
    scored: int
    error: float
    naive_error: float
    outcomes: tuple[Outcome, ...]

    @property
    def relative(self) -> float:
        """The error in parts of the naive one's: below 1 is better. NaN if that is 0, or nothing is
        scored."""
        return self.error / self.naive_error if self.naive_error > 0 else math.nan


class Closed(NamedTuple):
    """A step that is over: the values of those series that had one, in the order of `keys`."""

    grid: int
    number: int
    keys: tuple[Key, ...]
    values: FloatRow


class Bank:
    """Up to `max_series` series on the grids of some horizons, ascending. `outside` names models that run
    elsewhere, with the horizon that they serve; `tops` says what a quantity can be at most."""

    def __init__(
        self,
        horizons: tuple[Horizon, ...],
        *,
        max_series: int,
        tops: Mapping[str, float] | None = None,
        outside: Mapping[str, str] | None = None,
    ) -> None:
        names = outside or {}
        self._tops = tops or {}
        self.grids = [
            Grid(horizon, [name for name, at in names.items() if at == horizon.name]) for horizon in horizons
        ]
        self.rows: dict[Key, int] = {}
        self.changes = 0
        """How often a series was added to `rows` or dropped."""
        self.refused = 0
        """Samples that were no numbers, or of series beyond the bound."""
        self._max_series = max_series
        self._quantities: dict[str, None] = {}
        self._order: tuple[BoolRow, tuple[Key, ...], IntRow] | None = None
        self._vacant: list[int] = []
        self._used = 0
        size = (len(horizons), FIRST_ROWS)
        self._sums: FloatRow = np.zeros(size)
        self._counts: FloatRow = np.zeros(size)
        self._last: FloatRow = np.zeros(FIRST_ROWS)
        self._top: FloatRow = np.full(FIRST_ROWS, np.inf)
        self._known: BoolRow = np.zeros(FIRST_ROWS, np.bool_)
        self._open = [-1] * len(horizons)
        """The step of each grid that gathers samples, -1 before the first."""

    # --- samples in -----------------------------------------------------------------------------------------

    def observe(self, samples: Iterable[tuple[Key, float]]) -> None:
        """Take samples, of one moment, into the steps that are open. What is not a number from 0 to what
        the quantity can be, `LARGEST` at the most, is missing."""
        rows, values = [], []
        for key, value in samples:
            row = self._row(key) if 0 <= value <= self._tops.get(key[1], LARGEST) else None
            if row is None:
                self.refused += 1
                continue
            rows.append(row)
            values.append(value)
        if rows:
            at = np.array(rows, np.int64)
            # One series twice in a batch counts twice.
            for sums, counts in zip(self._sums, self._counts, strict=True):
                np.add.at(sums, at, values)
                np.add.at(counts, at, 1.0)
            self._last[rows] = values
            self._known[rows] = True

    def advance(self, now_ms: int, absent: Collection[str] = ()) -> Closed | None:
        """Close a step that is over at `now_ms`; one in a call, as it takes time: those of other grids may
        follow in the next one. A series without a sample in it is what it last was, which is an outcome like
        any other unless its agent is `absent`.

        A clock that goes back finds its step open still, or, if it goes back by more than all that is kept,
        begins anew.
        """
        for at, grid in enumerate(self.grids):
            number, opened = grid.horizon.number(now_ms), self._open[at]
            back = opened - number > grid.past.steps
            if opened < 0 or back:
                self._open[at] = number
                if back:
                    grid.begin_anew()
                    self._sums[at] = self._counts[at] = 0.0
            elif number > opened:
                self._open[at] = number
                if opened > grid.number:
                    return self._close(at, opened, absent)
        return None

    def restore(self, closed: Closed) -> None:
        """Take a step that was closed before, later than those that were restored. An older one is
        ignored."""
        grid = self.grids[closed.grid]
        if closed.number <= grid.number:
            return
        believed = (closed.values >= 0) & (closed.values <= LARGEST)
        found = [
            (row, at) for at in np.flatnonzero(believed) if (row := self._row(closed.keys[at])) is not None
        ]
        rows, at = np.array(found, np.int64).reshape(-1, 2).T
        fresh = np.zeros(len(self._known), np.bool_)
        self._last[rows] = closed.values[at]
        self._known[rows] = fresh[rows] = True
        self._step(grid, closed.number, self._last, fresh)

    def drop(self, keys: Collection[Key]) -> None:
        """Forget these series."""
        for key in keys:
            row = self.rows.pop(key, None)
            if row is None:
                continue
            self._vacant.append(row)
            self.changes += 1
            self._order = None
            self._known[row] = False
            self._sums[:, row] = self._counts[:, row] = self._last[row] = 0.0
            for grid in self.grids:
                grid.clear(row)

    # --- forecasts out --------------------------------------------------------------------------------------

    def forecasts(self, key: Key, horizon: str = "") -> Iterator[Forecast]:
        """All forecasts of a series, or those of one horizon, by distance; none if it is not known."""
        row = self.rows.get(key)
        for grid in self.grids if row is not None else ():
            if horizon in ("", grid.horizon.name) and grid.age(row) > 0:  # type: ignore[arg-type]
                for lead in grid.horizon.leads:
                    yield _forecast(grid, lead, key, row)  # type: ignore[arg-type]

    def proved(self, grid: Grid, lead: int, rows: IntRow) -> FloatRow:
        """What is expected of series of a grid, by row, -1 being none; NaN where no model has been better
        than the naive one."""
        if grid.number < 0:
            return np.full(len(rows), np.nan)
        ahead = grid.ahead(lead)
        at = np.where(rows < len(ahead.model), rows, -1)
        return np.where((at >= 0) & (ahead.model[at] != NAIVE), ahead.value[at], np.nan)

    def past(self, grid: int, keys: Collection[Key]) -> FloatRow:
        """What is kept of some series, one a column, oldest first; as long as the youngest of them is old."""
        history = self.grids[grid].past
        rows = np.array([self.rows[key] for key in keys], np.int64)
        length = int(min(history.age[rows].min(initial=history.steps), history.steps))
        return history.window(length, rows)

    # --- inside ---------------------------------------------------------------------------------------------

    def _close(self, at: int, number: int, absent: Collection[str]) -> Closed:
        sums, counts = self._sums[at], self._counts[at]
        values = np.where(counts > 0, sums / np.maximum(counts, 1.0), self._last)
        fresh = self._known.copy()
        for agent, quantity in product(absent, self._quantities):
            if (row := self.rows.get((agent, quantity))) is not None:
                fresh[row] = False
        sums[:] = counts[:] = 0.0
        self._step(self.grids[at], number, values, fresh)
        keys, rows = self._kept(fresh)
        return Closed(at, number, keys, values[rows])

    def _kept(self, fresh: BoolRow) -> tuple[tuple[Key, ...], IntRow]:
        """The fresh series and their rows; the very same objects as the last time, if those are the same."""
        if self._order is None or not np.array_equal(self._order[0], fresh):
            keys = tuple(key for key, row in self.rows.items() if fresh[row])
            rows = np.fromiter((self.rows[key] for key in keys), np.int64, len(keys))
            self._order = fresh, keys, rows
        return self._order[1:]

    def _row(self, key: Key) -> int | None:
        row = self.rows.get(key)
        if row is None and len(self.rows) < self._max_series:
            if self._vacant:
                row = self._vacant.pop()
            else:
                row, self._used = self._used, self._used + 1
                if self._used > len(self._known):
                    self._grow(min(2 * len(self._known), max(self._max_series, self._used)))
            self.rows[key] = row
            self.changes += 1
            self._quantities[key[1]] = None
            self._order = None
            self._top[row] = self._tops.get(key[1], np.inf)
        return row

    def _grow(self, size: int) -> None:
        """Make room here. Each grid follows at its next step, as that takes time: they have theirs at
        different times."""
        more = size - len(self._known)
        self._sums = np.pad(self._sums, ((0, 0), (0, more)))
        self._counts = np.pad(self._counts, ((0, 0), (0, more)))
        self._last = np.pad(self._last, (0, more))
        self._top = np.pad(self._top, (0, more), constant_values=np.inf)
        self._known = np.pad(self._known, (0, more))

    def _step(self, grid: Grid, number: int, values: FloatRow, fresh: BoolRow) -> None:
        if len(grid.top) < len(values):
            grid.grow(len(values))
        grid.top[:] = self._top
        grid.step(number, values, self._known, fresh)


def _forecast(grid: Grid, lead: int, key: Key, row: int) -> Forecast:
    ahead: Ahead = grid.ahead(lead)
    scores, horizon = grid.scores[lead], grid.horizon
    scored = int(scores.count[-1, row])
    outcomes = [
        Outcome(horizon.end_ms(target), *(float(one) for one in scores.outcomes[at, :, row]))
        for at, target in enumerate(scores.targets)
        if target >= 0 and np.isfinite(scores.outcomes[at, 0, row])
    ]
    return Forecast(
        key=key,
        horizon=horizon.name,
        lead_s=lead * horizon.step_s,
        target_ms=horizon.end_ms(grid.number + lead),
        model=grid.models[ahead.model[row]].name,
        value=float(ahead.value[row]),
        low=float(ahead.low[row]),
        high=float(ahead.high[row]),
        now=float(grid.past.now[row]),
        scored=scored,
        error=float(scores.error[-1, row]) if scored else math.nan,
        naive_error=float(scores.naive[-1, row]) if scored else math.nan,
        outcomes=tuple(sorted(outcomes)),
    )
