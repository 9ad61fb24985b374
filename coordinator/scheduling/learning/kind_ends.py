"""What ends have taught of one kind of task, by agent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.core.limits import HISTORY_GONE_ENDS, HISTORY_WINDOW
from coordinator.core.model import TaskFamily
from coordinator.scheduling.agents.rows import FloatRow, IntRow
from coordinator.scheduling.learning.aptitude import Aptitude
from coordinator.scheduling.learning.offsets import Belief
from coordinator.scheduling.learning.reads import Reads

WINDOW_ENDS: Final = float(HISTORY_WINDOW)
"""Older ends of a kind on an agent lose weight so that no more than these count."""

LEAST_SPREAD: Final = 0.02
"""Of the logarithm, between ends of one kind."""

_ENDS_KEPT: Final = float(HISTORY_GONE_ENDS)
"""What agents that have left have taught of a kind counts for at most so many ends."""


class KindEnds:
    """Of one kind, by agent row: how many ended, the sum of their logarithms and of those squared, in `seen`
    as their agents showed them and in `sums` less what comes of the size of inputs, where those are known
    (`reads`)."""

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
        "reads",
        "seen",
        "settled",
        "sums",
        "told",
        "variance",
    )

    def __init__(
        self, family: TaskFamily, rows: int, prior: tuple[float, float, float], reads: Reads | None = None
    ) -> None:
        self.family = family
        self.reads = reads
        self.seen: FloatRow = np.zeros((3, rows))
        self.sums = self.seen
        self.ended = 0.0
        """How many there are in all, as far as they still count."""
        self.fresh: list[tuple[int, float, float]] = []
        """Those that are not in the sums yet: row, logarithm, and that of what was read over what is
        typical."""
        self.prior = prior
        """Ends of unknown agents: their weight, mean and variance."""
        self.log_mean = self.mean_here = prior[1]
        """With all that is known, and as the agents that are here have shown, which their speeds are measured
        by."""
        self.variance = prior[2]
        self.told = (math.inf, 0.0)
        """The mean and the slope when the epoch last changed because of them."""
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

    def observe(self, row: int, value: float, read: float = 0.0) -> None:
        """One more end."""
        self.fresh.append((row, value, read))
        self.ended += 1

    def take_in(self) -> None:
        """Bring the sums up to date."""
        if self.fresh:
            at, values, read = np.array(self.fresh).T
            rows = at.astype(np.intp)
            self.fresh.clear()
            _add(self.seen, rows, (1.0, values, values * values))
            beyond = np.flatnonzero(self.seen[0] > WINDOW_ENDS)
            fading = WINDOW_ENDS / self.seen[0, beyond]
            self.seen[:, beyond] *= fading
            if self.reads is not None:
                _add(self.reads.sums, rows, (read, read * read, read * values))
                self.reads.sums[:, beyond] *= fading
                self.sums = self.reads.without(self.seen)
        self.ended = float(self.seen[0].sum())

    def renew_slope(self, factors: FloatRow) -> None:
        """Fit what comes of the size of inputs, given what agents are quicker by."""
        if self.reads is not None:
            self.reads.renew(self.seen, factors, self.noise)
            self.sums = self.reads.without(self.seen)

    def remember(self, rows: IntRow, seen: FloatRow, read: FloatRow) -> None:
        """What these agents have shown before: three sums of ends and, if sizes count, three of what was
        read."""
        self.seen[:, rows] = seen
        if self.reads is not None:
            self.reads.sums[:, rows] = self.reads.centred(seen[0], seen[1], read)
            self.sums = self.reads.without(self.seen)
        self.take_in()

    def remember_gone(self, seen: FloatRow, read: FloatRow) -> None:
        """The same of agents that are not here: three sums each."""
        if self.reads is not None:
            seen = self.reads.absorb(seen[:, None], read[:, None], self.noise)[:, 0]
        self.absorb(*seen.tolist())

    def widen(self, rows: int) -> None:
        """There are so many rows more."""
        more = ((0, 0), (0, rows))
        self.seen = self.sums = np.pad(self.seen, more)
        if self.reads is not None:
            self.reads.sums = np.pad(self.reads.sums, more)
            self.sums = self.reads.without(self.seen)
        if self.aptitude is not None:
            self.aptitude = self.aptitude._replace(factors=np.pad(self.aptitude.factors, (0, rows)))

    def has_moved(self, little: float) -> bool:
        """Whether what tasks are expected to take has changed by more than a little since this was last
        so."""
        slope = 0.0 if self.reads is None else self.reads.slope.mean
        if abs(self.log_mean - self.told[0]) <= little and abs(slope - self.told[1]) <= little:
            return False
        self.told = self.log_mean, slope
        return True

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
        if self.reads is not None:
            self.reads.keep(row, count, self.seen.item(1, row), factor)
        self.seen[:, row] = self.sums[:, row] = 0
        self.ended -= count

    def absorb(self, count: float, total: float, squares: float) -> None:
        """Ends of agents that are not here."""
        weight, mean, variance = self.prior
        all_ends = weight + count
        middle = (weight * mean + total) / all_ends
        squared = squares + weight * (variance + mean * mean)
        spread = max(squared / all_ends - middle * middle, LEAST_SPREAD**2)
        self.prior = min(all_ends, _ENDS_KEPT), middle, spread


def _add(sums: FloatRow, rows: NDArray[np.intp], added: Iterable[FloatRow | float]) -> None:
    for of_one, some in zip(sums, added, strict=True):
        np.add.at(of_one, rows, some)
