"""The project's own state machine and scheduler on virtual time: a workflow on agents of one slot each.

Nothing of the scheduler is copied here: entries go through `machine.apply`, their effects through `Mirror`,
and what `Scheduler` decides is the next entry, as on a leader. What is simulated are the agents: a task's
inputs begin to move when it is given to an agent, and its work takes as long as `Reality` says."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from typing import Final, NamedTuple

from bench.placement.instances import Instance
from bench.placement.platform import Platform, Reality
from coordinator.core import machine
from coordinator.core.commands import (
    FORMAT,
    Assign,
    AttemptReport,
    Command,
    Entry,
    OpenSession,
    Report,
    ReportKind,
    SubmitDag,
)
from coordinator.core.model import (
    INDEX_MASK,
    AgentSpec,
    AttemptOutcome,
    DagHeader,
    DataItem,
    State,
    TaskBlock,
    TaskExtras,
    TaskFamily,
    TaskProfile,
)
from coordinator.core.outcome import Effects
from coordinator.scheduling.lookahead import LookAhead
from coordinator.scheduling.mirror import Mirror
from coordinator.scheduling.scheduler import Scheduler
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.solver import PlanLimits
from coordinator.scheduling.weights import Policy

_START_S: Final = 1_000.0
_LONGEST_MS: Final = 1 << 40
_CREDIT: Final = 4


class Run(NamedTuple):
    """What came of a run: seconds, and attempts that were begun and that gave a result."""

    makespan: float
    begun: int
    decisions: int


class _Attempt(NamedTuple):
    key: int
    number: int
    ready_s: float


class _Agent:
    """One slot, and what it has been given."""

    def __init__(self, agent_id: str, epoch: int, speed: float) -> None:
        self.id = agent_id
        self.epoch = epoch
        self.speed = speed
        self.queue: list[_Attempt] = []
        self.runs: _Attempt | None = None
        self.since = 0.0
        self.turn = 0


class VirtualCluster:
    """A cluster with one workflow. `stated`: clients say what tasks take, else the scheduler has to learn
    it."""

    def __init__(
        self,
        instance: Instance,
        platform: Platform,
        reality: Reality,
        policy: Policy,
        *,
        stated: bool,
        advertised: Iterable[float] | None = None,
    ) -> None:
        self._instance = instance
        self._platform = platform
        self._reality = reality
        self._state = State()
        self._index = 0
        self.snapshot = Snapshot(LookAhead())
        self._mirror = Mirror(lambda: self._state, self.snapshot)
        self._scheduler = Scheduler(self.snapshot, policy, PlanLimits())
        self._now_s = _START_S
        self._heap: list[tuple[float, int, str, str, int]] = []
        self._order = itertools.count()
        self._agents: dict[str, _Agent] = {}
        self._where: dict[int, set[str]] = {}
        self.begun = self.decisions = 0
        self.makespan = 0.0
        for row, speed in enumerate(platform.speeds.tolist() if advertised is None else advertised):
            agent_id = f"agent-{row:04}"
            spec = AgentSpec(agent_id, "virtual", 1, _CREDIT, speed=speed)
            self._apply([OpenSession(spec, [])])
            epoch = self._state.agents[agent_id].record.epoch
            self._agents[agent_id] = _Agent(agent_id, epoch, float(reality.speeds[row]))
        self._stated = stated

    def run(self) -> Run:
        """Until the workflow has ended."""
        self._submit()
        self._decide()
        while self._state.dags:
            now_s = self._heap[0][0]
            self._now_s = now_s
            while self._heap and self._heap[0][0] <= now_s:
                _, _, event, agent_id, turn = heapq.heappop(self._heap)
                self._happen(event, self._agents[agent_id], turn)
            self._decide()
        return Run(self.makespan, self.begun, self.decisions)

    def _submit(self) -> None:
        instance = self._instance
        types = list(dict.fromkeys(instance.types))
        profiles = [TaskProfile(one or "task", TaskFamily.COMPUTE, timeout_ms=_LONGEST_MS) for one in types]
        size = len(instance)
        expected = (
            [max(1, round(1_000 * work)) for work in instance.work.tolist()] if self._stated else [0] * size
        )
        extras: dict[int, TaskExtras] = {}
        for index in range(size):
            inputs = tuple(
                DataItem(f"{before}>{index}", bytes_)
                for before, bytes_ in zip(instance.depends[index], instance.edge_bytes[index], strict=True)
                if bytes_
            )
            outputs = tuple(
                DataItem(f"{index}>{after}", instance.edge_bytes[after][instance.depends[after].index(index)])
                for after in instance.successors[index]
            )
            extras[index] = TaskExtras(inputs=inputs, outputs=outputs)
        block = TaskBlock(
            0,
            [str(index) for index in range(size)],
            [types.index(one) for one in instance.types],
            list(instance.depends),
            [b""] * size,
            expected,
            extras,
        )
        self._apply([SubmitDag("", DagHeader(instance.name), profiles, block)])

    def _decide(self) -> None:
        while True:
            decision = self._scheduler.decide(self._now_s)
            self.decisions += 1
            if not decision.choices:
                return
            self.snapshot.waiting.discard([choice.key for choice in decision.choices if not choice.rival])
            self._apply([*decision.before, Assign(decision.choices)])

    def _apply(self, commands: list[Command]) -> None:
        self._index += 1
        entry = Entry(FORMAT, round(self._now_s * 1_000), commands)
        outcome = machine.apply(self._state, self._index, entry)
        self._carry_out(outcome.effects)

    def _carry_out(self, effects: Effects) -> None:
        self._mirror.note(effects, self._now_s)
        self._mirror.ready(effects.ready)
        for agent_id, key, number, _ in effects.halt:
            self._stop(self._agents[agent_id], key, number)
        for agent_id, key, number in effects.dispatch:
            self._give(self._agents[agent_id], key, number)

    # --- agents ---------------------------------------------------------------------------------------------

    def _give(self, agent: _Agent, key: int, number: int) -> None:
        instance, index = self._instance, key & INDEX_MASK
        ready_s = self._now_s
        for before, bytes_ in zip(instance.depends[index], instance.edge_bytes[index], strict=True):
            if agent.id not in self._where[before]:
                ready_s = max(ready_s, self._now_s + bytes_ / self._platform.bandwidth)
        agent.queue.append(_Attempt(key, number, ready_s))
        self._at(self._now_s, "next", agent)

    def _happen(self, event: str, agent: _Agent, turn: int) -> None:
        if event == "next":
            self._next(agent)
        elif turn == agent.turn and agent.runs is not None:
            if event == "start":
                self._start(agent, agent.runs)
            else:
                self._end(agent, agent.runs)

    def _next(self, agent: _Agent) -> None:
        if agent.runs is None and agent.queue:
            agent.runs = agent.queue.pop(0)
            agent.turn += 1
            self._at(max(self._now_s, agent.runs.ready_s), "start", agent)

    def _start(self, agent: _Agent, runs: _Attempt) -> None:
        self.begun += 1
        agent.since = self._now_s
        self._report(agent, AttemptReport(runs.key, runs.number, ReportKind.STARTED))
        work = float(self._reality.work[runs.key & INDEX_MASK])
        self._at(self._now_s + work / agent.speed, "end", agent)

    def _end(self, agent: _Agent, runs: _Attempt) -> None:
        agent.runs = None
        self._where.setdefault(runs.key & INDEX_MASK, set()).add(agent.id)
        self.makespan = self._now_s - _START_S
        self._report(
            agent,
            AttemptReport(
                runs.key,
                runs.number,
                ReportKind.ENDED,
                outcome=AttemptOutcome.COMPLETED,
                duration_us=round((self._now_s - agent.since) * 1e6),
            ),
        )
        self._next(agent)

    def _stop(self, agent: _Agent, key: int, number: int) -> None:
        if agent.runs is not None and (agent.runs.key, agent.runs.number) == (key, number):
            agent.runs = None
            agent.turn += 1
            self._at(self._now_s, "next", agent)
        agent.queue = [one for one in agent.queue if (one.key, one.number) != (key, number)]
        self._report(agent, AttemptReport(key, number, ReportKind.ENDED, outcome=AttemptOutcome.CANCELLED))

    def _report(self, agent: _Agent, report: AttemptReport) -> None:
        self._apply([Report(agent.id, agent.epoch, [report])])

    def _at(self, when: float, event: str, agent: _Agent) -> None:
        heapq.heappush(self._heap, (when, next(self._order), event, agent.id, agent.turn))
