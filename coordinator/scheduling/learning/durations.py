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
    """Answers from the estimates, remembered while they and the agents stay as they are. What lasts no longer
    than `brief_s` is brief."""

    def __init__(self, agents: AgentTable, estimates: Estimates, brief_s: float) -> None:
        self._agents = agents
        self._estimates = estimates
        self._brief_s = brief_s
        self._at = (-1, -1)
        self._seconds: dict[tuple[int, TaskProfile, int, int], float] = {}
        self._brief: dict[tuple[TaskProfile, int, int], bool] = {}

    def on(self, row: int, profile: TaskProfile, key: int, hint: int) -> float:
        """Seconds, of a task by its key and its hint (`Task.hint`), on the agent in this row."""
        self._renew()
        asked = row, profile, key >> INDEX_BITS, hint
        found = self._seconds.get(asked)
        if found is None:
            estimates, kind = self._estimates, kind_of(profile, hint)
            seconds = estimates.work_s(kind, key >> INDEX_BITS, hint) / estimates.pace(kind, row)
            found = self._seconds[asked] = seconds
        return found

    def is_brief(self, profile: TaskProfile, key: int, hint: int) -> bool:
        """Whether the task is known not to last, on an agent of speed 1."""
        self._renew()
        asked = profile, key >> INDEX_BITS, hint
        found = self._brief.get(asked)
        if found is None:
            kind = kind_of(profile, hint)
            basic = self._estimates.basic(kind, key >> INDEX_BITS)
            lasts_s = basic.seconds * self._estimates.scale(kind, hint)
            found = self._brief[asked] = basic.known and lasts_s <= self._brief_s
        return found

    def _renew(self) -> None:
        at = self._estimates.version, self._agents.latest_version
        many = len(self._seconds) + len(self._brief)
        if at != self._at or many >= ANSWERS_KEPT:
            self._at = at
            self._seconds.clear()
            self._brief.clear()
