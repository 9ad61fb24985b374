"""The state machine with its mirror, as on a leader: what entries do, the snapshot follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from coordinator.core import machine
from coordinator.core.commands import (
    FORMAT,
    Assign,
    AttemptReport,
    Choice,
    Command,
    Entry,
    OpenSession,
    Report,
    ReportKind,
    SubmitDag,
)
from coordinator.core.kinds import Kind
from coordinator.core.model import (
    AgentLoad,
    AgentSpec,
    AttemptOutcome,
    Dag,
    DagHeader,
    Task,
    TaskBlock,
    TaskExtras,
    TaskProfile,
)
from coordinator.core.outcome import Effects, Outcome
from coordinator.core.state import State
from coordinator.scheduling.agents.lookahead import LookAhead
from coordinator.scheduling.learning.estimates import Estimates
from coordinator.scheduling.mirror import Mirror
from coordinator.scheduling.snapshot import Snapshot

START_MS = 1_700_000_000_000


class Followed:
    """A snapshot that follows a state by the effects of entries. `brief_s` is that of its look-ahead."""

    def __init__(self, state: State, brief_s: float = LookAhead().brief_s) -> None:
        self.state = state
        self.brief_s = brief_s
        self.snapshot = Snapshot(LookAhead(brief_s=brief_s))
        self.mirror = Mirror(lambda: self.state, self.snapshot)

    def follow(self, effects: Effects, now_ms: int) -> None:
        """As the leader does after each entry."""
        self.mirror.note(effects, now_ms / 1_000)
        self.snapshot.waiting.discard([key for _, key, _ in effects.dispatch])
        self.mirror.ready(effects.ready)

    def rebuild(self, now_ms: int) -> Snapshot:
        """A snapshot made from the state alone, as a new leader would."""
        other = Followed(self.state, self.brief_s)
        other.mirror.remember()
        for agent_id in self.state.agents:
            other.mirror.sync_agent(agent_id, now_ms / 1_000)
        other.mirror.ready(task.key for dag in self.state.dags.values() for task in dag.tasks)
        return other.snapshot


class Cluster(Followed):
    """Agents and DAGs, and what happens to them."""

    def __init__(self) -> None:
        super().__init__(State())
        self.index = 0
        self.now_ms = START_MS

    @property
    def now_s(self) -> float:
        """The time of the next entry."""
        return self.now_ms / 1_000

    def apply(self, *commands: Command) -> Outcome:
        """One entry."""
        self.index += 1
        outcome = machine.apply(self.state, self.index, Entry(FORMAT, self.now_ms, list(commands)))
        self.follow(outcome.effects, self.now_ms)
        return outcome

    def join(self, agent_id: str, slots: int = 1, credit: int = 100, **fields: object) -> None:
        """The agent opens a session."""
        self.apply(OpenSession(self.spec(agent_id, slots, credit, **fields), []))

    @staticmethod
    def spec(agent_id: str, slots: int = 1, credit: int = 100, **fields: object) -> AgentSpec:
        """What the agent says of itself."""
        return AgentSpec(agent_id, "i", slots, credit, **fields)  # type: ignore[arg-type]

    def epoch(self, agent_id: str) -> int:
        """The agent's present session."""
        return self.state.agents[agent_id].record.epoch

    def submit(
        self,
        graph: Mapping[str, Sequence[str]],
        profile: TaskProfile | None = None,
        *,
        dag_id: str = "d",
        expected_ms: Mapping[str, int] | None = None,
        extras: Mapping[str, TaskExtras] | None = None,
        profiles: Mapping[str, TaskProfile] | None = None,
        **header: str,
    ) -> Dag:
        """A DAG of these tasks, by the ids that they depend on."""
        at = {name: index for index, name in enumerate(graph)}
        used = [(profiles or {}).get(name, profile or TaskProfile("t")) for name in graph]
        block = TaskBlock(
            0,
            list(graph),
            list(range(len(graph))),
            [tuple(sorted(at[name] for name in names)) for names in graph.values()],
            [b""] * len(graph),
            [(expected_ms or {}).get(name, 0) for name in graph],
            {at[name]: one for name, one in (extras or {}).items()},
        )
        self.apply(SubmitDag("", DagHeader(dag_id, **header), used, block))
        found = self.state.dag(dag_id)
        assert found is not None
        return found

    def task(self, task_id: str, dag_id: str = "d") -> Task:
        """A task of an unfinished DAG."""
        dag = self.state.dag(dag_id)
        found = dag.find(task_id) if dag is not None else None
        assert found is not None
        return found

    def choice(self, agent_id: str, task: Task, *, rival: bool = False) -> Choice:
        """The next attempt of the task for the agent."""
        return Choice(task.key, task.attempt + 1, agent_id, self.epoch(agent_id), rival)

    def give(self, agent_id: str, *task_ids: str, dag_id: str = "d", rival: bool = False) -> None:
        """The tasks go to the agent."""
        choices = [self.choice(agent_id, self.task(task_id, dag_id), rival=rival) for task_id in task_ids]
        self.apply(Assign(choices))

    def report(
        self,
        agent_id: str,
        task: Task,
        attempt: int = 0,
        *,
        kind: ReportKind = ReportKind.ENDED,
        outcome: AttemptOutcome = AttemptOutcome.COMPLETED,
        seconds: float = 1.0,
    ) -> Outcome:
        """What the agent says of an attempt, the last one unless told otherwise."""
        one = AttemptReport(
            task.key, attempt or task.attempt, kind, outcome=outcome, duration_us=round(seconds * 1e6)
        )
        return self.apply(Report(agent_id, self.epoch(agent_id), [one]))

    def begin(self, agent_id: str, *task_ids: str, dag_id: str = "d") -> None:
        """The tasks go to the agent, which begins with them."""
        self.give(agent_id, *task_ids, dag_id=dag_id)
        for task_id in task_ids:
            self.report(agent_id, self.task(task_id, dag_id), kind=ReportKind.STARTED)

    def complete(self, agent_id: str, *task_ids: str, dag_id: str = "d", seconds: float = 1.0) -> None:
        """The agent is given the tasks and completes them."""
        for task_id in task_ids:
            task = self.task(task_id, dag_id)
            self.give(agent_id, task_id, dag_id=dag_id)
            self.report(agent_id, task, seconds=seconds)


def measure(snapshot: Snapshot, agent_id: str, load: AgentLoad) -> None:
    """The agent has reported this."""
    snapshot.agents.set_load(agent_id, load)
    snapshot.measured.record(agent_id, load)


def foreseen(snapshot: Snapshot, state: State) -> set[int]:
    """Tasks all of whose predecessors that have not completed are with agents, looked up one by one."""
    found = set()
    for dag in state.dags.values():
        for task in dag.tasks:
            before = [dag.tasks[index] for index in task.depends]
            left = [one for one in before if one.state.name != "COMPLETED"]
            if task.state.name == "PENDING" and left and all(snapshot.running.holds(one.key) for one in left):
                found.add(task.key)
    return found


def recall(estimates: Estimates, kind: Kind, count: int, log_mean: float, variance: float) -> None:
    """So many ends, on agents that are gone, whose logarithms have this mean and variance."""
    sums = np.array([count, count * log_mean, count * (variance + log_mean**2)])
    estimates.remember_gone(kind, sums, np.zeros(3))
    estimates.renew()
