"""What placing costs: the solver gives each task to the feasible agent whose cost is lowest.

A cost must not fall while a round books more onto an agent; the solver relies on it.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import TaskProfile
from coordinator.scheduling.agents.ledger import Ledger
from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.costs.terms import Term

LOAD_WEIGHT: Final = 0.05
"""A fully loaded agent counts as if a twentieth of its slots were taken more: it decides between equals."""

TIE_WEIGHT: Final = 1e-6
"""Far less than one attempt on an agent of many slots."""

PREVIOUS_PENALTY: Final = 0.5
"""What it costs to go back to the agent where the task's last attempt failed, in slots of slots."""


_WORD: Final = (1 << 64) - 1


class Objective(Protocol):
    """The cost of one more task of a profile, term by term on many agents or on one; both must agree."""

    draws: int
    """Of so many agents, drawn for each task, the cheapest is taken; 0: of all."""

    def terms(self, profile: TaskProfile, rows: NDArray[np.intp]) -> list[Term]:
        """What makes up the cost, over the given rows."""

    def cost(self, profile: TaskProfile, row: int) -> float:
        """Of one row, after what was booked."""


class LeastLoaded:
    """Attempts held per slot, and a little for the load that the agent measured. Equals take turns, from the
    one at row `turn` on: lone tasks would else all go to the same idle agent."""

    draws = 0

    def __init__(self, ledger: Ledger, turn: int) -> None:
        self._ledger = ledger
        self._tie_break: FloatRow = TIE_WEIGHT * _distances(len(ledger.booked), turn)

    def terms(self, profile: TaskProfile, rows: NDArray[np.intp]) -> list[Term]:
        """As `Objective`."""
        ledger = self._ledger
        return [
            Term("held_per_slot", 1.0, ledger.held[rows] / ledger.slots[rows]),
            Term("load", LOAD_WEIGHT, ledger.load[rows]),
            Term("turn", 1.0, self._tie_break[rows]),
        ]

    def cost(self, profile: TaskProfile, row: int) -> float:
        """As `Objective`."""
        ledger = self._ledger
        load = LOAD_WEIGHT * ledger.load.item(row)
        return ledger.held.item(row) / ledger.slots.item(row) + load + self._tie_break.item(row)


class PowerOfTwo(LeastLoaded):
    """The less loaded of two agents that chance gives: nearly as even as the least loaded of all, and nobody
    has to know all (Mitzenmacher, IEEE TPDS 12(10), 2001)."""

    draws = 2


class RoundRobin:
    """Every agent in turn, from the one at row `turn` on: tasks given in this round, then the distance from
    there."""

    draws = 0

    def __init__(self, ledger: Ledger, turn: int) -> None:
        self._booked = ledger.booked
        self._distance: FloatRow = _distances(len(ledger.booked), turn)

    def terms(self, profile: TaskProfile, rows: NDArray[np.intp]) -> list[Term]:
        """As `Objective`."""
        return [
            Term("given", 1.0, self._booked[rows].astype(np.float64)),
            Term("turn", 1.0, self._distance[rows]),
        ]

    def cost(self, profile: TaskProfile, row: int) -> float:
        """As `Objective`."""
        return self._booked.item(row) + self._distance.item(row)


class FirstFree:
    """The first agent that has room, in the order in which they came."""

    draws = 0

    def __init__(self, ledger: Ledger, turn: int) -> None:
        del turn
        self._order: FloatRow = np.arange(len(ledger.booked), dtype=np.float64)

    def terms(self, profile: TaskProfile, rows: NDArray[np.intp]) -> list[Term]:
        """As `Objective`."""
        return [Term("order", 1.0, self._order[rows])]

    def cost(self, profile: TaskProfile, row: int) -> float:
        """As `Objective`."""
        return self._order.item(row)


def drawn(key: int, attempt: int, among: int, draws: int) -> list[int]:
    """So many different numbers below `among`, or all if there are no more, that belong to this attempt of
    this task and to no other. They are as good as drawn by chance (SplitMix64: Steele, Lea and Flood, OOPSLA
    2014), and each node and test finds the same."""
    state = (key * 0x9E3779B97F4A7C15 + attempt) & _WORD
    chosen: list[int] = []
    while len(chosen) < min(draws, among):
        state = (state + 0x9E3779B97F4A7C15) & _WORD
        mixed = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _WORD
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _WORD
        number = (mixed ^ mixed >> 31) % among
        if number not in chosen:
            chosen.append(number)
    return chosen


def _distances(rows: int, turn: int) -> FloatRow:
    """Per row how far it is from the one at `turn`, going round; from 0 to below 1."""
    distances: FloatRow = (np.arange(rows) - turn) % max(1, rows) / max(1, rows)
    return distances
