"""Tasks of tools, models and anti-affinity groups of which an agent takes no more than so many at once, in
rounds of many: which of the places that are left a class may have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduling.agents.ledger import Demand, Ledger
from coordinator.scheduling.agents.rows import BoolRow, IntRow
from coordinator.scheduling.agents.table import Use


class Bounded:
    """Those of the classes, by position, that use what some agent bounds, and these `uses`, given what their
    tasks take. Whoever takes a place takes one of each at once, so that those who come later see what is
    left."""

    def __init__(self, ledger: Ledger, demands: Mapping[int, Demand]) -> None:
        self._ledger = ledger
        self.uses: dict[int, tuple[Use, ...]] = {}
        for at, demand in demands.items():
            if uses := ledger.bounded(demand):
                self.uses[at] = uses

    def keep_off(self, can: NDArray[np.bool_], rows: NDArray[np.intp]) -> None:
        """None of them can take a place of an agent that takes no more."""
        left: dict[Use, BoolRow] = {}
        for at, uses in self.uses.items():
            for use in uses:
                if use not in left:
                    left[use] = self._ledger.places(use)[rows] > 0
                can[at] &= left[use]

    def take(self, at: int, rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
        """A class takes places on these rows, so many at most, the first of each agent first: which."""
        uses = self.uses[at]
        nth, most = _nth_of_each(rows), self._ledger.places(uses[0])[rows]
        for use in uses[1:]:
            most = np.minimum(most, self._ledger.places(use)[rows])
        taken = (nth < most).nonzero()[0][:count]
        self._count(uses, rows[taken], -1)
        return taken

    def give_back(self, of: NDArray[np.intp], rows: NDArray[np.intp]) -> None:
        """Tasks of these classes, a row each, have not got the place after all."""
        for at in set(of.tolist()) & self.uses.keys():
            self._count(self.uses[at], rows[of == at], 1)

    def _count(self, uses: tuple[Use, ...], rows: NDArray[np.intp], more: int) -> None:
        for use in uses:
            np.add.at(self._ledger.places(use), rows, more)


def _nth_of_each(rows: NDArray[np.intp]) -> IntRow:
    """How often each row has come before."""
    order = rows.argsort(kind="stable")
    there = rows[order]
    first = np.ones(len(rows), np.bool_)
    first[1:] = there[1:] != there[:-1]
    begin = first.nonzero()[0]
    nth: IntRow = np.zeros(len(rows), np.int64)
    nth[order] = np.arange(len(rows)) - begin[np.cumsum(first) - 1]
    return nth
