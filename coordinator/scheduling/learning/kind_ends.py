"""What ends have taught of one kind of task, by agent."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from coordinator.core.limits import HISTORY_GONE_ENDS, HISTORY_WINDOW
from coordinator.core.model import TaskFamily
from coordinator.scheduling.agents.table import FloatRow
from coordinator.scheduling.learning.aptitude import Aptitude
from coordinator.scheduling.learning.offsets import Belief

WINDOW_ENDS: Final = float(HISTORY_WINDOW)
"""Older ends of a kind on an agent lose weight so that no more than these count."""

LEAST_SPREAD: Final = 0.02
"""Of the logarithm, between ends of one kind."""

_ENDS_KEPT: Final = float(HISTORY_GONE_ENDS)
"""What agents that have left have taught of a kind counts for at most so many ends."""


class KindEnds:
    """Of one kind, by agent row: how many ended, the sum of their logarithms and of those squared."""

    __slots__ = (
        "aptitude",
        "aptitude_at",
        "ended",
        "family",
        "fresh",
        "log_mean",
        "mean_here",
        "noise",
        "prior",
        "settled",
        "sums",
        "told",
        "variance",
    )

    def __init__(self, family: TaskFamily, rows: int, prior: tuple[float, float, float]) -> None:
        self.family = family
        self.sums: FloatRow = np.zeros((3, rows))
        self.ended = 0.0
        """How many there are in all, as far as they still count."""
        self.fresh: list[tuple[int, float]] = []
        """Those that are not in the sums yet: row and logarithm."""
        self.prior = prior
        """Ends of unknown agents: their weight, mean and variance."""
        self.log_mean = self.mean_here = prior[1]
        """With all that is known, and as the agents that are here have shown, which their speeds are measured
        by."""
        self.variance = prior[2]
        self.told = math.inf
        """The mean when the epoch last changed because of it."""
        self.noise = prior[2]
        """The variance between ends on the same agent."""
        self.aptitude: Aptitude | None = None
        self.aptitude_at = 0.0
        """Ends that there were when affinities were last looked for."""
        self.settled = False
        """Its own ends count in the mean and the variances."""

    @property
    def known(self) -> float:
        """Ends that count."""
        return self.prior[0] + self.ended

    def observe(self, row: int, value: float) -> None:
        """One more end."""
        self.fresh.append((row, value))
        self.ended += 1

    def take_in(self) -> None:
        """Bring the sums up to date."""
        if self.fresh:
            rows = np.array([row for row, _ in self.fresh], np.intp)
            values = np.array([value for _, value in self.fresh])
            self.fresh.clear()
            for sums, added in zip(self.sums, (1.0, values, values * values), strict=True):
                np.add.at(sums, rows, added)
            beyond = np.flatnonzero(self.sums[0] > WINDOW_ENDS)
            self.sums[:, beyond] *= WINDOW_ENDS / self.sums[0, beyond]
        self.ended = float(self.sums[0].sum())

    def believed(self) -> Belief:
        """Of the mean of their logarithms."""
        return Belief(self.log_mean, self.noise / self.known)

    def tells(self, count: FloatRow) -> FloatRow:
        """What so many ends say of an agent's speed, as the inverse of a variance: where agents differ in
        what they are quick at, any number of one kind says little."""
        return count / (self.noise + (0.0 if self.aptitude is None else count * self.aptitude.variance))

    def keep(self, row: int, factor: float) -> None:
        """The agent in this row leaves; what it has taught stays, as if unknown ones had."""
        count, total, squares = self.sums[:, row].tolist()
        squared = squares + 2 * total * factor + count * factor * factor
        self.absorb(count, total + count * factor, squared)
        self.sums[:, row] = 0
        self.ended -= count

    def absorb(self, count: float, total: float, squares: float) -> None:
        """Ends of agents that are not here."""
        weight, mean, variance = self.prior
        all_ends = weight + count
        middle = (weight * mean + total) / all_ends
        squared = squares + weight * (variance + mean * mean)
        spread = max(squared / all_ends - middle * middle, LEAST_SPREAD**2)
        self.prior = min(all_ends, _ENDS_KEPT), middle, spread
