"""What a cost is made of. Plans add the terms up, explanations show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from coordinator.scheduling.agents.rows import FloatRow


class Term(NamedTuple):
    """A part of a cost over rows of agents: it adds `weight` times its values, which are `scale x rows`."""

    name: str
    weight: float
    rows: FloatRow
    scale: float = 1.0

    def value(self, row: int) -> float:
        """On one row, before it is weighed."""
        return self.scale * self.rows.item(row)

    def at(self, row: int) -> float:
        """What it adds on one row."""
        return self.weight * self.value(row)


def total(terms: Sequence[Term]) -> FloatRow:
    """The cost, over the rows of its terms. The array is new."""
    costs: FloatRow = np.zeros(len(terms[0].rows))
    for term in terms:
        if term.weight:
            costs += term.weight * term.scale * term.rows
    return costs
