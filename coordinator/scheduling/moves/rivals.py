"""Second attempts on agents that would else be idle: where the first to end is expected to end sooner.

Durations are uncertain, and what counts is the last task of a DAG. So the same few scenarios of what tasks
and agents turn out to be are drawn for all of them, given how long each attempt has run already, and an idle
agent goes where it brings the expected end of the DAGs forward most. That is the expected improvement of
Monte Carlo schedules (Zheng and Sakellariou, ScienceDirect JPDC 73(12), 2013) with the speculative copies of
MapReduce (Dean and Ghemawat, OSDI 2004, section 3.6) as the moves. An attempt that has lasted beyond all
expectation is taken to hang, and gets one wherever an agent has nothing better to do."""

from __future__ import annotations

import math
from itertools import islice
from typing import Final, NamedTuple

import numpy as np

from coordinator.core.commands import Choice
from coordinator.core.kinds import kind_of
from coordinator.core.lifecycle import HELD
from coordinator.core.limits import ATTEMPTS_KEPT, LIVE_ATTEMPTS
from coordinator.core.model import Task
from coordinator.scheduling.agents.feasibility import fitting, needs_of
from coordinator.scheduling.agents.ledger import Ledger
from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.learning.chance import below, quantile
from coordinator.scheduling.learning.expectation import Expectation
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.graphs import Expected, Graph
from coordinator.scheduling.tasks.running import Live

SCENARIOS: Final = 61
"""A prime, so that the scenarios of any two quantities are spread evenly over their square."""

TASKS_LOOKED_AT: Final = 64
"""Of those that run, the ones whose DAG would end last."""

AGENTS_LOOKED_AT: Final = 64
ATTEMPTS_LOOKED_AT: Final = 5_000

LEAST_S: Final = 1.0
"""A task that is expected to end sooner is left alone."""

MOST_BEGUN: Final = 16
"""Of a task that has begun so often no attempt is given up for another one: whatever was expected is
wrong."""

_HANGS: Final = 3.0
"""Standard deviations of the logarithm beyond which an attempt is taken to hang: one in 740 lasts so long."""
_OWN_SHARE: Final = 0.02
"""What an earlier end of a task counts beside an earlier end of everything."""
_LEAST_GAIN: Final = 1e-3
"""Of the duration of the attempt: less is not worth a start."""
_CLEARLY: Final = 1.05
"""An attempt gives way only to one that is expected to end sooner by this factor."""


class Rival(NamedTuple):
    """An attempt to begin, and the one that it replaces because the task has as many as it may, if any."""

    choice: Choice
    replaces: tuple[int, int] | None


class _Runner(NamedTuple):
    """A live attempt, and the seconds that it is still expected to take: the mean over the scenarios, since
    what it is compared with is one too."""

    attempt: int
    live: Live
    left: float


class _Race(NamedTuple):
    """A task with its live attempts: in each scenario, the logarithm of its work and when it ends; `tail` is
    what follows it. One that was `raced` gets no further attempt in the same look. It `hangs` if its only
    attempt has lasted longer than any of its kind should."""

    task: Task
    runners: list[_Runner]
    log_work: FloatRow
    ends: FloatRow
    tail: float
    hangs: bool
    raced: bool = False

    @property
    def slowest(self) -> _Runner:
        """The attempt that makes way for a better one."""
        return max(self.runners, key=lambda one: one.left)


class Racing:
    """One look at what runs and who is idle. `patience` is as in `Policy`, whose own counts unless another is
    given."""

    def __init__(
        self, snapshot: Snapshot, policy: Policy, now_s: float, patience: float | None = None
    ) -> None:
        self._snapshot = snapshot
        self._policy = policy
        self._patience = policy.patience if patience is None else patience
        self._now_s = now_s
        self._prices = snapshot.prices.renew()
        self._left = snapshot.running.left(now_s)
        self._ledger = Ledger(snapshot.agents, snapshot.look_ahead)

    def rivals(self, idle: list[int]) -> list[Rival]:
        """Attempts for these rows, each of which has a free slot."""
        most = min(self._policy.rivals, LIVE_ATTEMPTS)
        if not idle or most < 2 or not self._policy.weights.time:
            return []
        races = self._races()
        speeds = self._snapshot.estimates.speeds(races[0].task.profile.family) if races else None
        if speeds is None:
            return []
        waiting = sorted(idle, key=lambda row: -speeds.item(row))[:AGENTS_LOOKED_AT]
        chosen: list[Rival] = []
        turns = 2 * len(waiting)
        while waiting and turns and races:
            turns -= 1
            row = waiting.pop(0)
            at = self._best(row, races, most)
            if at is None:
                at = self._hanging(row, races, most)
            if at is None:
                continue
            rival, freed = self._begin(row, races, at, most)
            chosen.append(rival)
            if freed is not None:
                waiting.append(freed)
        return chosen

    def _races(self) -> list[_Race]:
        """The tasks that might have another attempt, those first that are expected to hold up their DAGs
        most."""
        families = self._snapshot.agents.families
        by_task: dict[int, list[tuple[int, Live]]] = {}
        for (key, attempt), live in islice(self._snapshot.running.items(), ATTEMPTS_LOOKED_AT):
            family = families.of(live.profile)
            if family is None or not family.repeatable:
                continue
            by_task.setdefault(key, []).append((attempt, live))
        late: list[tuple[float, int]] = []
        tails: dict[int, float] = {}
        for key, attempts in by_task.items():
            left = min(self._left.item(live.place) for _, live in attempts)
            graph = self._snapshot.graphs.of(key)
            if graph is None or graph.dag.record.ending is not None:
                continue
            if left < LEAST_S or not self._may_race(graph.task(key), attempts):
                continue
            tails[key] = self._tail(graph, key)
            late.append((left + tails[key], key))
        late.sort(reverse=True)
        races = []
        for _, key in late[:TASKS_LOOKED_AT]:
            graph = self._snapshot.graphs.of(key)
            assert graph is not None
            races.append(self._race(graph.task(key), by_task[key], tails[key]))
        return races

    def _may_race(self, task: Task, attempts: list[tuple[int, Live]]) -> bool:
        oldest = min((one.number for one in task.live), default=task.attempt)
        running = self._snapshot.running
        followed = {number for number, _ in attempts}
        return (
            task.state in HELD
            # What is not followed was to be brief: it is too early to say that it is not.
            and all(one.number in followed for one in task.live)
            and task.attempt - oldest < ATTEMPTS_KEPT - 2
            and all(running.lasts(live, self._now_s) >= self._patience for _, live in attempts)
        )

    def _tail(self, graph: Graph, key: int) -> float:
        task = graph.task(key)
        return max(graph.rank(task.index) - self._snapshot.duration_s(task), 0.0)

    def _race(self, task: Task, live: list[tuple[int, Live]], tail: float) -> _Race:
        """Scenarios of the task's work and end, given for how long its attempts have run."""
        work = self._snapshot.running.work(task.key, live[0][1])
        sigma_w = max(work.sigma, 1e-3)
        log_work: FloatRow | None = None
        ends: FloatRow | None = None
        runners = []
        for attempt, one in live:
            elapsed = max(self._now_s - one.began_s, 0.0) if one.began_s is not None else 0.0
            mean_s, sigma_s = self._log_speed(one.row, task)
            if log_work is None:
                log_work, lasts = self._first(task.key, work, sigma_w, mean_s, sigma_s, elapsed)
            else:
                most = log_work - np.log(elapsed) if elapsed > 0 else np.full(SCENARIOS, np.inf)
                chance = below((most - mean_s) / sigma_s) * _scenarios(one.row)
                lasts = np.exp(log_work - (mean_s + sigma_s * quantile(chance)))
            left = np.maximum(lasts - elapsed, 1e-6)
            ends = left if ends is None else np.minimum(ends, left)
            runners.append(_Runner(attempt, one, float(left.mean())))
        assert log_work is not None
        assert ends is not None
        hangs = len(live) == 1 and self._late(live[0][1]) > _HANGS
        return _Race(task, runners, log_work, ends + tail, tail, hangs)

    def _late(self, live: Live) -> float:
        """By how many standard deviations of its logarithm an attempt has lasted too long."""
        lasts = self._snapshot.running.lasts(live, self._now_s)
        return math.log(lasts) / self._snapshot.running.sigma(live) if lasts > 1 else 0.0

    @staticmethod
    def _first(
        key: int, work: Expectation, sigma_w: float, mean_s: float, sigma_s: float, elapsed: float
    ) -> tuple[FloatRow, FloatRow]:
        """The logarithm of work, and durations, of an attempt that has lasted so long: the duration from its
        truncated distribution, the work from the normal distribution that it then has."""
        both = sigma_w**2 + sigma_s**2
        spread, mean = both**0.5, work.log_mean - mean_s
        drawn = _scenarios(3 * key + 1)
        if elapsed > 0:
            passed = float(below(np.array([(np.log(elapsed) - mean) / spread]))[0])
            drawn = passed + (1 - passed) * drawn
        lasts = mean + spread * quantile(drawn)
        if elapsed > 0:
            lasts = np.maximum(lasts, np.log(elapsed))
        share = sigma_w**2 / both
        rest = sigma_w * (1 - share) ** 0.5
        log_work = work.log_mean + share * (lasts - mean) + rest * quantile(_scenarios(3 * key + 2))
        return log_work, np.exp(lasts)

    def _log_speed(self, row: int, task: Task) -> tuple[float, float]:
        """Mean and deviation of the logarithm of an agent's speed."""
        mean, sigma = self._snapshot.estimates.log_pace(kind_of(task.profile, task.hint), row)
        return mean, max(sigma, 1e-3)

    def _lasts(self, row: int, race: _Race) -> tuple[FloatRow, float]:
        """What another attempt takes on this agent from now on, given for how long others have run already:
        in each scenario, and expected."""
        mean, sigma = self._log_speed(row, race.task)
        graph = self._snapshot.graphs.of(race.task.key)
        arrive = (
            graph.arrivals(race.task, self._snapshot.agents, _NOTHING).at(row) if graph is not None else 0.0
        )
        lasts: FloatRow = arrive + np.exp(race.log_work - (mean + sigma * quantile(_scenarios(row))))
        return lasts, float(lasts.mean())

    def _best(self, row: int, races: list[_Race], most: int) -> int | None:
        """The race that an attempt on this agent brings forward most."""
        ends = np.array([race.ends for race in races])
        last = ends.max(axis=0)
        others = np.partition(ends, -2, axis=0)[-2] if len(races) > 1 else np.zeros(SCENARIOS)
        best, gain = None, 0.0
        for at, race in enumerate(races):
            if not self._could(row, race, most):
                continue
            lasts, expected_s = self._lasts(row, race)
            sooner = np.minimum(race.ends, lasts + race.tail)
            without = np.where(race.ends >= last, others, last)
            all_sooner = float((last - np.maximum(without, sooner)).mean())
            own = float((race.ends - sooner).mean())
            worth = all_sooner + _OWN_SHARE * own - self._effort(row, expected_s)
            if own > _LEAST_GAIN * expected_s and worth > gain:
                best, gain = at, worth
        return best

    def _hanging(self, row: int, races: list[_Race], most: int) -> int | None:
        """The race of an attempt that must be taken to hang. By what durations say it would end any moment,
        however long it has lasted, and so nothing would be gained."""
        return next(
            (at for at, race in enumerate(races) if race.hangs and self._could(row, race, most)), None
        )

    def _effort(self, row: int, seconds: float) -> float:
        """What the energy of one more attempt weighs, in seconds of time saved."""
        weights = self._policy.weights
        return weights.energy / weights.time * seconds * self._prices.power().item(row)

    def _could(self, row: int, race: _Race, most: int) -> bool:
        if race.raced or any(one.live.row == row for one in race.runners):
            return False
        snapshot, profile = self._snapshot, race.task.profile
        if not snapshot.feasible.rows(needs_of(profile), snapshot.agents)[row]:
            return False
        ledger = self._ledger
        # Who is set free may take nothing new, and what it has to stop counts until it has.
        if not ledger.accepting.item(row) or ledger.held.item(row) >= ledger.credit.item(row):
            return False
        if not all(one.holds(profile, 0.0, ledger).item(row) for one in fitting(profile, snapshot.agents)):
            return False
        if self._is_barred(row, race):
            return False
        if len(race.runners) < most:
            return True
        if race.task.attempt >= MOST_BEGUN:
            return False
        _, expected_s = self._lasts(row, race)
        return race.slowest.left > expected_s * _CLEARLY

    def _is_barred(self, row: int, race: _Race) -> bool:
        """Whether the agent's free slots are kept for other namespaces, now or before the attempt ends."""
        task, graph = race.task, self._snapshot.graphs.of(race.task.key)
        reserved, now_s = self._snapshot.reserved, self._now_s
        bounds = reserved.bounds(graph.owner.namespace, now_s) if reserved and graph is not None else None
        if bounds is None or graph is None:
            return False
        if self._ledger.held.item(row) >= bounds.now.most.item(row):
            return True
        barrier = self._snapshot.barrier(graph.owner.namespace, task.profile, task.key, task.hint, now_s)
        assert barrier is not None
        _, expected_s = self._lasts(row, race)
        return barrier.room(self._ledger, np.array([expected_s]), slice(row, row + 1)).item() <= 0

    def _begin(self, row: int, races: list[_Race], at: int, most: int) -> tuple[Rival, int | None]:
        """Add the attempt to the race; returns it, and the row that it sets free."""
        race, agents = races[at], self._snapshot.agents
        number = race.task.attempt + 1
        choice = Choice(race.task.key, number, agents.agent_id(row), agents.epochs.item(row), True)
        lasts, _ = self._lasts(row, race)
        replaces = freed = None
        if len(race.runners) >= most:
            slowest = race.slowest
            replaces, freed = (race.task.key, slowest.attempt), slowest.live.row
        races[at] = race._replace(ends=np.minimum(race.ends, lasts + race.tail), raced=True)
        return Rival(choice, replaces), freed


_NOTHING: Final[dict[int, Expected]] = {}
"""The inputs of what runs are all there."""


def _scenarios(stream: int) -> FloatRow:
    """Even chances between 0 and 1 in an order that belongs to the stream: a lattice rule."""
    step, shift = 1 + stream * 7 % (SCENARIOS - 1), stream // (SCENARIOS - 1) * 17
    order = (np.arange(SCENARIOS) * step + shift) % SCENARIOS
    chances: FloatRow = (order + 0.5) / SCENARIOS
    return chances
