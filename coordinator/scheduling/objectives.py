"""What placing costs: the solver gives each task to the feasible agent whose cost is lowest.

A cost must not fall while a round books more onto an agent; the solver relies on it.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import TaskProfile
from coordinator.scheduling.agents import FloatRow
from coordinator.scheduling.ledger import Ledger

LOAD_WEIGHT: Final = 0.05
"""A fully loaded agent counts as if a twentieth of its slots were taken more: it decides between equals."""

TIE_WEIGHT: Final = 1e-6
"""Far less than one attempt on an agent of many slots."""

PREVIOUS_PENALTY: Final = 0.5
"""What it costs to go back to the agent where the task's last attempt failed, in slots of slots."""


class Objective(Protocol):
    """The cost of one more task of a profile, on many agents or on one; both must agree."""

    def costs(self, profile: TaskProfile, rows: NDArray[np.intp]) -> FloatRow:
        """Over the given rows."""

    def cost(self, profile: TaskProfile, row: int) -> float:
        """Of one row, after what was booked."""


class LeastLoaded:
    """Attempts held per slot, and a little for the load that the agent measured. Equals take turns, from the
    one at row `turn` on: lone tasks would else all go to the same idle agent."""

    def __init__(self, ledger: Ledger, turn: int) -> None:
        self._ledger = ledger
        self._tie_break: FloatRow = TIE_WEIGHT * _distances(len(ledger.booked), turn)

    def costs(self, profile: TaskProfile, rows: NDArray[np.intp]) -> FloatRow:
        """As `Objective`."""
        ledger = self._ledger
        load = LOAD_WEIGHT * ledger.load[rows]
        return ledger.held[rows] / ledger.slots[rows] + load + self._tie_break[rows]

    def cost(self, profile: TaskProfile, row: int) -> float:
        """As `Objective`."""
        ledger = self._ledger
        load = LOAD_WEIGHT * ledger.load.item(row)
        return ledger.held.item(row) / ledger.slots.item(row) + load + self._tie_break.item(row)


class RoundRobin:
    """Every agent in turn, from the one at row `turn` on: tasks given in this round, then the distance from
    there."""

    def __init__(self, ledger: Ledger, turn: int) -> None:
        self._booked = ledger.booked
        self._distance: FloatRow = _distances(len(ledger.booked), turn)

    def costs(self, profile: TaskProfile, rows: NDArray[np.intp]) -> FloatRow:
        """As `Objective`."""
        return self._booked[rows] + self._distance[rows]

    def cost(self, profile: TaskProfile, row: int) -> float:
        """As `Objective`."""
        return self._booked.item(row) + self._distance.item(row)


def _distances(rows: int, turn: int) -> FloatRow:
    """Per row how far it is from the one at `turn`, going round; from 0 to below 1."""
    distances: FloatRow = (np.arange(rows) - turn) % max(1, rows) / max(1, rows)
    return distances
