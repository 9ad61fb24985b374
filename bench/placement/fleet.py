"""A fleet on virtual time: agents of many slots that come, change and go, and DAGs that come when they come,
under the decisions of a real leader (`leader`).

What is simulated is an agent as the SDK has it: it runs as many attempts as it has slots, fetches what
they read as soon as it is given them, and reports its load, smoothed. Entries and messages take no time.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from agent_sdk._load import SMOOTHING_S, Smoother
from bench.placement.leader import Leader, Stalled
from coordinator.core.commands import (
    AttemptReport,
    ChangeAgent,
    CloseSession,
    Command,
    DrainAgent,
    LoseAgents,
    OpenSession,
    Report,
    ReportKind,
    SetReservation,
    SpawnTasks,
    SubmitDag,
    SweepDag,
    WakeTasks,
)
from coordinator.core.model import INDEX_BITS, AgentLoad, AgentSpec, AttemptOutcome, Task
from coordinator.core.outcome import Effects, Refusal
from coordinator.core.reservations import ReservationRecord
from coordinator.dag.builder import build, build_additions
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.dag.limits import DagLimits
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.tasks.transfers import BANDWIDTH, Transfers

START_S: Final = 1_000.0
"""Of virtual time, so that no stamp is 0. All times that callers give and get count from here."""

BUSY_CPU: Final = 0.9
"""What an agent measures of its CPU with all slots busy: below the load from which it gets nothing new."""

LOOK_EVERY_S: Final = 0.25
"""While nothing waits: for attempts that last too long, as a leader does, but no more often than something
happens."""

_LIMITS: Final = DagLimits()


class Fate(NamedTuple):
    """What becomes of an attempt: it ends after so many seconds, COMPLETED or FAILED."""

    seconds: float
    outcome: AttemptOutcome = AttemptOutcome.COMPLETED


class Ran(NamedTuple):
    """An attempt that is over, in seconds since the start; `moved` are the bytes that its agent fetched for
    it. One that was stopped or lost is over when that happened."""

    dag_id: str
    task_id: str
    agent: str
    number: int
    began_s: float
    ended_s: float
    outcome: AttemptOutcome
    moved: int


Fates = Callable[[Task, AgentSpec, float], Fate]
"""Of the task, on this agent, when it begins."""


def as_said(task: Task, spec: AgentSpec, now_s: float) -> Fate:
    """The payload says the work in seconds, and the agent is as fast as it says."""
    return Fate(float(task.payload) / spec.speed)


class _Attempt:
    """`ready_s` is when its inputs are there; what happens to it counts for nothing once it is `over`."""

    __slots__ = ("began_s", "fate", "key", "moved", "number", "over", "ready_s", "task")

    def __init__(self, task: Task, number: int, ready_s: float, moved: int) -> None:
        self.task = task
        self.key = task.key
        self.number = number
        self.ready_s = ready_s
        self.moved = moved
        self.began_s = -1.0
        self.fate = Fate(0.0)
        self.over = False


class _Agent:
    def __init__(self, spec: AgentSpec, epoch: int) -> None:
        self.spec = spec
        self.epoch = epoch
        self.queue: deque[_Attempt] = deque()
        self.running: list[_Attempt] = []
        self.load = Smoother(SMOOTHING_S)


class Fleet:
    """Agents and what they are given. `fates` says what becomes of attempts, `adds` what a task adds to its
    DAG before it ends, and `ended` is told of every attempt that has come to its end. Placement decides at
    most once every `round_s`, loads are reported every `load_every_s` (0: never), with what `others` use of
    the CPU, and `reported` is told of them. There are no timeouts."""

    def __init__(
        self,
        agents: Iterable[AgentSpec],
        policy: Policy | Simple,
        *,
        fates: Fates = as_said,
        adds: Callable[[Task], Sequence[TaskDraft]] | None = None,
        ended: Callable[[Ran], None] | None = None,
        round_s: float = 0.0,
        load_every_s: float = 0.0,
        others: Callable[[AgentSpec, float], float] | None = None,
        reported: Callable[[Mapping[str, AgentLoad], float], None] | None = None,
        bandwidth: float = BANDWIDTH,
    ) -> None:
        self.leader = Leader(policy, self._carry_out)
        self.ran: list[Ran] = []
        self.submitted_s: dict[str, float] = {}
        self.finished_s: dict[str, float] = {}
        self._fates = fates
        self._adds = adds
        self._ended = ended
        self._round_s = round_s
        self._load_every_s = load_every_s
        self._others = others
        self._reported = reported
        self._bandwidth = bandwidth
        self._now_s = 0.0
        self._next_round_s = self._next_look_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._agents: dict[str, _Agent] = {}
        self._ids: dict[int, str] = {}
        self._transfers: dict[int, Transfers] = {}
        self._ran_on: dict[int, str] = {}
        self._coming = 0
        for spec in agents:
            self.join(spec)
        if load_every_s:
            self.at(load_every_s, self._report_loads)

    # --- what callers ask for -------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """Since the start."""
        return self._now_s

    @property
    def waiting(self) -> int:
        """Tasks that wait for an agent."""
        return len(self.leader.snapshot.waiting)

    def at(self, when_s: float, what: Callable[[], None]) -> None:
        """Do this then."""
        heapq.heappush(self._events, (max(when_s, self._now_s), next(self._numbers), what))

    def submit(self, draft: DagDraft, when_s: float = 0.0) -> None:
        """A client submits it then. What it says wrong is raised now."""
        built = build(draft, _LIMITS)
        self._coming += 1

        def arrive() -> None:
            self._coming -= 1
            dag_id = built.header.dag_id
            self.submitted_s[dag_id] = self._now_s
            replies = self._apply([SubmitDag("", built.header, built.profiles, built.block)])
            self._check(replies)
            self._ids[self.leader.state.numbers[dag_id]] = dag_id

        self.at(when_s, arrive)

    def run(self, until_s: float = float("inf")) -> None:
        """Until all that was submitted has ended, or until then. Raises Stalled."""
        while self._events and (self._coming or self.leader.state.dags):
            if self._events[0][0] > until_s:
                self._now_s = until_s
                return
            self._now_s = self._events[0][0]
            while self._events and self._events[0][0] <= self._now_s:
                heapq.heappop(self._events)[2]()
            self._decide()
        if self.leader.state.dags:
            raise Stalled(f"{self.waiting} tasks wait, and nothing happens any more")

    def join(self, spec: AgentSpec) -> None:
        """The agent opens a session, with nothing in its hands."""
        self._check(self._apply([OpenSession(spec, [])]))
        epoch = self.leader.state.agents[spec.agent_id].record.epoch
        self._agents[spec.agent_id] = _Agent(spec, epoch)

    def change(self, spec: AgentSpec) -> None:
        """The agent offers this from now on; what runs goes on as it began."""
        agent = self._agents[spec.agent_id]
        agent.spec = spec
        self._check(self._apply([ChangeAgent(spec, agent.epoch)]))

    def reserve(self, reservation: ReservationRecord) -> None:
        """An operator has slots of agents kept for a namespace."""
        self._check(self._apply([SetReservation("", reservation)]))

    def drain(self, agent_id: str, *, undo: bool = False) -> None:
        """Nothing new for this agent, or an end to that."""
        self._check(self._apply([DrainAgent("", agent_id, undo=undo)]))

    def fail(self, agent_id: str, grace_s: float) -> None:
        """The agent is gone with all that it held, and is declared lost when the grace is over."""
        agent = self._agents.pop(agent_id)
        for attempt in [*agent.running, *agent.queue]:
            self._over(agent, attempt, AttemptOutcome.LOST)
        self._apply([CloseSession(agent_id, agent.epoch, goodbye=False)])
        lost = LoseAgents([(agent_id, agent.epoch)], "it did not come back")
        self.at(self._now_s + grace_s, lambda: self._then(lost))

    def order(self, command: Command) -> None:
        """What an operator orders, carried out at once."""
        self._check(self._apply([command]))

    def holds(self, agent_id: str) -> int:
        """Attempts that it has."""
        agent = self._agents[agent_id]
        return len(agent.running) + len(agent.queue)

    # --- the leader -----------------------------------------------------------------------------------------

    def _clock(self) -> float:
        return START_S + self._now_s

    def _decide(self) -> None:
        """What waits is placed at once, or with the next round; what runs is looked at now and then."""
        if not self.waiting:
            if self.leader.looks_at_what_runs and self._now_s >= self._next_look_s:
                self._round()
        elif self._now_s >= self._next_round_s:
            self._round()
        elif not self._events or self._events[0][0] > self._next_round_s:
            self.at(self._next_round_s, lambda: None)

    def _round(self) -> None:
        self._next_round_s = self._now_s + self._round_s
        self._next_look_s = self._now_s + LOOK_EVERY_S
        self.leader.decide(self._clock())

    def _apply(self, commands: list[Command]) -> Sequence[object]:
        return self.leader.apply(commands, self._clock())

    def _then(self, command: Command) -> None:
        self._apply([command])

    @staticmethod
    def _check(replies: Sequence[object]) -> None:
        refused = [reply for reply in replies if isinstance(reply, Refusal)]
        if refused:
            raise RuntimeError(refused[0].message)

    def _carry_out(self, effects: Effects) -> None:
        for number in effects.gone:
            self.finished_s[self._ids.pop(number)] = self._now_s
            self._transfers.pop(number, None)
        for agent_id, key, number, _ in effects.halt:
            self._stop(agent_id, key, number)
        for agent_id, key, number in effects.dispatch:
            self._give(agent_id, key, number)
        for at_ms, key in effects.wake_at:
            self.at(at_ms / 1_000 - START_S, lambda key=key: self._then(WakeTasks([key])))  # type: ignore[misc]
        for dag in effects.sweep:
            self.at(self._now_s, lambda dag=dag: self._then(SweepDag(dag)))  # type: ignore[misc]

    # --- agents ---------------------------------------------------------------------------------------------

    def _give(self, agent_id: str, key: int, number: int) -> None:
        agent, task = self._agents.get(agent_id), self.leader.state.task(key)
        if agent is None or task is None:
            return
        moved = self._bytes_to_move(task, agent.spec)
        agent.queue.append(_Attempt(task, number, self._now_s + moved / self._bandwidth, moved))
        self._fill(agent)

    def _bytes_to_move(self, task: Task, spec: AgentSpec) -> int:
        dag = self.leader.state.dags[task.key >> INDEX_BITS]
        transfers = self._transfers.setdefault(dag.record.number, Transfers(dag))
        edges = transfers.edges(task.index).items()
        here = {spec.agent_id, spec.zone, *spec.data}
        return sum(
            size for before, size in edges if self._ran_on.get(dag.tasks[before].key) != spec.agent_id
        ) + sum(size for size, names in transfers.outside(task.index) if here.isdisjoint(names))

    def _fill(self, agent: _Agent) -> None:
        while agent.queue and len(agent.running) < agent.spec.slots:
            attempt = agent.queue.popleft()
            agent.running.append(attempt)
            self.at(attempt.ready_s, lambda attempt=attempt: self._begin(agent, attempt))  # type: ignore[misc]

    def _begin(self, agent: _Agent, attempt: _Attempt) -> None:
        if attempt.over:
            return
        attempt.began_s = self._now_s
        attempt.fate = self._fates(attempt.task, agent.spec, self._now_s)
        self._report(agent, AttemptReport(attempt.key, attempt.number, ReportKind.STARTED))
        self.at(self._now_s + attempt.fate.seconds, lambda: self._end(agent, attempt))

    def _end(self, agent: _Agent, attempt: _Attempt) -> None:
        if attempt.over:
            return
        outcome = attempt.fate.outcome
        if outcome is AttemptOutcome.COMPLETED:
            self._add(agent, attempt)
            self._ran_on.setdefault(attempt.key, agent.spec.agent_id)
        self._over(agent, attempt, outcome)
        took_us = round((self._now_s - attempt.began_s) * 1e6)
        self._report(agent, _end_of(attempt, outcome, took_us))
        if self._ended is not None:
            self._ended(self.ran[-1])
        self._fill(agent)

    def _add(self, agent: _Agent, attempt: _Attempt) -> None:
        drafts = self._adds(attempt.task) if self._adds is not None else ()
        if drafts:
            dag = self.leader.state.dags[attempt.key >> INDEX_BITS]
            added = build_additions(drafts, dag.record.header, len(dag.tasks), _LIMITS)
            spawn = SpawnTasks("", agent.spec.agent_id, agent.epoch, attempt.key, attempt.number, added)
            self._check(self._apply([spawn]))

    def _stop(self, agent_id: str, key: int, number: int) -> None:
        agent = self._agents.get(agent_id)
        if agent is None:
            return
        for attempt in [
            one for one in (*agent.running, *agent.queue) if (one.key, one.number) == (key, number)
        ]:
            self._over(agent, attempt, AttemptOutcome.CANCELLED)
            self._report(agent, _end_of(attempt, AttemptOutcome.CANCELLED))
        self._fill(agent)

    def _over(self, agent: _Agent, attempt: _Attempt, outcome: AttemptOutcome) -> None:
        attempt.over = True
        (agent.running if attempt in agent.running else agent.queue).remove(attempt)
        if attempt.began_s >= 0:
            task = attempt.task
            self.ran.append(
                Ran(
                    self._ids[task.key >> INDEX_BITS],
                    task.id,
                    agent.spec.agent_id,
                    attempt.number,
                    attempt.began_s,
                    self._now_s,
                    outcome,
                    attempt.moved,
                )
            )

    def _report(self, agent: _Agent, report: AttemptReport) -> None:
        self._apply([Report(agent.spec.agent_id, agent.epoch, [report])])

    def _report_loads(self) -> None:
        mirror, loads = self.leader.mirror, {}
        for agent in self._agents.values():
            cpu = BUSY_CPU * min(len(agent.running) / agent.spec.slots, 1.0)
            if self._others is not None:
                cpu = min(cpu + self._others(agent.spec, self._now_s), 1.0)
            agent.load.add(self._load_every_s, {"cpu": cpu})
            load = AgentLoad(agent.load.get("cpu"), running=len(agent.running), queued=len(agent.queue))
            loads[agent.spec.agent_id] = load
            mirror.record_load(agent.spec.agent_id, load)
        mirror.judge_loads()
        if self._reported is not None:
            self._reported(loads, self._now_s)
        self.at(self._now_s + self._load_every_s, self._report_loads)


def _end_of(attempt: _Attempt, outcome: AttemptOutcome, duration_us: int = 0) -> AttemptReport:
    return AttemptReport(
        attempt.key, attempt.number, ReportKind.ENDED, outcome=outcome, duration_us=duration_us
    )
