"""Who could ever take a task, remembered per kind of task (`feasibility.could_take`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduling.agents.feasibility import KINDS_KEPT, Needs, could_take
from coordinator.scheduling.agents.rows import BoolRow, IntRow, Rows
from coordinator.scheduling.agents.table import AgentTable

_FIRST_KINDS: Final = 16
_UNKNOWN: Final = -1


class FeasibilityCache:
    """A table of kinds by agents, renewed for those agents that have changed. All arrays are the cache's own:
    they are not to be written to."""

    def __init__(self) -> None:
        self._at: dict[Needs, int] = {}
        self._version: IntRow = np.zeros(0, np.int64)
        self._capable: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)
        self._forget()

    def rows(self, needs: Needs, agents: AgentTable) -> BoolRow:
        """Over `agents.size` rows, whether the agent could ever take such a task."""
        at = self._renewed(needs, agents)
        return self._capable[at, : agents.size]

    def of_each(
        self, wanted: Sequence[Needs], rows: NDArray[np.intp], agents: AgentTable
    ) -> NDArray[np.bool_]:
        """By kind and place, whether the agent in the row of this place could ever take such a task. The
        array is new."""
        at = self._known(wanted)
        if (at == _UNKNOWN).any() or (self._version[at] != agents.latest_version).any():
            if len(self._at) + len(wanted) > KINDS_KEPT:
                self._forget()
            for needs in wanted:
                self._renewed(needs, agents)
            at = self._known(wanted)
        return self._capable[at].take(rows, axis=1)

    def _known(self, wanted: Sequence[Needs]) -> NDArray[np.intp]:
        get = self._at.get
        return np.array([get(needs, _UNKNOWN) for needs in wanted], np.intp)

    def _renewed(self, needs: Needs, agents: AgentTable) -> int:
        """Where the kind is in the table, which has its latest now."""
        at, size = self._at.get(needs, _UNKNOWN), agents.size
        if at != _UNKNOWN and self._version.item(at) == agents.latest_version:
            return at
        changed: Rows = slice(0, size)
        if at == _UNKNOWN:
            at = self._add(needs)
        else:
            changed = np.flatnonzero(agents.version[:size] > self._version.item(at))
        if size > self._capable.shape[1]:
            self._capable = np.pad(self._capable, ((0, 0), (0, len(agents.version) - self._capable.shape[1])))
        self._capable[at, changed] = could_take(needs, agents, changed)
        self._version[at] = agents.latest_version
        return at

    def _add(self, needs: Needs) -> int:
        if len(self._at) >= KINDS_KEPT:
            self._forget()
        at = self._at[needs] = len(self._at)
        if at == len(self._version):
            self._version = np.pad(self._version, (0, at), constant_values=_UNKNOWN)
            self._capable = np.pad(self._capable, ((0, at), (0, 0)))
        return at

    def _forget(self) -> None:
        """All of it. Arrays that somebody still looks at stay as they are."""
        self._at = {}
        self._version = np.full(_FIRST_KINDS, _UNKNOWN, np.int64)
        self._capable = np.zeros((_FIRST_KINDS, 0), np.bool_)
