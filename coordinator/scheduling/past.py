"""What a new leader's estimates begin with: the history that the state holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from coordinator.core.history import FAILED_ONE, Ends, History
from coordinator.core.kinds import Kind
from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.learning.reads import UNIT
from coordinator.scheduling.snapshot import Snapshot

_FARTHEST: Final = 5.0
"""Of the logarithm, from the median of the agents: whose mean is farther off counts as if it were there."""

_UNITS: Final[FloatRow] = np.array([1.0, UNIT, UNIT**2, UNIT, UNIT**2, UNIT**2])


def remember(history: History, snapshot: Snapshot) -> None:
    """Give the estimates what is known of agents that are in the table, and of those that are gone for
    good."""
    known: dict[Kind, list[tuple[int, Ends]]] = {}
    gone: dict[Kind, Ends] = {}
    rows, estimates = snapshot.agents.rows, snapshot.estimates
    for (agent_id, kind), ends in reversed(history.rows.items()):
        if (row := rows.get(agent_id)) is not None:
            known.setdefault(kind, []).append((row, ends))
        elif not agent_id:
            known.setdefault(kind, [])
            gone[kind] = ends
    # The kinds seen last come last: they are kept longest.
    for kind, pairs in reversed(known.items()):
        if (one := gone.get(kind)) is not None:
            sums = _sums([one])[:, 0]
            estimates.remember_gone(kind, sums[:3], sums[3:])
        if pairs:
            at, some = zip(*pairs, strict=True)
            sums = _believed(_sums(some))
            failed = np.array([ends.failed for ends in some]) / FAILED_ONE
            estimates.remember(kind, np.array(at, np.int64), sums[:3], sums[3:], failed)
    estimates.settle()


def _sums(some: Sequence[Ends]) -> FloatRow:
    """By column, in natural logarithms: number of ends, sum of their logarithms, of those squared, and three
    of what was read."""
    columns = [(one.count, one.total, one.squares, one.read, one.read_squares, one.products) for one in some]
    sums: FloatRow = np.array(columns, np.float64).T * _UNITS[:, None]
    return sums


def _believed(sums: FloatRow) -> FloatRow:
    """Without claims that are out of all proportion to those of most agents."""
    count, total, squares, read, read_squares, products = sums
    mean = total / np.maximum(count, 1.0)
    middle = np.median(mean[count > 0]) if count.any() else 0.0
    near = np.clip(mean, middle - _FARTHEST, middle + _FARTHEST)
    far = near != mean
    total, squares = np.where(far, near * count, total), np.where(far, near**2 * count, squares)
    return np.stack([count, total, squares, read, read_squares, np.where(far, near * read, products)])
