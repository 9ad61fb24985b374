"""Normal and log-normal chances over arrays, from one table of the standard normal distribution."""

from __future__ import annotations

from statistics import NormalDist
from typing import Final

import numpy as np

from coordinator.scheduling.agents.rows import FloatRow

_REACH: Final = 6.0
"""Standard deviations that the table covers; beyond, a chance is that at its end."""

_NORMAL: Final = NormalDist()
_POINTS: Final[FloatRow] = np.linspace(-_REACH, _REACH, 2_401)
_BELOW: Final[FloatRow] = np.array([_NORMAL.cdf(point) for point in _POINTS.tolist()])
_TAIL_BEGINS: Final = 3.0
"""Standard deviations from which on the table is too coarse for a ratio of chances."""

_SOONEST: Final = 1e-9


def below(deviations: FloatRow) -> FloatRow:
    """The chance of a standard normal value below each of these."""
    chances: FloatRow = np.interp(deviations, _POINTS, _BELOW)
    return chances


def quantile(chances: FloatRow) -> FloatRow:
    """The inverse of `below`."""
    deviations: FloatRow = np.interp(chances, _BELOW, _POINTS)
    return deviations


def remaining(log_mean: FloatRow, sigma: FloatRow, elapsed: FloatRow) -> FloatRow:
    """What is still to be expected of log-normal durations that have lasted for `elapsed`, in its unit.
    `log_mean` and `sigma` are those of the logarithm; 0 in `sigma` is a duration that is known.

    E[X - e | X > e] = E[X] P(Z < s - z) / P(Z > z) - e with z = (ln e - m) / s; far in the tail, where both
    chances vanish, the mean excess is about e s / z.
    """
    spread = np.maximum(sigma, 1e-6)
    passed = np.maximum(elapsed, _SOONEST)
    z = (np.log(passed) - log_mean) / spread
    mean = np.exp(log_mean + 0.5 * sigma * sigma)
    survives = below(-np.minimum(z, _TAIL_BEGINS))
    near = mean * below(spread - np.minimum(z, _TAIL_BEGINS)) / survives - passed
    tail = passed * spread / np.maximum(z, _TAIL_BEGINS)
    left: FloatRow = np.maximum(np.where(z < _TAIL_BEGINS, near, tail), _SOONEST)
    return left
