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
_NEVER: Final = -1


class FeasibilityCache:
    """A table of kinds by agents, renewed for those agents that have changed. All arrays are the cache's own:
    they are not to be written to. `forgotten` counts how often all kinds were forgotten."""

    def __init__(self) -> None:
        self.forgotten = 0
        self._at: dict[Needs, int] = {}
        self._needs: list[Needs] = []
        self._version: IntRow = np.zeros(0, np.int64)
        self._capable: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)
        self._forget()

    def rows(self, needs: Needs, agents: AgentTable) -> BoolRow:
        """Over `agents.size` rows, whether the agent could ever take such a task."""
        at = self._at.get(needs)
        if at is None:
            (at,) = self.positions([needs])
        self._renew(at, agents)
        return self._capable[at, : agents.size]

    def positions(self, wanted: Sequence[Needs]) -> list[int]:
        """Where each of these kinds is in the table, until `forgotten` changes."""
        known = self._at
        if len(known) + len(wanted) > KINDS_KEPT and not all(needs in known for needs in wanted):
            self._forget()
            known = self._at
        return [known[needs] if needs in known else self._add(needs) for needs in wanted]

    def of_each(
        self, positions: NDArray[np.intp], rows: NDArray[np.intp], agents: AgentTable
    ) -> NDArray[np.bool_]:
        """By kind, given their positions, and place, whether the agent in the row of this place could ever
        take such a task. The array is new."""
        behind = self._version[positions] != agents.latest_version
        for at in positions[behind].tolist() if behind.any() else ():
            self._renew(at, agents)
        return self._capable[positions].take(rows, axis=1)

    def _renew(self, at: int, agents: AgentTable) -> None:
        version, size = self._version.item(at), agents.size
        if version == agents.latest_version:
            return
        changed: Rows = slice(0, size)
        if version != _NEVER:
            changed = np.flatnonzero(agents.version[:size] > version)
        if size > self._capable.shape[1]:
            self._capable = np.pad(self._capable, ((0, 0), (0, len(agents.version) - self._capable.shape[1])))
        self._capable[at, changed] = could_take(self._needs[at], agents, changed)
        self._version[at] = agents.latest_version

    def _add(self, needs: Needs) -> int:
        at = self._at[needs] = len(self._needs)
        self._needs.append(needs)
        if at == len(self._version):
            self._version = np.pad(self._version, (0, at), constant_values=_NEVER)
            self._capable = np.pad(self._capable, ((0, at), (0, 0)))
        return at

    def _forget(self) -> None:
        """All of it. Arrays that somebody still looks at stay as they are."""
        self.forgotten += 1
        self._at, self._needs = {}, []
        self._version = np.full(_FIRST_KINDS, _NEVER, np.int64)
        self._capable = np.zeros((_FIRST_KINDS, 0), np.bool_)
