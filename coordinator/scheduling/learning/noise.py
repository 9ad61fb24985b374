"""How much ends of one kind differ on one agent: what tells the speed of agents from chance.

The one-way analysis of variance (Searle, Casella and McCulloch, Variance Components, 1992, chapter 3) has two
measures of it: ends on the same agent, which say it without doubt, and what agents differ by beside the
speeds that they are believed to have. The second is all there is as long as each agent has had a task or two,
and must not be left out: a long task would else be a slow agent. But an agent that is not what it says makes
it large, and would never be found out. So few agents that are far from all others count as if they were
nearer, and with more ends on the same agents the first measure counts alone."""

from __future__ import annotations

from typing import Final

import numpy as np

from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.learning.products import dot

AGENTS_LOOKED_AT: Final = 256
"""Of a kind, for what differs between them."""

_SURE: Final = 4.0
"""Ends beside the first on their agents, from which on what differs between agents counts for less than
half."""
_TELLING: Final = 64.0
"""From so many on it is not looked at."""
_FAR: Final = 3.0
"""Standard deviations, by the median of absolute ones, beyond which an agent counts as if it were there."""
_NORMAL_MEDIAN: Final = 1.4826
"""Standard deviation of a normal distribution over its median absolute one."""
_SEVERAL: Final = 4
"""Agents among which one can be said to be far from the others."""


def noise(sums: FloatRow, factors: FloatRow, believed: float, variance: float) -> float:
    """The variance of logarithms of ends on the same agent, from their number, sum and sum of squares by row
    and what agents are quicker by. So many degrees of freedom of `variance` are believed before there is
    any."""
    count, total, squares = sums
    rows = np.flatnonzero(count)
    within = max(float((squares[rows] - total[rows] ** 2 / count[rows]).sum()), 0.0)
    free = max(float(count[rows].sum()) - len(rows), 0.0)
    found = within + believed * variance
    if len(rows) < 2 or free > _TELLING:
        return found / (free + believed)
    rows = rows[:AGENTS_LOOKED_AT]
    between = _between(count[rows], total[rows] / count[rows] + factors[rows])
    weight = (len(rows) - 1) / (1 + free / _SURE)
    return (found + weight * between) / (free + believed + weight)


def _between(count: FloatRow, means: FloatRow) -> float:
    """The mean square between agents; of a few, none of which can be said to be far from the others, as if
    each had one end."""
    if len(means) < _SEVERAL:
        off = means - means.mean()
        return dot(off, off) / (len(means) - 1)
    off = means - np.median(means)
    most = _FAR * _NORMAL_MEDIAN * float(np.median(np.abs(off)))
    return dot(count, np.clip(off, -most, most) ** 2) / (len(means) - 1)
