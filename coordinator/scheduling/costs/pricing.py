"""What a second of work costs on each agent, by policy and family: the part of the objective that does not
depend on the task."""

from __future__ import annotations

from typing import Final

import numpy as np

from coordinator.core.kinds import kinds_of
from coordinator.core.model import TaskFamily, TaskProfile
from coordinator.families.load_weights import LoadWeights
from coordinator.scheduling.agents.capable import FeasibilityCache
from coordinator.scheduling.agents.feasibility import needs_of
from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.costs.terms import Term, total
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.learning.estimates import Estimates
from coordinator.scheduling.load.scores import AS_IT_IS, LoadScores

LEAST_SUCCESS: Final = 0.2
"""However many attempts have failed on an agent, a task is not expected to need more than five there."""

CLASSES_KEPT: Final = 256
"""Classes of tasks whose prices are remembered; beyond them all are forgotten and found again."""


class Prices:
    """A task of `w` seconds of work costs `w x per_second` beside what it waits for and moves. All arrays are
    the cache's own: they are not to be written to."""

    def __init__(
        self, agents: AgentTable, estimates: Estimates, scores: LoadScores, feasible: FeasibilityCache
    ) -> None:
        self._agents = agents
        self._estimates = estimates
        self._scores = scores
        self._feasible = feasible
        self._at = (-1, -1, -1)
        self._rows: dict[tuple[str, TaskFamily, str, int], FloatRow] = {}
        self._classes: dict[tuple[str, TaskProfile, int], tuple[FloatRow, FloatRow]] = {}
        self._inverse: dict[TaskFamily, FloatRow] = {}
        self._tries: FloatRow | None = None
        self._power: FloatRow | None = None

    def renew(self) -> Prices:
        """As things are now; returns itself."""
        at = self._estimates.version, self._agents.latest_version, self._scores.version
        if at != self._at:
            self._at = at
            self._rows, self._classes, self._inverse = {}, {}, {}
            self._tries = self._power = None
        return self

    def inverse_speed(self, family: TaskFamily) -> FloatRow:
        """By row, the seconds that a second of work takes."""
        found = self._inverse.get(family)
        if found is None:
            found = self._inverse[family] = 1 / self._estimates.speeds(family)
        return found

    def per_second(self, policy: Policy, family: TaskFamily, plug_in: str, lasts_s: float) -> FloatRow:
        """By row, of a second of work of tasks of a family, that of a plug-in if it has a name, which last so
        long or nearly; without their match."""
        ahead = self._scores.ahead(lasts_s)
        kind = policy.name, family, plug_in, ahead
        found = self._rows.get(kind)
        if found is None:
            load = self._load_terms(policy, self._own_weights(family, plug_in), None, ahead)
            found = self._rows[kind] = total([*self._terms(policy, self.inverse_speed(family)), *load])
        return found

    def of_class(self, policy: Policy, profile: TaskProfile, lasts_s: float) -> tuple[FloatRow, FloatRow]:
        """`inverse_speed` and `per_second` for tasks of one profile: agents may be quick at some kinds only,
        and fit some only. The price is infinite where the agent could never take such a task."""
        kind = policy.name, profile, self._scores.ahead(lasts_s)
        found = self._classes.get(kind)
        if found is None:
            if len(self._classes) >= CLASSES_KEPT:
                self._classes.clear()
            inverse, price = self._of_class(policy, profile, lasts_s)
            capable = self._feasible.rows(needs_of(profile), self._agents)
            found = self._classes[kind] = inverse, np.where(capable, price, np.inf)
        return found

    def _of_class(self, policy: Policy, profile: TaskProfile, lasts_s: float) -> tuple[FloatRow, FloatRow]:
        """The same, wherever the tasks could go."""
        family, inverse = profile.family, self.inverse_speed(profile.family)
        found = (self._estimates.aptitude(kind) for kind in kinds_of(profile))
        own = next((one for one in found if one is not None), None)
        if own is not None:
            inverse = inverse * np.exp(-own[: len(inverse)])
            return inverse, total(self.terms(policy, profile, inverse, lasts_s))
        price = self.per_second(policy, family, profile.family_name, lasts_s)
        balance, match = policy.weights.balance, self._scores.matches.of(profile.requirements)
        if match is None or not balance:
            return inverse, price
        weight = self._scores.weights(self._own_weights(family, profile.family_name)).match
        return inverse, price + balance * weight * match

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

    def terms(
        self, policy: Policy, profile: TaskProfile, inverse_speed: FloatRow, lasts_s: float
    ) -> list[Term]:
        """Of a second of work that takes so many seconds on each agent, what it costs beside waiting and
        moving."""
        weights = self._own_weights(profile.family, profile.family_name)
        match, ahead = self._scores.matches.of(profile.requirements), self._scores.ahead(lasts_s)
        return [
            *self._terms(policy, inverse_speed),
            *self._load_terms(policy, weights, match, ahead),
        ]

    def _terms(self, policy: Policy, inverse_speed: FloatRow) -> list[Term]:
        return [
            Term("run", policy.weights.time, inverse_speed * self.tries()),
            Term("energy", policy.weights.energy, inverse_speed * self.power()),
        ]

    def _load_terms(self, policy: Policy, own: LoadWeights, match: FloatRow | None, ahead: int) -> list[Term]:
        """The LoadScore as it is, and what is expected to be added to it, or taken from it, meanwhile."""
        scores, balance = self._scores, policy.weights.balance
        weights, measured = scores.weights(own), scores.machine(own)
        load = measured + weights.history * self._estimates.failure_shares()
        if match is not None:
            load += weights.match * match
        found = [Term("load", balance, load)]
        if ahead != AS_IT_IS:
            found.append(Term("forecast", balance, scores.machine(own, ahead) - measured))
        return found

    def _own_weights(self, family: TaskFamily, plug_in: str) -> LoadWeights:
        return self._agents.families.load_weights(family, plug_in)
