"""The forecasters: one interface, each model over all series at once, in a bounded number of numpy calls per
step.

To add one: a class with these methods, and its line in `models_for`. It need not be good: it is used only for
those series that it forecasts better than the naive one.
"""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from coordinator.forecast.history import FIRST_ROWS, BoolRow, Columns, FloatRow, Growing, History, IntRow
from coordinator.forecast.horizons import Horizon

_TINY: Final = 1e-12


class Forecaster(Growing, Protocol):
    """A model of every series of a grid. A forecast of NaN is no forecast."""

    name: str

    def update(self, past: History) -> None:
        """One step more is known: `past.now`."""

    def forecast(self, past: History, lead: int) -> FloatRow:
        """What is expected `lead` steps after the latest."""


class Naive(Columns):
    """It stays as it is."""

    name = "naive"

    def update(self, past: History) -> None:
        """Nothing to learn."""

    def forecast(self, past: History, lead: int) -> FloatRow:
        del lead
        return past.now


class SeasonalNaive(Columns):
    """It will be as it was a season before."""

    def __init__(self, season: int) -> None:
        self.name = f"seasonal-{season}"
        self._season = season

    def update(self, past: History) -> None:
        """Nothing to learn."""

    def forecast(self, past: History, lead: int) -> FloatRow:
        return np.where(past.age > self._season, past.at(-lead % self._season), np.nan)


class Smoothing(Columns):
    """Simple exponential smoothing, with the rate that has erred least for the series."""

    name = "ses"
    _fills: ClassVar[dict[str, float]] = {"level": 0.0, "error": 0.0}
    _RATES: Final = np.array([0.05, 0.15, 0.4])[:, None]
    _MEMORY: Final = 0.02

    def __init__(self) -> None:
        self.level: FloatRow
        self.error: FloatRow
        self._shape(level=(3,), error=(3,))

    def update(self, past: History) -> None:
        off = past.now - self.level
        off[:, past.age <= 1] = 0.0
        self.error += self._MEMORY * (np.abs(off) - self.error)
        self.level = np.where(past.age <= 1, past.now, self.level + self._RATES * off)

    def forecast(self, past: History, lead: int) -> FloatRow:
        del past, lead
        best = self.error.argmin(axis=0)
        found: FloatRow = np.take_along_axis(self.level, best[None], axis=0)[0]
        return found


class DampedTrend(Columns):
    """Holt's level and trend; the trend fades, so that no distance makes it run away."""

    name = "trend"
    _fills: ClassVar[dict[str, float]] = {"level": 0.0, "trend": 0.0}
    _RATE: Final = 0.4
    _TREND_RATE: Final = 0.1
    _DAMPING: Final = 0.95

    def __init__(self) -> None:
        self.level: FloatRow
        self.trend: FloatRow
        self._shape(level=(), trend=())

    def update(self, past: History) -> None:
        expected = self.level + self._DAMPING * self.trend
        level = np.where(past.age <= 1, past.now, expected + self._RATE * (past.now - expected))
        gained = np.where(past.age <= 1, 0.0, level - self.level)
        self.trend = (1 - self._TREND_RATE) * self._DAMPING * self.trend + self._TREND_RATE * gained
        self.level = level

    def forecast(self, past: History, lead: int) -> FloatRow:
        del past
        return self.level + self.trend * _faded(self._DAMPING, lead)


class HoltWinters(Columns):
    """Level, fading trend and an additive season, begun from the first whole season that is known."""

    name = "holt-winters"
    _fills: ClassVar[dict[str, float]] = {"level": 0.0, "trend": 0.0, "season": 0.0, "begun": False}
    _RATE: Final = 0.15
    _TREND_RATE: Final = 0.02
    _SEASON_RATE: Final = 0.2
    _DAMPING: Final = 0.9

    def __init__(self, length: int) -> None:
        self._length = length
        self.level: FloatRow
        self.trend: FloatRow
        self._shape(level=(), trend=())
        self.season: NDArray[np.float32] = np.zeros((length, FIRST_ROWS), np.float32)
        self.begun: BoolRow = np.zeros(FIRST_ROWS, np.bool_)

    def update(self, past: History) -> None:
        phase = past.number % self._length
        season = self.season[phase]
        before = self.level + self._DAMPING * self.trend
        level = before + self._RATE * (past.now - season - before)
        self.trend = self._DAMPING * self.trend + self._TREND_RATE * (level - before)
        self.level = level
        self.season[phase] = season + self._SEASON_RATE * (past.now - level - season)
        due = (past.age >= self._length) & ~self.begun
        if due.any():
            self._begin(past, np.flatnonzero(due))

    def forecast(self, past: History, lead: int) -> FloatRow:
        ahead = self.level + self.trend * _faded(self._DAMPING, lead)
        ahead += self.season[(past.number + lead) % self._length]
        return np.where(self.begun, ahead, np.nan)

    def _begin(self, past: History, rows: IntRow) -> None:
        whole = past.window(self._length, rows)
        phases = (past.number - self._length + 1 + np.arange(self._length)) % self._length
        self.level[rows] = whole.mean(axis=0)
        self.trend[rows] = 0.0
        self.season[np.ix_(phases, rows)] = whole - self.level[rows]
        self.begun[rows] = True


class Autoregression(Columns):
    """Ridge regression on the last values, fitted anew for a part of the series every few steps. What it says
    of a distance follows from the one-step coefficients; where those would make it run away, it says the
    mean."""

    name = "ar"
    _fills: ClassVar[dict[str, float]] = {"mean": 0.0, "gram": 0.0, "weights": 0.0}
    _ORDER: Final = 6
    _MEMORY: Final = 0.01
    _RIDGE: Final = 1e-3
    _FIT_EVERY: Final = 4
    _FIT_LEAST: Final = 64
    _FIT_MOST: Final = 1_024
    _SANE: Final = 4.0
    _LEAST_AGE: Final = 4 * _ORDER

    def __init__(self, leads: tuple[int, ...]) -> None:
        self._at = {lead: at for at, lead in enumerate(leads)}
        self._next = 0
        self.mean: FloatRow
        self.gram: FloatRow
        self.weights: FloatRow
        order = self._ORDER
        self._shape(mean=(), gram=(order + 1, order + 1), weights=(len(leads), order))

    def update(self, past: History) -> None:
        self.mean += np.where(past.age <= 1, 1.0, self._MEMORY) * (past.now - self.mean)
        lags = np.stack([past.at(back) for back in range(self._ORDER + 1)]) - self.mean
        self.gram *= 1 - self._MEMORY
        self.gram += lags[:, None] * lags[None]
        if past.number % self._FIT_EVERY == 0:
            size = len(self.mean)
            part = min(max(size // 4, self._FIT_LEAST), self._FIT_MOST)
            self._next = self._next + part if self._next + part < size else 0
            self._fit(np.arange(self._next, min(self._next + part, size)))

    def forecast(self, past: History, lead: int) -> FloatRow:
        weights = self.weights[self._at[lead]]
        lags = np.stack([past.at(back) for back in range(self._ORDER)]) - self.mean
        said: FloatRow = self.mean + (weights * lags).sum(axis=0)
        return np.where(past.age >= self._LEAST_AGE, said, np.nan)

    def _fit(self, rows: IntRow) -> None:
        order = self._ORDER
        gram = self.gram[:, :, rows].transpose(2, 0, 1)
        power = np.trace(gram, axis1=1, axis2=2) / (order + 1)
        inner = gram[:, 1:, 1:] + (self._RIDGE * power + _TINY)[:, None, None] * np.eye(order)
        first = np.linalg.solve(inner, gram[:, 1:, :1])[:, :, 0]
        first = np.clip(np.nan_to_num(first), -self._SANE, self._SANE)
        ahead, found = first, np.zeros((len(self._at), order, len(rows)))
        for lead in range(1, max(self._at) + 1):
            if lead in self._at:
                found[self._at[lead]] = ahead.T
            later = np.concatenate([ahead[:, 1:], np.zeros((len(rows), 1))], axis=1)
            ahead = np.clip(ahead[:, :1] * first + later, -1e6, 1e6)
        sane = np.abs(found).sum(axis=1, keepdims=True) <= self._SANE
        self.weights[:, :, rows] = np.where(sane, found, 0.0)


class Outside(Columns):
    """A model that runs elsewhere, and now and then says how some series will go on: from the step `made`
    on."""

    _fills: ClassVar[dict[str, float]] = {"paths": np.nan, "made": -1}
    _TRUST_IN_NOW: Final = 0.5

    def __init__(self, name: str, reach: int) -> None:
        self.name = name
        self.reach = reach
        """Steps that it looks ahead: beyond the longest lead, as it is asked rarely."""
        self.paths: NDArray[np.float32] = np.full((reach, FIRST_ROWS), np.nan, np.float32)
        self.made: IntRow = np.full(FIRST_ROWS, -1, np.int64)

    def take(self, row: int, made: int, path: FloatRow) -> None:
        """What it says of a series, step by step after `made`. What is not finite counts as not said."""
        told = np.full(self.reach, np.nan)
        told[: len(path)] = path[: self.reach]
        self.paths[:, row] = np.where(np.abs(told) < np.finfo(np.float32).max, told, np.nan)
        self.made[row] = made

    def update(self, past: History) -> None:
        """It learns elsewhere."""

    def forecast(self, past: History, lead: int) -> FloatRow:
        since = past.number - self.made
        said, said_of_now = self._at(since + lead), self._at(since)
        # The older its word is, the more has happened that it did not know of.
        off = np.where(np.isfinite(said_of_now), past.now - said_of_now, 0.0)
        return said + self._TRUST_IN_NOW * off

    def _at(self, steps: IntRow) -> FloatRow:
        """What it said of so many steps after it was asked; NaN if nothing."""
        within = (self.made >= 0) & (steps >= 1) & (steps <= self.reach)
        found = self.paths[np.clip(steps - 1, 0, self.reach - 1), np.arange(len(steps))]
        return np.where(within, found, np.nan)


def models_for(horizon: Horizon, outside: tuple[Outside, ...] = ()) -> tuple[Forecaster, ...]:
    """The models of a horizon, the naive one first."""
    return (
        Naive(),
        *(SeasonalNaive(season) for season in horizon.seasons),
        Smoothing(),
        DampedTrend(),
        HoltWinters(horizon.seasons[0]),
        Autoregression(horizon.leads),
        *outside,
    )


def _faded(damping: float, lead: int) -> float:
    """How much of a trend has come to pass after `lead` steps."""
    return damping * (1 - damping**lead) / (1 - damping)
