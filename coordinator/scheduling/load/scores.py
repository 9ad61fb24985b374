"""The LoadScore as it counts for the tasks of a family (D3): by its weights or the operator's, in the present
state of the system, of what was measured and of what is expected to be."""

from __future__ import annotations

import math
from typing import Final

from coordinator.families.load_weights import LoadWeights
from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.load.match import Matches
from coordinator.scheduling.load.measured import Measured
from coordinator.scheduling.load.score import following, machine_score
from coordinator.scheduling.load.weights import chosen

AS_IT_IS: Final = -1
"""In the place of a distance: the load is taken to stay as it was measured."""


class LoadScores:
    """Arrays over the rows of the table; they are the cache's own, and not to be written to."""

    def __init__(self, agents: AgentTable, measured: Measured, operators: LoadWeights | None = None) -> None:
        self._agents = agents
        self._measured = measured
        self._operators = operators
        self.matches = Matches(agents)
        self._at = (-1, -1)
        self._now: dict[LoadWeights, LoadWeights] = {}
        self._machine: dict[tuple[LoadWeights, int], FloatRow] = {}

    @property
    def version(self) -> int:
        """Changes whenever a load may have."""
        return self._measured.version

    def weights(self, own: LoadWeights) -> LoadWeights:
        """What counts for tasks of a family that has these weights, as things are now."""
        self._renew()
        found = self._now.get(own)
        if found is None:
            agents, measured = self._agents, self._measured
            judged = agents.present[: agents.size] & measured.reported
            found = following(chosen(own, self._operators), measured.loads(), judged)
            self._now[own] = found
        return found

    def machine(self, own: LoadWeights, ahead: int = AS_IT_IS) -> FloatRow:
        """The part of the score that does not depend on the task: of what was measured last or, where it is
        known better, of what is expected at one of `Measured.leads_s`."""
        self._renew()
        found = self._machine.get((own, ahead))
        if found is None:
            measured = self._measured
            loads = measured.loads() if ahead == AS_IT_IS else measured.loads_at(ahead)
            found = self._machine[own, ahead] = machine_score(self.weights(own), loads)
        return found

    def ahead(self, lasts_s: float) -> int:
        """The distance nearest to the middle of a task that begins now and lasts so long; `AS_IT_IS` if now
        is nearer, or nothing is expected."""
        leads = self._measured.leads_s
        if not leads or lasts_s <= leads[0]:
            return AS_IT_IS
        middle = min(0.5 * lasts_s, leads[-1])
        return min(range(len(leads)), key=lambda at: math.fabs(leads[at] - middle))

    def _renew(self) -> None:
        at = self._measured.version, self._agents.latest_version
        if at != self._at:
            self._at = at
            self._now, self._machine = {}, {}
