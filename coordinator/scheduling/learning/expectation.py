"""What a task is expected to take, as a distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec

UNKNOWN_S: Final = 1.0
"""What a task is taken to last as long as nothing at all is known."""

_UNKNOWN_SPREAD: Final = 0.8
"""Of the logarithm, where nothing of the kind has ended."""
_PRIOR_KINDS: Final = 3.0
"""It counts for so many kinds beside the spread of those that are known."""


class Expectation(msgspec.Struct, frozen=True, gc=False):
    """Of the work of a task in seconds on an agent of speed 1: log-normal, with these parameters of its
    logarithm, and so many seconds in the mean. What is not `known` is a guess: nothing of the kind has ended,
    and nobody says what it takes."""

    log_mean: float
    sigma: float
    seconds: float
    known: bool

    @classmethod
    def of(cls, log_mean: float, sigma: float, *, known: bool = True) -> Expectation:
        """With the mean that follows."""
        return cls(log_mean, sigma, math.exp(log_mean + 0.5 * sigma * sigma), known)

    def quantile(self, deviations: float) -> float:
        """Seconds that are not passed by all but the tail beyond so many standard deviations."""
        return math.exp(self.log_mean + deviations * self.sigma)


def guess(mean_s: float = UNKNOWN_S, sigma: float = _UNKNOWN_SPREAD) -> Expectation:
    """Of a kind of which nothing is known."""
    return Expectation.of(math.log(mean_s) - 0.5 * sigma * sigma, sigma, known=False)


def spread(logs: Sequence[float]) -> float:
    """Between kinds, of the logarithm of what they take: another one may be as far off."""
    middle = sum(logs) / len(logs)
    squared = sum((one - middle) ** 2 for one in logs)
    return math.sqrt((squared + _PRIOR_KINDS * _UNKNOWN_SPREAD**2) / (len(logs) + _PRIOR_KINDS))
