"""Groups of agents, as the global layer of placement and explanations see them: the groups that an agent
names, else its zone; or what a label says that the operator has chosen.

An agent that names several groups is in each. Pairs of a group and a row are kept in the order of groups, so
that what a group has is one reduction over a column of the table."""

from __future__ import annotations

from itertools import chain
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import AgentSpec
from coordinator.scheduling.agents.rows import BoolRow, IntRow
from coordinator.scheduling.agents.table import AgentTable

_Scalar = TypeVar("_Scalar", bound=np.generic)

_NONE: Final[NDArray[np.intp]] = np.zeros(0, np.intp)


def groups_of(spec: AgentSpec, label: str = "") -> tuple[str, ...]:
    """The names of an agent's groups, one at least: "" of an agent that says nothing of where it belongs. One
    without the label goes by groups and zone."""
    if label:
        for name, value in spec.labels:
            if name == label:
                return (value,)
    return spec.groups or (spec.zone,)


class Groups:
    """Those that have agents, by number; numbers are good until the next renewal, which looks only at agents
    that have changed since the last. `rows` are the agents of the first group, then those of the second, and
    so on, in ascending order each, `sizes` how many these are. Neither is to be written to."""

    def __init__(self, agents: AgentTable, label: str = "") -> None:
        self._agents = agents
        self._label = label
        self._at = -1
        self._group = _NONE
        self._first = _NONE
        self.names: list[str] = []
        self.rows = _NONE
        self.sizes: IntRow = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def renew(self) -> Groups:
        """As agents are now; returns itself."""
        agents, before = self._agents, self._at
        if before != agents.latest_version:
            self._at = agents.latest_version
            self._regroup(np.flatnonzero(agents.version[: agents.size] > before))
        return self

    def of(self, number: int) -> NDArray[np.intp]:
        """The rows of a group, ascending."""
        begin = self._first.item(number)
        return self.rows[begin : begin + self.sizes.item(number)]

    def any(self, column: BoolRow) -> BoolRow:
        """By group, whether any of its agents has it, of a column over rows."""
        return self._reduced(np.logical_or, column)

    def least(self, column: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """By group, the least of a column over rows."""
        return self._reduced(np.minimum, column)

    def most(self, column: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """By group, the most of a column over rows."""
        return self._reduced(np.maximum, column)

    def total(self, column: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """By group, the sum of a column over rows."""
        return self._reduced(np.add, column)

    def _reduced(self, how: np.ufunc, column: NDArray[_Scalar]) -> NDArray[_Scalar]:
        if not len(self):
            return column[:0]
        reduced: NDArray[_Scalar] = how.reduceat(column.take(self.rows), self._first)
        return reduced

    def _regroup(self, changed: NDArray[np.intp]) -> None:
        specs, label = self._agents.specs, self._label
        named = [() if (spec := specs[row]) is None else groups_of(spec, label) for row in changed.tolist()]
        row = np.repeat(changed, [len(names) for names in named])
        numbers = {name: number for number, name in enumerate(self.names)}
        group = np.array([numbers.setdefault(name, len(numbers)) for name in chain(*named)], np.intp)
        gone = np.zeros(len(specs), np.bool_)
        gone[changed] = True
        left = gone[self.rows]
        if np.array_equal(_ordered(row, group), _ordered(self.rows[left], self._group[left])):
            return
        row, group = _ordered(np.append(self.rows[~left], row), np.append(self._group[~left], group))
        there, self._first, self._group, self.sizes = np.unique(
            group, return_index=True, return_inverse=True, return_counts=True
        )
        names = list(numbers)
        self.names, self.rows = [names[number] for number in there.tolist()], row


def _ordered(row: NDArray[np.intp], group: NDArray[np.intp]) -> NDArray[np.intp]:
    """Pairs of both, by group and then by row."""
    return np.stack([row, group])[:, np.lexsort((row, group))]
