"""What a slow model is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Paths = NDArray[np.float64]


class PathModel(Protocol):
    """Says how series will go on. What it learns it may keep for the next call."""

    def paths(self, past: Paths, season: int, ahead: int) -> Paths:
        """`past` has time first and a column for each series; so has the answer, of `ahead` steps. `season`
        is the period to look for, in steps. NaN: it cannot say."""
