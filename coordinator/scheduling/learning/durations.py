"""How long a task is expected to last on one agent: asked for every attempt that is given, and the same for
all tasks that are alike until something is learned."""

from __future__ import annotations

from typing import Final

from coordinator.core.kinds import kind_of
from coordinator.core.model import INDEX_BITS, TaskProfile
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.learning.estimates import Estimates

ANSWERS_KEPT: Final = 4_096
"""Beyond them all are forgotten and found again."""


class Durations:
    """Answers from the estimates, remembered while they and the agents stay as they are."""

    def __init__(self, agents: AgentTable, estimates: Estimates) -> None:
        self._agents = agents
        self._estimates = estimates
        self._at = (-1, -1)
        self._known: dict[tuple[int, TaskProfile, int, int], float] = {}

    def on(self, row: int, profile: TaskProfile, key: int, hint: int) -> float:
        """Seconds, of a task by its key and its hint (`Task.hint`), on the agent in this row."""
        at = self._estimates.version, self._agents.latest_version
        if at != self._at or len(self._known) >= ANSWERS_KEPT:
            self._at = at
            self._known.clear()
        dag = key >> INDEX_BITS
        asked = row, profile, dag, hint
        found = self._known.get(asked)
        if found is None:
            estimates, kind = self._estimates, kind_of(profile, hint)
            found = self._known[asked] = estimates.work_s(kind, dag, hint) / estimates.pace(kind, row)
        return found
