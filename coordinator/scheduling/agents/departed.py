"""Agents that were here: since when nobody could take a task, where nobody can."""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from coordinator.core.model import AgentSpec
from coordinator.scheduling.agents.feasibility import Needs, could_take
from coordinator.scheduling.agents.table import AgentTable

DEPARTED_KEPT: Final = 256
"""Of those that left, or are otherwise than they were, the last."""


class Departed:
    """What agents were until they left or changed, and when that was."""

    def __init__(self) -> None:
        self._kept: deque[tuple[AgentSpec, float]] = deque(maxlen=DEPARTED_KEPT)

    def add(self, spec: AgentSpec, at_s: float) -> None:
        """Nobody is like this any more, as far as this agent goes."""
        self._kept.append((spec, at_s))

    def latest(self, needs: Needs) -> float:
        """When the last of them that could have taken the task went; 0 if none is known."""
        table = AgentTable()
        for row, (spec, _) in enumerate(self._kept):
            table.put(msgspec.structs.replace(spec, agent_id=str(row)), 0)
        could = could_take(needs, table, slice(0, table.size))
        return max((at_s for (_, at_s), one in zip(self._kept, could, strict=True) if one), default=0.0)
