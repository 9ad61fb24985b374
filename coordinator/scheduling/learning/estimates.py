"""What a task will take: learned from ends, by kind of task and by agent.

The logarithm of a duration is modelled as that of the work of its kind, less that of the agent's speed, plus
noise: `ln(duration x advertised speed / basis) = m[kind] - f[agent] - g[family, agent] + e`. The *basis* is
what the client expects, so that a kind whose clients say what they expect learns only how wrong they are;
without an expectation it is a second, and m grows with what tasks read, where clients say that (`reads`). All
terms have priors and are brought up to date one after the other
(backfitting: Hastie and Tibshirani, Generalized Additive Models, 1990, section 4.4), those alone whose
observations have changed. A DAG may differ from what was seen of its kinds elsewhere (`offsets`), and agents
in what they are quick at (`aptitude`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from coordinator.core.kinds import Kind
from coordinator.core.model import TaskFamily
from coordinator.scheduling.agents.rows import FloatRow, IntRow
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.learning.aptitude import aptitude
from coordinator.scheduling.learning.blame import Blame
from coordinator.scheduling.learning.expectation import Expectation, guess, spread
from coordinator.scheduling.learning.kind_ends import LEAST_SPREAD, KindEnds
from coordinator.scheduling.learning.noise import noise
from coordinator.scheduling.learning.offsets import Offsets, prior_of
from coordinator.scheduling.learning.products import dot
from coordinator.scheduling.learning.reads import FLAT, PRIOR, Reads, Slope, log_read

KINDS_KEPT: Final = 2_048
"""Kinds that are remembered; beyond them the one that was longest not seen is forgotten."""

PRIOR_ENDS: Final = 3.0
"""What is known of a kind from elsewhere counts for at most so many ends of the DAG at hand."""

_PRIOR_SPREAD: Final = 0.3
"""Of the logarithm, within a kind: what is believed before there are ends to measure it by."""
_SPEED_SPREAD: Final = 0.3
"""By how much agents differ from what they advertise."""
_FAMILY_SPREAD: Final = 0.15
"""By how much an agent's speed differs between families."""
_LITTLE: Final = 0.1
"""Of a logarithm: by so much durations may change before ranks are made anew."""
_FARTHEST: Final = 5.0
"""Of the logarithm, from what is expected: an end that is farther off counts as if it were there."""
_LONGEST_S: Final = 1e9
_LOOKED_AGAIN: Final = 1.1
_RENEWED_AT_ONCE: Final = 64
"""Kinds, and agents, that one renewal brings up to date: what is left follows with the next."""
_BRIEF_S: Final = 0.1
"""What ends of tasks that last no longer have taught is not needed at once,"""
PATIENCE_S: Final = 0.1
"""but so much later: where such tasks end, many do, and each renewal makes all prices anew."""
_SETTLED_AFTER: Final = 4
"""Times that kinds and agents are brought up to date in turn until what they say of each other is at rest."""


class Estimates:
    """`version` changes whenever an expectation or a speed may have, `epoch` when one of a kind has by more
    than a little."""

    def __init__(self, agents: AgentTable) -> None:
        self._agents = agents
        self._kinds: dict[Kind, KindEnds] = {}
        self._offsets = Offsets()
        self._changed_kinds: dict[Kind, None] = {}
        self._changed_rows: dict[int, None] = {}
        self._factor: FloatRow = np.zeros(0)
        self._weight: FloatRow = np.zeros(0)
        self._by_family: dict[TaskFamily, FloatRow] = {}
        self._told: dict[TaskFamily, FloatRow] = {}
        """By family and row, how much ends say of the agent's speed, as the inverse of a variance."""
        self._blame = Blame()
        self._asked: dict[Kind, float] = {}
        """Of kinds that have no ends yet, the logarithm of what the first task reads that was asked of."""
        self._expected: dict[int, dict[Kind, Expectation]] = {}
        self._of_new: dict[Kind, Expectation] = {}
        """Of tasks of any DAG that has no ends."""
        self._speeds: dict[TaskFamily, tuple[tuple[int, int], FloatRow]] = {}
        self._mean_inverse = ((-1, -1), 1.0)
        self._pressing = False
        """Whether more has been observed than the ends of brief tasks of kinds that are known."""
        self._renewed_s = -math.inf
        self.version = 0
        self.epoch = 0

    # --- learning -------------------------------------------------------------------------------------------

    def observe(self, kind: Kind, dag: int, agent_id: str, seconds: float, hint: int = 0) -> None:
        """A task of this kind and DAG has completed on this agent. What is no duration is passed over."""
        row = self._agents.rows.get(agent_id)
        if row is None or not 0 <= seconds < _LONGEST_S:
            return
        self._fit_to_agents()
        basis = hint / 1_000 if kind.stated else 1.0
        value = math.log(max(seconds, 1e-6) * self._agents.speed.item(row) / basis)
        ends = self._seen(kind)
        self._blame.completed(kind, row, ends.sums.item(0, row))
        factor = self._total_factor(ends.family, row)
        read, of_reading = self._read(kind, hint)
        before = ends.believed() if ends.known else None
        if ends.settled and ends.known >= PRIOR_ENDS:
            expected = ends.log_mean + of_reading.mean * read - factor
            value = min(max(value, expected - _FARTHEST), expected + _FARTHEST)
        ends.observe(row, value, read)
        self._offsets.observe(dag, kind, value + factor - of_reading.mean * read, ends.noise, before)
        self._changed_kinds[kind] = None
        self._changed_rows[row] = None
        self._pressing |= seconds > _BRIEF_S or not ends.settled

    def failed(self, kind: Kind, agent_id: str) -> None:
        """A task of this kind has come to nothing on this agent, which may be to blame."""
        row = self._agents.rows.get(agent_id)
        if row is None:
            return
        self._fit_to_agents()
        self._blame.failed(kind, row, self._seen(kind).sums.item(0, row))
        self._changed_kinds[kind] = None
        self._pressing = True

    def remember(self, kind: Kind, rows: IntRow, sums: FloatRow, read: FloatRow, failed: FloatRow) -> None:
        """What the agents in these rows have shown before any end is observed: how many ended, the sums of
        the logarithms of durations at the advertised speed over their basis and of those squared; the same
        of what was read, as of `Reads`; how many failed."""
        self._fit_to_agents()
        self._seen(kind).remember(rows, sums, read)
        self._blame.remember(kind, rows, sums[0], failed)
        self._changed_kinds[kind] = None
        self._changed_rows |= dict.fromkeys(rows[sums[0] > 0].tolist())

    def remember_gone(self, kind: Kind, sums: FloatRow, read: FloatRow) -> None:
        """The same of agents that are gone for good, all together: three sums each."""
        self._fit_to_agents()
        self._seen(kind).remember_gone(sums, read)
        self._changed_kinds[kind] = None

    def forget_dag(self, dag: int) -> None:
        """The DAG has ended; what its kinds have taught stays."""
        self._offsets.forget(dag)
        self._expected.pop(dag, None)

    def forget_row(self, row: int) -> None:
        """The agent in this row is gone; the row is another's from now on."""
        self._fit_to_agents()
        for ends in self._kinds.values():
            ends.take_in()
            if ends.sums[0, row]:
                ends.keep(row, self._total_factor(ends.family, row))
            if ends.aptitude is not None:
                ends.aptitude.factors[row] = 0
        for factors in (self._factor, self._weight, *self._by_family.values(), *self._told.values()):
            factors[row] = 0
        self._blame.forget_row(row)

    # --- asking ---------------------------------------------------------------------------------------------

    def renew_in_time(self, now_s: float) -> None:
        """`renew`, now or when it can be put off no longer."""
        if self._pressing or not 0 <= now_s - self._renewed_s < PATIENCE_S:
            self._renewed_s = now_s
            self.renew()
            self._pressing = bool(self._changed_kinds or self._changed_rows)

    def renew(self) -> bool:
        """Take in what was observed since, a bounded part of it at once; returns whether anything changed."""
        return self._take_in(_RENEWED_AT_ONCE, 2)

    def settle(self) -> None:
        """Take in all that is remembered: as if it had been observed end by end."""
        self._take_in(None, _SETTLED_AFTER)

    def _take_in(self, at_once: int | None, times: int) -> bool:
        if not (self._changed_kinds or self._changed_rows):
            return False
        self._fit_to_agents()
        kinds = list(self._changed_kinds)[:at_once]
        rows = np.array(list(self._changed_rows)[:at_once], np.intp)
        for kind in kinds:
            self._kinds[kind].take_in()
        for _ in range(times):
            for kind in kinds:
                self._renew_kind(kind)
            if len(rows):
                self._renew_rows(rows)
        for kind in kinds:
            del self._changed_kinds[kind]
            ends = self._kinds[kind]
            self._blame.renew(kind, ends.sums[0])
            self._renew_aptitude(ends)
            if ends.has_moved(_LITTLE):
                self.epoch += 1
        for row in rows.tolist():
            del self._changed_rows[row]
        self._expected.clear()
        self._of_new.clear()
        self.version += 1
        return True

    def work(self, kind: Kind, dag: int, hint: int = 0) -> Expectation:
        """What a task of this kind and DAG is expected to take on an agent of speed 1."""
        found = self.basic(kind, dag)
        if kind.stated:
            return Expectation.of(found.log_mean + math.log(hint / 1_000), found.sigma)
        if not kind.sized:
            return found
        read, slope = self._read(kind, hint)
        # What is not known of the slope widens the distribution, and leaves the expected seconds alone.
        unknown = slope.variance * read * read
        log_mean = found.log_mean + slope.makes(read) - 0.5 * unknown
        return Expectation.of(log_mean, math.sqrt(found.sigma**2 + unknown), known=found.known)

    def basic(self, kind: Kind, dag: int) -> Expectation:
        """The same for a second that a client expects, if the kind is one whose clients do, or for what its
        tasks typically read: its seconds grow by `scale`."""
        of_dag = self._expected.get(dag)
        if of_dag is None:
            of_dag = self._expected[dag] = {}
        found = of_dag.get(kind)
        if found is None:
            found = of_dag[kind] = self._of_new_dag(kind, dag) or self._expect(kind, dag)
        return found

    def basics(self, kinds: Sequence[Kind], dags: Sequence[int]) -> list[Expectation]:
        """`basic` of each kind in the DAG at its place."""
        expected: list[Expectation] = []
        of_dag: Mapping[Kind, Expectation] = {}
        last = None
        for kind, dag in zip(kinds, dags, strict=True):
            if dag != last:
                of_dag, last = self._expected.setdefault(dag, {}), dag
            expected.append(of_dag.get(kind) or self.basic(kind, dag))
        return expected

    def work_s(self, kind: Kind, dag: int, hint: int = 0) -> float:
        """The mean of `work`."""
        return self.basic(kind, dag).seconds * self.scale(kind, hint)

    def scale(self, kind: Kind, hint: int) -> float:
        """What a task takes over what `basic` says of its kind."""
        if kind.stated:
            return hint / 1_000
        if not kind.sized:
            return 1.0
        read, slope = self._read(kind, hint)
        return math.exp(slope.makes(read))

    def speeds(self, family: TaskFamily) -> FloatRow:
        """By row, as it counts in the mean of durations: E[duration] = E[work] / speed. Not to be written
        to."""
        known = self._speeds.get(family)
        at = (self.version, self._agents.latest_version)
        if known is not None and known[0] == at:
            return known[1]
        self._fit_to_agents()
        size = self._agents.size
        speed: FloatRow = self._agents.speed[:size] * np.exp(
            self._total_factors(family)[:size] - 0.5 * self.speed_sigma() ** 2
        )
        self._speeds[family] = at, speed
        return speed

    def aptitude(self, kind: Kind) -> FloatRow | None:
        """By row, what is added to the logarithm of the agent's speed for tasks of this kind; None if nothing
        is. Not to be written to."""
        ends = self._kinds.get(kind)
        return None if ends is None or ends.aptitude is None else ends.aptitude.factors

    def log_pace(self, kind: Kind, row: int) -> tuple[float, float]:
        """Mean and deviation of the logarithm of an agent's speed for tasks of this kind."""
        mean, sigma = self.log_speed(kind.family, row)
        own = self.aptitude(kind)
        return (mean, sigma) if own is None else (mean + own.item(row), sigma)

    def pace(self, kind: Kind, row: int) -> float:
        """The median of an agent's speed for tasks of this kind."""
        self._fit_to_agents()
        factor, own = self._total_factor(kind.family, row), self.aptitude(kind)
        if own is not None:
            factor += own.item(row)
        return self._agents.speed.item(row) * math.exp(factor)

    def log_speed(self, family: TaskFamily, row: int) -> tuple[float, float]:
        """Mean and deviation of the logarithm of an agent's speed."""
        self._fit_to_agents()
        factor = self._total_factor(family, row)
        sigma = (self._weight.item(row) + 1 / _SPEED_SPREAD**2) ** -0.5
        return math.log(self._agents.speed.item(row)) + factor, sigma

    def mean_inverse_speed(self) -> float:
        """The seconds that a second of work takes on the mean of the agents that are there; 1 without any."""
        at = (self.version, self._agents.latest_version)
        if self._mean_inverse[0] != at:
            there = self._agents.present[: self._agents.size]
            speeds = self.speeds(TaskFamily.UNSPECIFIED)
            self._mean_inverse = at, float((1 / speeds)[there].mean()) if there.any() else 1.0
        return self._mean_inverse[1]

    def speed_sigma(self) -> FloatRow:
        """By row, how uncertain the logarithm of the speed is."""
        self._fit_to_agents()
        sigma: FloatRow = 1 / np.sqrt(self._weight[: self._agents.size] + 1 / _SPEED_SPREAD**2)
        return sigma

    def failure_shares(self) -> FloatRow:
        """By row, the share of attempts that come to nothing by the agent's fault, 0 to below 1, shrunk
        towards none."""
        self._fit_to_agents()
        return self._blame.shares(self._agents.size)

    # --- the model ------------------------------------------------------------------------------------------

    def _of_new_dag(self, kind: Kind, dag: int) -> Expectation | None:
        """What is expected of a kind in a DAG that has no ends; None if this one has."""
        if dag in self._offsets:
            return None
        found = self._of_new.get(kind)
        if found is None:
            if len(self._of_new) >= KINDS_KEPT:
                self._of_new.clear()
            found = self._of_new[kind] = self._expect(kind, dag)
        return found

    def _expect(self, kind: Kind, dag: int) -> Expectation:
        ends = self._kinds.get(kind)
        if ends is None or not ends.known:
            return self._of_relatives(kind)
        count, total, elsewhere = self._offsets.ends(dag, kind)
        if elsewhere:
            belief = self._offsets.believe(dag, kind, ends.noise, ends.believed())
            # What is not known of the mean widens the distribution, and leaves the expected seconds alone.
            # That the DAG differs from others is no noise.
            return Expectation.of(
                belief.mean - 0.5 * belief.variance, math.sqrt(ends.noise + belief.variance)
            )
        prior = min(ends.known, PRIOR_ENDS)
        log_mean = (prior * ends.log_mean + total) / (prior + count)
        return Expectation.of(log_mean, math.sqrt(ends.variance))

    def _of_relatives(self, kind: Kind) -> Expectation:
        """Of a kind that was never seen: as other kinds of its type last, or else all that are known; clients
        are believed."""
        if kind.stated:
            return Expectation.of(0.0, _PRIOR_SPREAD)
        known = [
            (one, ends)
            for one, ends in self._kinds.items()
            if (ends.settled or ends.prior[0]) and not one.stated
        ]
        near = [pair for pair in known if pair[0].type == kind.type] or known
        if not near:
            return guess()
        means = [math.exp(ends.log_mean + 0.5 * ends.variance) for _, ends in near]
        return guess(sum(means) / len(means), spread([ends.log_mean for _, ends in near]))

    def _renew_kind(self, kind: Kind) -> None:
        ends = self._kinds[kind]
        if not ends.known:
            return
        factors = self._total_factors(ends.family)
        if ends.aptitude is not None:
            factors = factors + ends.aptitude.factors
        ends.renew_slope(factors)
        count, total, squares = ends.sums
        weight, mean, variance = ends.prior
        here = float(count.sum())
        summed = float(total.sum()) + dot(count, factors)
        squared = float(squares.sum()) + 2 * dot(total, factors) + dot(count, factors * factors)
        ends.log_mean = (weight * mean + summed) / max(weight + here, 1e-9)
        # That a DAG differs from history must not be taken for the speed of its agents.
        told = weight if kind.stated else min(weight, ends.noise / sum(prior_of(kind)))
        ends.mean_here = (told * mean + summed) / max(told + here, 1e-9)
        around = squared - 2 * ends.log_mean * summed + here * ends.log_mean**2
        believed = PRIOR_ENDS + min(weight, PRIOR_ENDS)
        expected = variance if weight else _PRIOR_SPREAD**2
        ends.variance = max((around + believed * expected) / (here + believed), LEAST_SPREAD**2)
        ends.noise = max(noise(ends.sums, factors, believed, expected), LEAST_SPREAD**2)
        ends.settled = True

    def _renew_aptitude(self, ends: KindEnds) -> None:
        """Of agents whose speed is known from other kinds of the family. Where none was found, it is looked
        for again once there is a tenth more to see, so that it costs little by the end."""
        count, total, _ = ends.sums
        here = float(count.sum())
        told = self._told.get(ends.family)
        if told is None:
            return
        if ends.aptitude is None and ends.aptitude_at <= here <= _LOOKED_AGAIN * ends.aptitude_at:
            return
        ends.aptitude_at = here
        comparable = told - ends.tells(count) >= 1 / _SPEED_SPREAD**2
        slower = total / np.maximum(count, 1e-9) + self._total_factors(ends.family) - ends.log_mean
        ends.aptitude = aptitude(np.where(comparable, count, 0.0), slower, ends.noise)

    def _renew_rows(self, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> None:
        families = list(dict.fromkeys(ends.family for ends in self._kinds.values()))
        numerator = {family: np.zeros(len(rows)) for family in families}
        weight = {family: np.zeros(len(rows)) for family in families}
        for ends in self._kinds.values():
            count, total, _ = ends.sums[:, rows]
            tells = ends.tells(count)
            numerator[ends.family] += tells * (ends.mean_here - total / np.maximum(count, 1e-9))
            weight[ends.family] += tells
        deviations = {family: self._deviation(family)[rows] for family in families}
        if families:
            explained = sum(numerator[one] - weight[one] * deviations[one] for one in families)
            self._weight[rows] = sum(weight.values())
            for one in families:
                self._told_of(one)[rows] = weight[one]
            self._factor[rows] = explained / (self._weight[rows] + 1 / _SPEED_SPREAD**2)
        if len(families) > 1:
            for one in families:
                left = numerator[one] - weight[one] * self._factor[rows]
                self._deviation(one)[rows] = left / (weight[one] + 1 / _FAMILY_SPREAD**2)

    def _told_of(self, family: TaskFamily) -> FloatRow:
        found = self._told.get(family)
        if found is None:
            found = self._told[family] = np.zeros(len(self._factor))
        return found

    def _deviation(self, family: TaskFamily) -> FloatRow:
        found = self._by_family.get(family)
        if found is None:
            found = self._by_family[family] = np.zeros(len(self._factor))
        return found

    def _total_factors(self, family: TaskFamily) -> FloatRow:
        deviation = self._by_family.get(family)
        return self._factor if deviation is None else self._factor + deviation

    def _total_factor(self, family: TaskFamily, row: int) -> float:
        deviation = self._by_family.get(family)
        return self._factor.item(row) + (0.0 if deviation is None else deviation.item(row))

    def _seen(self, kind: Kind) -> KindEnds:
        """Of a kind that may be new, and that has now been seen last."""
        ends = self._kinds.pop(kind, None) or self._new_kind(kind)
        self._kinds[kind] = ends
        return ends

    def _new_kind(self, kind: Kind) -> KindEnds:
        if len(self._kinds) >= KINDS_KEPT:
            oldest = next(iter(self._kinds))
            del self._kinds[oldest]
            self._changed_kinds.pop(oldest, None)
            self._blame.forget_kind(oldest)
        # Clients are believed until they are found wrong.
        prior = PRIOR_ENDS if kind.stated else 0.0, 0.0, _PRIOR_SPREAD**2
        rows = len(self._agents.version)
        reads = Reads(rows, self._asked.pop(kind, None)) if kind.sized else None
        return KindEnds(kind.family, rows, prior, reads)

    def _read(self, kind: Kind, hint: int) -> tuple[float, Slope]:
        """What a task reads, over what is typical of its kind, as a logarithm, and what comes of it."""
        if not kind.sized or hint >= 0:
            return 0.0, FLAT
        ends = self._kinds.get(kind)
        if ends is not None and ends.reads is not None:
            return ends.reads.off(hint), ends.reads.slope
        typical = self._asked.get(kind)
        if typical is None:
            if len(self._asked) >= KINDS_KEPT:
                del self._asked[next(iter(self._asked))]
            typical = self._asked[kind] = log_read(hint)
        return log_read(hint) - typical, PRIOR

    def _fit_to_agents(self) -> None:
        """Rows are added as the table of agents grows."""
        lacking = len(self._agents.version) - len(self._factor)
        if lacking <= 0:
            return
        self._factor = np.pad(self._factor, (0, lacking))
        self._weight = np.pad(self._weight, (0, lacking))
        self._blame.fit(len(self._factor))
        self._by_family = {one: np.pad(row, (0, lacking)) for one, row in self._by_family.items()}
        self._told = {one: np.pad(row, (0, lacking)) for one, row in self._told.items()}
        for ends in self._kinds.values():
            ends.widen(lacking)
