"""Every model held against what happened and against the naive one, per series and distance; and which of
them is used because of that.

Forecasts are made at steps that lie a `stride` apart, so that those which wait for their outcome are few
whatever the distance.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from coordinator.forecast.history import FIRST_ROWS, BoolRow, Columns, FloatRow, History, IntRow

NAIVE: Final = 0
"""The model that says that nothing changes, among those of a distance."""

LEAST_SCORED: Final = 8
"""Outcomes before a model's score counts."""

GAIN: Final = 0.95
"""What a model's error may be of the naive one's at the same times, for the model to be used."""

OUTCOMES_KEPT: Final = 4
"""Forecasts kept of each series and distance after their outcome is known."""

_MEMORY: Final = 0.02
"""Weight of the latest error, once there have been as many."""

_WAITING: Final = 3
"""Forecasts that wait for their outcome at least, if the distance has as many steps."""


class Scores(Columns):
    """Of `models` models at one distance of `lead` steps, the naive one first. Behind the models comes what
    was said in the end: that of the model in use."""

    _fills: ClassVar[dict[str, float]] = {
        "waiting": np.nan,
        "error": 0.0,
        "naive": 0.0,
        "count": 0,
        "outcomes": np.nan,
    }

    def __init__(self, lead: int, models: int) -> None:
        self.lead = lead
        self.stride = max((one for one in range(1, lead // _WAITING + 1) if lead % one == 0), default=1)
        self._slots = lead // self.stride
        self._made = np.full(self._slots, -1, np.int64)
        self.waiting: NDArray[np.float32] = np.full((self._slots, models + 1, FIRST_ROWS), np.nan, np.float32)
        self.error: FloatRow = np.zeros((models + 1, FIRST_ROWS))
        """Rolling mean of the absolute error."""
        self.naive: FloatRow = np.zeros((models + 1, FIRST_ROWS))
        """The same of the naive model, over the times at which this one said something."""
        self.count: IntRow = np.zeros((models + 1, FIRST_ROWS), np.int64)
        self.outcomes: NDArray[np.float32] = np.full((OUTCOMES_KEPT, 3, FIRST_ROWS), np.nan, np.float32)
        """What was said, what the naive model said, what happened."""
        self.targets: list[int] = [-1] * OUTCOMES_KEPT
        """The step that each of `outcomes` is about."""

    def due(self, number: int) -> bool:
        """Whether forecasts are settled and made at this step."""
        return number % self.stride == 0

    def settle(self, past: History, fresh: BoolRow) -> None:
        """Score what was said of the latest step; `fresh` are the series of which it is known."""
        made = past.number - self.lead
        slot = (made // self.stride) % self._slots
        if made < 0 or self._made[slot] != made:
            return
        said = self.waiting[slot]
        off = np.abs(said - past.now)
        valid = np.isfinite(off) & fresh
        self.count += valid
        weight = np.where(valid, np.maximum(_MEMORY, 1 / np.maximum(self.count, 1)), 0.0)
        self.error += weight * (np.where(valid, off, 0.0) - self.error)
        self.naive += weight * (np.where(valid, off[0], 0.0) - self.naive)
        kept = (made // self.stride) % OUTCOMES_KEPT
        self.outcomes[kept] = np.where(valid[-1], np.stack([said[-1], said[0], past.now]), np.nan)
        self.targets[kept] = past.number

    def make(self, number: int, forecasts: FloatRow) -> None:
        """Keep what every model and the one in use say at this step, until it is settled."""
        slot = (number // self.stride) % self._slots
        self.waiting[slot] = forecasts
        self._made[slot] = number

    def best(self, forecasts: FloatRow) -> IntRow:
        """The model to use for each series among those with a finite forecast: that with the least error in
        relation to the naive one's, and the naive one unless that is a gain."""
        models = len(forecasts)
        error, naive = self.error[:models], self.naive[:models]
        better = (self.count[:models] >= LEAST_SCORED) & (error < GAIN * naive) & np.isfinite(forecasts)
        share = np.full(error.shape, np.inf)
        np.divide(error, naive, out=share, where=better)
        share[NAIVE] = 1.0
        found: IntRow = share.argmin(axis=0)
        return found
