"""What tasks cost on each agent beside their work, by family (E3): loading a model, moving data, and so on.

Kept per family and requirements, and renewed only for agents of which something has changed that families
see (`AgentTable.touched`)."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from coordinator.core.model import Requirements, TaskProfile
from coordinator.scheduling.agents.offers import Offered
from coordinator.scheduling.agents.rows import FloatRow, IntRow, Rows
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.learning.estimates import Estimates
from coordinator.scheduling.load.measured import Measured

MODEL_LOAD_S: Final = 10.0
"""What loading a model of unknown size takes where the operator does not say."""

_EQUAL_S: Final = 2e-3
"""Costs that differ by less tell agents not apart."""

KINDS_KEPT: Final = 10_000
"""Families with requirements whose costs are remembered; beyond them all are forgotten and found again."""

NOT_ALIKE: Final = -1
FOR_GOOD: Final = np.iinfo(np.int64).max
"""In the place of a touch, before all and after all of them."""


class _Costs(msgspec.Struct):
    """By row as of the touch `at`; `told` is None where all agents cost the same."""

    at: int
    row: FloatRow
    told: FloatRow | None


class Affinity:
    """`setup_s` of any profile, over the rows of the table."""

    def __init__(
        self, agents: AgentTable, measured: Measured, estimates: Estimates, model_load_s: float = MODEL_LOAD_S
    ) -> None:
        self._agents = agents
        self._measured = measured
        self._estimates = estimates
        self._model_load_s = model_load_s
        self._known: dict[tuple[str, Requirements], _Costs | None] = {}
        self._free: set[TaskProfile] = set()
        """Profiles whose tasks cost nothing beside their work anywhere: most, in rounds of very many."""

    def setup_s(self, profile: TaskProfile) -> FloatRow | None:
        """By row, the seconds that a task costs there beside its work; None where that does not tell agents
        apart. The array is the cache's own: do not write to it."""
        if profile in self._free:
            return None
        known = self._costs(profile)
        if known is not None:
            return known.told
        if len(self._free) >= KINDS_KEPT:
            self._free.clear()
        self._free.add(profile)
        return None

    def alike_until(self, profile: TaskProfile) -> int:
        """The touch (`AgentTable.touched`) up to which it is known that `setup_s` does not tell agents apart:
        `FOR_GOOD` where it never will, `NOT_ALIKE` where it does."""
        if self.setup_s(profile) is not None:
            return NOT_ALIKE
        return FOR_GOOD if profile in self._free else self._agents.latest_touch

    def _costs(self, profile: TaskProfile) -> _Costs | None:
        family = self._agents.families.of(profile)
        if family is None or family.setup_s is None:
            return None
        kind = (family.name, profile.requirements)
        known = self._known.get(kind, _UNKNOWN)
        if known is None or known.at == self._agents.latest_touch:
            return known
        if known is _UNKNOWN and len(self._known) >= KINDS_KEPT:
            self._known.clear()
            self._free.clear()
        known = self._known[kind] = self._renewed(profile, known)
        return known

    def _renewed(self, profile: TaskProfile, known: _Costs) -> _Costs | None:
        agents = self._agents
        size, before = agents.size, len(known.row)
        row = np.concatenate([known.row, np.zeros(size - before)]) if before < size else known.row
        changed = np.flatnonzero(agents.touched[:size] > known.at)
        found = self._ask(profile, changed)
        if found is None:
            return None
        row[changed] = found
        there = row[agents.present[:size]]
        apart = len(there) > 0 and there.max() - there.min() > _EQUAL_S
        return _Costs(agents.latest_touch, row, row if apart else None)

    def _ask(self, profile: TaskProfile, rows: IntRow) -> FloatRow | None:
        families = self._agents.families
        family = families.of(profile)
        assert family is not None
        seen = _Seen(self._agents, rows, self._measured, self._estimates, self._model_load_s)
        found = families.setup_s(family, profile.requirements, seen)
        if found is not None and found.shape != rows.shape:
            families.faults[family.name] = f"its `setup_s` gave an array of shape {found.shape}"
            return None
        return found


class _Seen(Offered):
    """The agents of some rows with what they hold and have measured."""

    def __init__(
        self,
        agents: AgentTable,
        rows: Rows,
        measured: Measured,
        estimates: Estimates,
        model_load_s: float,
    ) -> None:
        super().__init__(agents, rows)
        self._measured = measured
        self._estimates = estimates
        self._load_s = model_load_s

    @property
    def latency_ms(self) -> FloatRow:
        """As `Agents`."""
        return self._agents.latency_ms[self._rows]

    @property
    def network(self) -> FloatRow:
        """As `Agents`."""
        return self._measured.loads().network[self._rows]

    @property
    def failure_share(self) -> FloatRow:
        """As `Agents`."""
        return self._estimates.failure_shares()[self._rows]

    @property
    def model_load_s(self) -> float:
        """As `Agents`."""
        return self._load_s

    def users(self, kind: str, name: str) -> IntRow:
        """As `Agents`."""
        return self._agents.users((kind, name))[self._rows]


_UNKNOWN: Final = _Costs(-1, np.zeros(0), None)
