"""The global layer of placement: in which groups of agents a task is looked at, by summaries alone.

Of each group it is known which kinds of tasks anybody there could ever take. The region of a task are the
groups where somebody could. No place elsewhere is of use to it: what is left out is no choice that it had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduling.agents.capable import FeasibilityCache
from coordinator.scheduling.agents.feasibility import KINDS_KEPT, Needs
from coordinator.scheduling.agents.groups import Groups
from coordinator.scheduling.agents.table import AgentTable

Region = bytes
"""By group, whether it belongs to the region; those that are equal are the same."""

ANYWHERE: Final = b""
"""The region of tasks that somebody in each group could take, and of all where groups are not looked at."""

ALL_ROWS: Final = 256
"""Up to so many agents are looked at one and all."""

AGENTS_PER_GROUP: Final = 8
"""Where groups have fewer, to look at them takes as long as to look at all agents."""

REGIONS_KEPT: Final = 256
"""Whose agents are remembered; beyond them all are found again."""


class Regions:
    """Kept until an agent comes, goes or changes. All arrays are the cache's own: they are not to be written
    to."""

    def __init__(self, agents: AgentTable, groups: Groups, feasible: FeasibilityCache) -> None:
        self._agents = agents
        self._groups = groups
        self._feasible = feasible
        self._at = -1
        self._told_apart = False
        self._of: dict[Needs, Region] = {}
        self._rows: dict[Region, NDArray[np.intp]] = {}

    def told_apart(self) -> bool:
        """Whether groups are looked at; if not, all tasks go anywhere."""
        agents = self._agents
        if self._at != agents.latest_version:
            self._at = agents.latest_version
            self._of, self._rows, self._told_apart = {}, {}, False
            if agents.size > ALL_ROWS:
                groups = self._groups.renew()
                self._told_apart = 1 < len(groups) <= agents.size // AGENTS_PER_GROUP
        return self._told_apart

    def of_each(self, wanted: Sequence[Needs]) -> list[Region]:
        """Where such tasks are looked at."""
        if not self.told_apart():
            return [ANYWHERE] * len(wanted)
        known = self._of
        if len(known) + len(wanted) > KINDS_KEPT:
            known.clear()
        found = []
        for needs in wanted:
            region = known.get(needs)
            if region is None:
                region = known[needs] = self._find(needs)
            found.append(region)
        return found

    def rows(self, region: Region) -> NDArray[np.intp] | None:
        """The agents of a region, ascending; None for all."""
        if region == ANYWHERE:
            return None
        found = self._rows.get(region)
        if found is None:
            if len(self._rows) >= REGIONS_KEPT:
                self._rows.clear()
            groups = self._groups
            there = np.zeros(self._agents.size, np.bool_)
            there[groups.rows[np.repeat(np.frombuffer(region, np.bool_), groups.sizes)]] = True
            found = self._rows[region] = there.nonzero()[0]
        return found

    def _find(self, needs: Needs) -> Region:
        able = self._groups.any(self._feasible.rows(needs, self._agents))
        return ANYWHERE if able.all() else able.tobytes()


def united(regions: Sequence[Region]) -> Region:
    """All that belongs to one of them."""
    if ANYWHERE in regions:
        return ANYWHERE
    masks = np.frombuffer(b"".join(regions), np.bool_).reshape(len(regions), -1)
    union = masks.any(axis=0)
    return ANYWHERE if union.all() else union.tobytes()
