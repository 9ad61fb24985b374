"""Trend and seasons of the day and the week, by Prophet (the extra forecast-prophet)."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any, Final

import numpy as np

from coordinator.slow_models.interface import Paths

_STEPS_A_WEEK: Final = 7
_DAY_S: Final = 86_400


class Prophet:
    """One fit per series and call. A season is taken for a day, whatever the grid: only its length in steps
    counts."""

    def __init__(self) -> None:
        logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
        self._pandas: Any = import_module("pandas")
        self._prophet: Any = import_module("prophet")

    def paths(self, past: Paths, season: int, ahead: int) -> Paths:
        every = self._pandas.Timedelta(seconds=_DAY_S / season)
        days = len(past) / season
        times = self._pandas.date_range("2001-01-01", periods=len(past) + ahead, freq=every)
        return np.stack([self._path(series, times, days, ahead) for series in past.T], axis=1)

    def _path(self, series: Paths, times: Any, days: float, ahead: int) -> Paths:
        if np.ptp(series) == 0:
            return np.full(ahead, series[-1])
        model = self._prophet.Prophet(
            daily_seasonality=days >= 2,
            weekly_seasonality=days >= 2 * _STEPS_A_WEEK,
            yearly_seasonality=False,
            uncertainty_samples=0,
        )
        model.fit(self._pandas.DataFrame({"ds": times[: len(series)], "y": series}))
        said = model.predict(self._pandas.DataFrame({"ds": times[len(series) :]}))
        return np.asarray(said["yhat"], np.float64)
