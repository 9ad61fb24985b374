"""What a new leader's estimates begin with: the history that the state holds."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from coordinator.core.history import FAILED_ONE, FRACTION_BITS, Ends, History
from coordinator.core.kinds import Kind
from coordinator.scheduling.agents.table import FloatRow
from coordinator.scheduling.snapshot import Snapshot

_UNIT: Final = math.log(2) / (1 << FRACTION_BITS)
"""Of the state's logarithms, in those of estimates."""
_FARTHEST: Final = 5.0
"""Of the logarithm, from the median of the agents: whose mean is farther off counts as if it were there."""


def remember(history: History, snapshot: Snapshot) -> None:
    """Give the estimates what is known of agents that are in the table, and of those that are gone for
    good."""
    known: dict[Kind, list[tuple[int, ...]]] = {}
    gone: dict[Kind, Ends] = {}
    rows, estimates = snapshot.agents.rows, snapshot.estimates
    for (agent_id, kind), ends in reversed(history.rows.items()):
        if (row := rows.get(agent_id)) is not None:
            known.setdefault(kind, []).append((row, ends.count, ends.total, ends.squares, ends.failed))
        elif not agent_id:
            known.setdefault(kind, [])
            gone[kind] = ends
    # The kinds seen last come last: they are kept longest.
    for kind, pairs in reversed(known.items()):
        if (one := gone.get(kind)) is not None:
            estimates.remember_gone(kind, one.count, one.total * _UNIT, one.squares * _UNIT * _UNIT)
        if pairs:
            at, count, total, squares, failed = np.array(pairs, np.float64).T
            sums = _believed(count, total * _UNIT, squares * _UNIT * _UNIT)
            estimates.remember(kind, at.astype(np.int64), sums, failed / FAILED_ONE)
    estimates.settle()


def _believed(count: FloatRow, total: FloatRow, squares: FloatRow) -> FloatRow:
    """Without claims that are out of all proportion to those of most agents."""
    mean = total / np.maximum(count, 1.0)
    middle = np.median(mean[count > 0]) if count.any() else 0.0
    near = np.clip(mean, middle - _FARTHEST, middle + _FARTHEST)
    far = near != mean
    return np.stack([count, np.where(far, near * count, total), np.where(far, near**2 * count, squares)])
