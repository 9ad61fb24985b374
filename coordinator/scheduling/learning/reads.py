"""How the work of a kind grows with what its tasks read.

The logarithm of work is taken to be linear in that of the bytes: work that grows as their square root has a
slope of a half (run times of workflow tasks by input size: Witt et al., Predictive performance modeling for
distributed batch processing, Information Systems 82, 2019, section 4). The slope is a Bayesian regression
with a normal prior (Gelman et al., Bayesian Data Analysis, 2013, section 14.8): where sizes hardly differ the
prior stands, and where they differ much a few ends tell."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from coordinator.core.logarithms import FRACTION_BITS
from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.learning.products import dot

UNIT: Final = math.log(2) / (1 << FRACTION_BITS)
"""Of the state's logarithms, in those of estimates."""


class Slope(NamedTuple):
    """By how much the logarithm of work grows with that of the bytes, and how uncertain that is."""

    mean: float
    variance: float

    def makes(self, read: float) -> float:
        """What reading so much more than is typical makes, as logarithms. Where that would be less certain
        than by a factor of e it grows no more: nobody knows yet of what reads ten thousand times as much that
        it takes four thousand times as long."""
        unknown = self.variance * read * read
        return self.mean * read / math.sqrt(math.hypot(1, unknown))


PRIOR: Final = Slope(0.9, 0.4**2)
"""Before there are ends: nearly in proportion, since not all that a task does is reading."""

STEEPEST: Final = 4.0
"""Work is not believed to grow faster: sizes that are nearly alike could make anything of larger ones."""

FLAT: Final = Slope(0.0, 0.0)
"""Where nobody says what tasks read."""


def log_read(hint: int) -> float:
    """The natural logarithm of the bytes that a task with this hint reads (`Task.hint`, below 0)."""
    return -hint * UNIT


class Reads:
    """Of one kind. By agent row, `sums` has those of x, of x squared and of x times y: x is the logarithm of
    the bytes over `typical` ones, which are those of the first task, y that of the work as its agent shows
    it. `gone` has the same, with number and sum of y before them, of agents that are not here, whose speed is
    taken out of y."""

    __slots__ = ("gone", "slope", "sums", "typical")

    def __init__(self, rows: int, typical: float | None = None) -> None:
        self.sums: FloatRow = np.zeros((3, rows))
        self.gone: FloatRow = np.zeros(5)
        self.typical = typical
        self.slope = PRIOR

    def off(self, hint: int) -> float:
        """The logarithm of what a task reads, over what is typical."""
        return log_read(hint) - self._typical_of(log_read(hint))

    def centred(self, count: FloatRow, total: FloatRow, read: FloatRow) -> FloatRow:
        """Sums of ends whose x is not over what is typical, as if it were."""
        ends = float(count.sum())
        typical = self._typical_of(float(read[0].sum()) / ends if ends else 0.0)
        once, squares, products = read
        return np.stack(
            [
                once - typical * count,
                squares - 2 * typical * once + typical * typical * count,
                products - typical * total,
            ]
        )

    def without(self, seen: FloatRow) -> FloatRow:
        """Number of ends, sum of y and of y squared by row, less what comes of the size of inputs."""
        return _without(seen, self.sums, self.slope.mean)

    def renew(self, seen: FloatRow, factors: FloatRow, noise: float) -> None:
        """Fit the slope to all ends, given what agents are quicker by and the variance of an end."""
        count, total, _ = seen
        read, read_squares, products = self.sums
        gone_count, gone_total, gone_read, gone_squares, gone_products = self.gone.tolist()
        ends = float(count.sum()) + gone_count
        if not ends:
            self.slope = PRIOR
            return
        all_read = float(read.sum()) + gone_read
        work = float(total.sum()) + dot(count, factors) + gone_total
        spread = float(read_squares.sum()) + gone_squares - all_read * all_read / ends
        together = float(products.sum()) + dot(read, factors) + gone_products - all_read * work / ends
        trust = max(spread, 0.0) / noise + 1 / PRIOR.variance
        found = (together / noise + PRIOR.mean / PRIOR.variance) / trust
        self.slope = Slope(min(max(found, -STEEPEST), STEEPEST), 1 / trust)

    def absorb(self, seen: FloatRow, read: FloatRow, noise: float) -> FloatRow:
        """Take in ends of agents that are not here, of which both have a column; returns as `without`."""
        centred = self.centred(seen[0], seen[1], read)
        self.gone += (*seen[:2, 0], *centred[:, 0])
        nothing = np.zeros((3, self.sums.shape[1]))
        self.renew(nothing, nothing[0], noise)
        return _without(seen, centred, self.slope.mean)

    def keep(self, row: int, count: float, total: float, factor: float) -> None:
        """The agent in this row leaves; what its ends say of the slope stays."""
        read, read_squares, products = self.sums[:, row].tolist()
        self.gone += (count, total + count * factor, read, read_squares, products + read * factor)
        self.sums[:, row] = 0

    def _typical_of(self, first: float) -> float:
        if self.typical is None:
            self.typical = first
        return self.typical


def _without(seen: FloatRow, read: FloatRow, slope: float) -> FloatRow:
    count, total, squares = seen
    once, read_squares, products = read
    return np.stack(
        [count, total - slope * once, squares - 2 * slope * products + slope * slope * read_squares]
    )
