"""TaskMatch (a4): how badly an agent fits a task that it could take, from what both say of themselves."""

from __future__ import annotations

from typing import Final

import numpy as np

from coordinator.core.model import Requirements
from coordinator.scheduling.agents.rows import RESOURCE_FIELDS, FloatRow, Rows
from coordinator.scheduling.agents.table import AgentTable, resource_vector

KINDS_KEPT: Final = 10_000
"""Requirements of which the match is remembered; beyond them all are forgotten and found again."""

_GPU: Final = RESOURCE_FIELDS.index("gpu_memory_bytes")


class Matches:
    """0 for an agent that has just what the task asks for, towards 1 for one that is wasted on it. Kept by
    requirements, and renewed only for agents that changed."""

    def __init__(self, agents: AgentTable) -> None:
        self._agents = agents
        self._known: dict[Requirements, tuple[int, FloatRow, bool]] = {}

    def of(self, requirements: Requirements) -> FloatRow | None:
        """Over the rows of the table; None where every agent fits. The array is the cache's own: do not write
        to it."""
        agents = self._agents
        version, row, tells = self._known.get(requirements, (-1, _NOBODY, False))
        if version == agents.latest_version:
            return row if tells else None
        if version < 0 and len(self._known) >= KINDS_KEPT:
            self._known.clear()
        row = np.concatenate([row, np.zeros(agents.size - len(row))])
        changed = np.flatnonzero(agents.version[: agents.size] > version)
        row[changed] = unused(requirements, agents, changed)
        tells = bool(row.any())
        self._known[requirements] = agents.latest_version, row, tells
        return row if tells else None


def unused(requirements: Requirements, agents: AgentTable, rows: Rows) -> FloatRow:
    """The mean share that the task leaves unused, over the resources and levels of capabilities that it asks
    for, and the memory of a GPU, whether it asks for it or not, where the agent has one."""
    total = agents.total[rows].astype(np.float64)
    asked = resource_vector(requirements.resources).astype(np.float64)
    counts = np.broadcast_to(asked > 0, total.shape).copy()
    counts[:, _GPU] |= total[:, _GPU] > 0
    shares = np.where(counts, _left(total, asked), 0.0)
    of = counts.sum(axis=1)
    sums = shares.sum(axis=1)
    for name, level in requirements.capabilities:
        sums += _left(agents.levels(name)[rows].astype(np.float64), np.array(float(level)))
        of += 1
    mean: FloatRow = sums / np.maximum(of, 1)
    return mean


def _left(has: FloatRow, needed: FloatRow) -> FloatRow:
    """The part of it that is not needed; 0 where there is less."""
    used: FloatRow = np.divide(needed, has, out=np.ones_like(has), where=has > 0)
    return np.clip(1 - used, 0.0, 1.0)


_NOBODY: Final[FloatRow] = np.zeros(0)
