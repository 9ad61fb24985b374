"""ARIMA whose orders are found for each series, by statsforecast (the extra forecast-arima)."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import numpy as np

from coordinator.slow_models.interface import Paths

_STEPS: Final = 180
"""The past that it is fitted to: more takes longer than it gains."""

_ORDER: Final = 3


class Arima:
    """One fit per series and call. A season of a hundred steps would take minutes to fit: it looks for
    none."""

    def __init__(self) -> None:
        self._models = import_module("statsforecast.models")

    def paths(self, past: Paths, season: int, ahead: int) -> Paths:
        del season
        return np.stack([self._path(series, ahead) for series in past[-_STEPS:].T], axis=1)

    def _path(self, series: Paths, ahead: int) -> Paths:
        if np.ptp(series) == 0:
            return np.full(ahead, series[-1])
        model = self._models.AutoARIMA(
            season_length=1, max_p=_ORDER, max_q=_ORDER, max_order=_ORDER, approximation=True, nmodels=20
        )
        try:
            return np.asarray(model.forecast(y=series, h=ahead)["mean"], np.float64)
        except (ValueError, ZeroDivisionError, np.linalg.LinAlgError):
            return np.full(ahead, np.nan)
