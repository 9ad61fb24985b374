"""What a second of work costs on each agent, by policy and family: the part of the objective that does not
depend on the task."""

from __future__ import annotations

from typing import Final

import numpy as np

from coordinator.core.kinds import kind_of
from coordinator.core.model import TaskFamily, TaskProfile
from coordinator.scheduling.agents.table import AgentTable, FloatRow
from coordinator.scheduling.costs.terms import Term, total
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.learning.estimates import Estimates

LEAST_SUCCESS: Final = 0.2
"""However many attempts have failed on an agent, a task is not expected to need more than five there."""


class Prices:
    """A task of `w` seconds of work costs `w x per_second` beside what it waits for and moves. All arrays are
    the cache's own: they are not to be written to."""

    def __init__(self, agents: AgentTable, estimates: Estimates) -> None:
        self._agents = agents
        self._estimates = estimates
        self._at = (-1, -1, -1)
        self._rows: dict[tuple[str, TaskFamily], FloatRow] = {}
        self._inverse: dict[TaskFamily, FloatRow] = {}
        self._tries: FloatRow | None = None
        self._power: FloatRow | None = None

    def renew(self) -> Prices:
        """As things are now; returns itself."""
        at = self._estimates.version, self._agents.latest_version, self._agents.load_version
        if at != self._at:
            self._at = at
            self._rows, self._inverse = {}, {}
            self._tries = self._power = None
        return self

    def inverse_speed(self, family: TaskFamily) -> FloatRow:
        """By row, the seconds that a second of work takes."""
        found = self._inverse.get(family)
        if found is None:
            found = self._inverse[family] = 1 / self._estimates.speeds(family)
        return found

    def per_second(self, policy: Policy, family: TaskFamily) -> FloatRow:
        """By row, of a second of work."""
        found = self._rows.get((policy.name, family))
        if found is None:
            terms = self.terms(policy, self.inverse_speed(family))
            found = self._rows[policy.name, family] = total(terms)
        return found

    def of_class(self, policy: Policy, profile: TaskProfile) -> tuple[FloatRow, FloatRow]:
        """`inverse_speed` and `per_second` for tasks of one profile: agents may be quick at some kinds
        only."""
        estimates, inverse = self._estimates, self.inverse_speed(profile.family)
        own = estimates.aptitude(kind_of(profile, 0))
        if own is None:
            own = estimates.aptitude(kind_of(profile, 1))
        if own is None:
            return inverse, self.per_second(policy, profile.family)
        inverse = inverse * np.exp(-own[: len(inverse)])
        return inverse, total(self.terms(policy, inverse))

    def power(self) -> FloatRow:
        """By row, of a busy slot, over the mean of those that say theirs; those that do not count as mean."""
        if self._power is None:
            watts = self._agents.busy_watts[: self._agents.size]
            stated = watts > 0
            mean = float(watts[stated].mean()) if stated.any() else 1.0
            self._power = np.where(stated, watts / mean, 1.0)
        return self._power

    def tries(self) -> FloatRow:
        """By row, the attempts that a task is expected to need."""
        if self._tries is None:
            self._tries = 1 / np.maximum(1 - self._estimates.failure_shares(), LEAST_SUCCESS)
        return self._tries

    def terms(self, policy: Policy, inverse_speed: FloatRow) -> list[Term]:
        """Of a second of work that takes so many seconds on each agent, what it costs beside waiting and
        moving."""
        weights, agents = policy.weights, self._agents
        return [
            Term("run", weights.time, inverse_speed * self.tries()),
            Term("load", weights.balance, agents.load[: agents.size].copy()),
            Term("energy", weights.energy, inverse_speed * self.power()),
        ]
