"""The project's own state machine and scheduler on virtual time.

Decisions are those of a real leader (`leader`). What is simulated are agents of one slot: what a predecessor
wrote elsewhere begins to move when the task is given to an agent, and with all inputs there it takes as long
as the problem says. Entries and messages take no time.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from bench.placement.instances import Instance
from bench.placement.leader import Leader, Stalled
from bench.placement.platform import Platform, Reality
from bench.placement.schedules import Problem, Schedule
from bench.placement.workload import Workload, workload_of
from coordinator.core.commands import AttemptReport, Command, OpenSession, Report, ReportKind, SubmitDag
from coordinator.core.model import INDEX_MASK, AgentSpec, AttemptOutcome, DagHeader
from coordinator.core.outcome import Effects
from coordinator.scheduling.costs.weights import Policy

CREDIT: Final = 4
"""Attempts that an agent holds at most: one that runs, and what placement may queue behind it."""

_START_S: Final = 1_000.0
"""Of virtual time, so that no stamp is 0."""

_LOOK_S: Final = 1.0
_LOOKS_GROW: Final = 1.2
"""When the leader looks at what runs while nothing happens, and how much longer it waits each time."""

_MOST_ATTEMPTS: Final = 200
"""Begun for each task of a workload: a scheduler that begins more ends none of them."""


class Run(NamedTuple):
    """What came of a run: attempts that were begun, decisions of the scheduler, and where and when those
    attempts ran that gave a result."""

    begun: int
    decisions: int
    schedule: Schedule


class _Attempt(NamedTuple):
    key: int
    number: int
    ready_s: float


class _Agent:
    """One slot, and what it has been given. `turn` changes with what runs: an event of an earlier turn means
    nothing any more."""

    def __init__(self, at: int, agent_id: str, epoch: int) -> None:
        self.at = at
        self.id = agent_id
        self.epoch = epoch
        self.queue: deque[_Attempt] = deque()
        self.runs: _Attempt | None = None
        self.since = 0.0
        self.turn = 0


_Event = tuple[float, int, Callable[[_Agent], None], _Agent, int]
"""When, its number, what happens, to whom, in which turn."""


class VirtualCluster:
    """Agents, and one workload for them. `snapshot` may be told what is known before the run."""

    def __init__(
        self, problem: Problem, workload: Workload, agents: Sequence[AgentSpec], policy: Policy
    ) -> None:
        self._leader = Leader(policy, self._carry_out)
        self.snapshot = self._leader.snapshot
        self._problem = problem
        self._costs: list[list[float]] = problem.costs.tolist()
        self._workload = workload
        self._now_s = _START_S
        self._events: list[_Event] = []
        self._numbers = itertools.count()
        self._begun = 0
        count = len(problem)
        self._ran_on = [-1] * count
        self._start, self._finish = [0.0] * count, [0.0] * count
        self._agents: dict[str, _Agent] = {}
        for at, spec in enumerate(agents):
            self._apply([OpenSession(spec, [])])
            epoch = self._leader.state.agents[spec.agent_id].record.epoch
            self._agents[spec.agent_id] = _Agent(at, spec.agent_id, epoch)

    @classmethod
    def of(
        cls, instance: Instance, platform: Platform, reality: Reality, policy: Policy, *, stated: bool
    ) -> VirtualCluster:
        """A recorded workflow on agents that advertise the speeds of the platform and have those of reality.
        `stated`: the client says what tasks took in the trace."""
        problem = Problem.of(instance, reality.work, reality.speeds, platform.bandwidth)
        agents = [agent_spec(at, speed) for at, speed in enumerate(platform.speeds.tolist())]
        return cls(problem, workload_of(instance, stated=stated), agents, policy)

    def run(self) -> Run:
        """Until the workload has ended. Raises Stalled."""
        workload = self._workload
        self._apply([SubmitDag("", DagHeader(workload.name), workload.profiles, workload.block)])
        self._leader.decide(self._now_s)
        while self._leader.state.dags:
            if not self._events:
                raise Stalled(f"{len(self.snapshot.waiting)} tasks wait, and nothing happens any more")
            if self._begun > _MOST_ATTEMPTS * len(self._problem):
                raise Stalled(
                    f"{self._begun:,} attempts were begun of {len(self._problem):,} tasks, and no end"
                )
            self._look_until(self._events[0][0])
            self._now_s = self._events[0][0]
            while self._events and self._events[0][0] <= self._now_s:
                _, _, happens, agent, turn = heapq.heappop(self._events)
                if turn == agent.turn:
                    happens(agent)
            self._leader.decide(self._now_s)
        return Run(self._begun, self._leader.decisions, Schedule(self._ran_on, self._start, self._finish))

    # --- the leader -----------------------------------------------------------------------------------------

    def _look_until(self, next_s: float) -> None:
        """As long as nothing happens the leader looks at what runs: here less and less often, not every
        second."""
        gap_s = _LOOK_S
        while self._leader.looks_at_what_runs and self._now_s + gap_s < next_s:
            self._now_s += gap_s
            gap_s *= _LOOKS_GROW
            before = len(self._events)
            self._leader.decide(self._now_s)
            if len(self._events) > before:
                return

    def _apply(self, commands: list[Command]) -> None:
        self._leader.apply(commands, self._now_s)

    def _carry_out(self, effects: Effects) -> None:
        for agent_id, key, number, _ in effects.halt:
            self._stop(self._agents[agent_id], key, number)
        for agent_id, key, number in effects.dispatch:
            self._give(self._agents[agent_id], key, number)

    # --- agents ---------------------------------------------------------------------------------------------

    def _give(self, agent: _Agent, key: int, number: int) -> None:
        ready_s = self._now_s
        for before, seconds in self._problem.before[key & INDEX_MASK]:
            if self._ran_on[before] != agent.at:
                ready_s = max(ready_s, self._now_s + seconds)
        agent.queue.append(_Attempt(key, number, ready_s))
        self._at(self._now_s, self._take_next, agent)

    def _take_next(self, agent: _Agent) -> None:
        if agent.runs is None and agent.queue:
            agent.runs = agent.queue.popleft()
            agent.turn += 1
            self._at(max(self._now_s, agent.runs.ready_s), self._begin, agent)

    def _begin(self, agent: _Agent) -> None:
        runs = agent.runs
        assert runs is not None
        self._begun += 1
        agent.since = self._now_s
        self._report(agent, AttemptReport(runs.key, runs.number, ReportKind.STARTED))
        self._at(self._now_s + self._costs[runs.key & INDEX_MASK][agent.at], self._end, agent)

    def _end(self, agent: _Agent) -> None:
        runs = agent.runs
        assert runs is not None
        agent.runs = None
        index = runs.key & INDEX_MASK
        if self._ran_on[index] < 0:
            self._ran_on[index] = agent.at
            self._start[index], self._finish[index] = agent.since - _START_S, self._now_s - _START_S
        took_us = round((self._now_s - agent.since) * 1e6)
        self._report(agent, _ended(runs.key, runs.number, AttemptOutcome.COMPLETED, took_us))
        self._take_next(agent)

    def _stop(self, agent: _Agent, key: int, number: int) -> None:
        if agent.runs is not None and (agent.runs.key, agent.runs.number) == (key, number):
            agent.runs = None
            agent.turn += 1
            self._at(self._now_s, self._take_next, agent)
        agent.queue = deque(one for one in agent.queue if (one.key, one.number) != (key, number))
        self._report(agent, _ended(key, number, AttemptOutcome.CANCELLED))

    def _report(self, agent: _Agent, report: AttemptReport) -> None:
        self._apply([Report(agent.id, agent.epoch, [report])])

    def _at(self, when: float, happens: Callable[[_Agent], None], agent: _Agent) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happens, agent, agent.turn))


def agent_spec(at: int, speed: float = 1.0) -> AgentSpec:
    """The agent in this column of a problem, as it advertises itself."""
    return AgentSpec(f"agent-{at:05}", "virtual", 1, CREDIT, speed=speed)


def _ended(key: int, number: int, outcome: AttemptOutcome, duration_us: int = 0) -> AttemptReport:
    return AttemptReport(key, number, ReportKind.ENDED, outcome=outcome, duration_us=duration_us)
