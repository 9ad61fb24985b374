"""What a plan is made from. The leader keeps one snapshot current: it never copies it, and plans never change
it but for its caches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from coordinator.core.kinds import kind_of
from coordinator.core.model import INDEX_BITS, INDEX_MASK, Dag, Task, TaskProfile, TaskState
from coordinator.core.reservations import ReservationRecord
from coordinator.families.load_weights import LoadWeights
from coordinator.families.registry import Families
from coordinator.scheduling.agents.capable import FeasibilityCache
from coordinator.scheduling.agents.departed import Departed
from coordinator.scheduling.agents.groups import Groups
from coordinator.scheduling.agents.lookahead import LookAhead
from coordinator.scheduling.agents.regions import Regions
from coordinator.scheduling.agents.reserved import Barrier, Reserved
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.costs.affinity import MODEL_LOAD_S, Affinity
from coordinator.scheduling.costs.policies import ALL, policy_of
from coordinator.scheduling.costs.pricing import Prices
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.learning.durations import Durations
from coordinator.scheduling.learning.estimates import Estimates
from coordinator.scheduling.learning.expectation import Expectation
from coordinator.scheduling.load.measured import Measured
from coordinator.scheduling.load.scores import LoadScores
from coordinator.scheduling.tasks.due import Due
from coordinator.scheduling.tasks.graphs import Foreseen, Graphs
from coordinator.scheduling.tasks.races import Races
from coordinator.scheduling.tasks.running import Running
from coordinator.scheduling.tasks.shares import Shares
from coordinator.scheduling.tasks.waiting import Owner, WaitingTable, WaitingTask

_SUCCESSORS_LOOKED_AT: Final = 4

LATE_S: Final = 1.0
"""An attempt that was to be brief is followed in time once it has been with its agent for so long."""
FOLLOWED_AT_ONCE: Final = 256
"""Late attempts that a look takes up: each costs some 50 us, and long queues have thousands."""


_LONG: Final = 1.2816
"""Standard deviations of the logarithm beyond which a tenth lies: so long a task may take where slots will be
kept for others."""


class _Brief(msgspec.Struct, frozen=True, gc=False):
    """An attempt that was given to the agent in this row."""

    since_s: float
    row: int
    key: int
    attempt: int


class Snapshot:
    """Agents and their loads, waiting tasks and their DAGs, what runs since when, what things last, and the
    bound on queues. `turn` is the row at which a policy that takes turns goes on: the leader sets it to
    `Plan.turn` of the last plan that it proposed. `load_weights` are an operator's own of the LoadScore,
    `group_by` is the label that groups agents, "" for none."""

    def __init__(
        self,
        look_ahead: LookAhead | None = None,
        families: Families | None = None,
        model_load_s: float = MODEL_LOAD_S,
        load_weights: LoadWeights | None = None,
        group_by: str = "",
    ) -> None:
        self.agents = AgentTable(families)
        self.groups = Groups(self.agents, group_by)
        self.measured = Measured(self.agents)
        self.waiting = WaitingTable()
        self.estimates = Estimates(self.agents)
        self.running = Running(self.agents, self.estimates)
        self.races = Races()
        self.graphs = Graphs()
        self.foreseen = Foreseen(self.graphs)
        self.look_ahead = look_ahead or LookAhead()
        self.durations = Durations(self.agents, self.estimates, self.look_ahead.brief_s)
        self.feasible = FeasibilityCache()
        self.regions = Regions(self.agents, self.groups, self.feasible)
        self.affinity = Affinity(self.agents, self.measured, self.estimates, model_load_s)
        scores = LoadScores(self.agents, self.measured, load_weights)
        self.prices = Prices(self.agents, self.estimates, scores, self.feasible)
        self.shares = Shares(self.agents)
        self.reserved = Reserved(self.agents)
        self.policies = ALL
        """Those that DAGs and namespaces may name."""
        self.departed = Departed()
        self.turn = 0
        self.due = Due()
        self._brief: deque[_Brief] = deque()
        """Those that are not followed in time, in the order in which they were given."""

    # --- what happens ---------------------------------------------------------------------------------------

    def ready(self, dag: Dag, tasks: Iterable[Task], ready_ms: int | None = None) -> None:
        """These tasks of a DAG wait for agents, with the ranks that they have now; `ready_ms` says since
        when, if the state does not say so yet."""
        graph, came_ms = self.graphs.add(dag), dag.record.created_ms
        alike: dict[TaskProfile, list[WaitingTask]] = {}
        for task in tasks:
            waiting = WaitingTask.ranked(
                came_ms,
                task.ready_ms if ready_ms is None else ready_ms,
                task.key,
                task.attempt + 1,
                task.attempts[-1].agent if task.attempts else "",
                task.hint,
                graph.rank(task.index),
            )
            alike.setdefault(task.profile, []).append(waiting)
        for profile, some in alike.items():
            self.waiting.add(profile, *some, owner=graph.owner)

    def added(self, dag: Dag, index: int) -> None:
        """A running task has added this one to its DAG, which waits for others."""
        if self.graphs.of(dag.record.number << INDEX_BITS) is not None:
            self.graphs.add(dag)
            task = dag.tasks[index]
            before = [dag.tasks[one] for one in task.depends]
            left = [one.key for one in before if one.state is not TaskState.COMPLETED]
            self.foreseen.added(task, [key for key in left if self.running.holds(key)])

    def hold(
        self, agent_id: str, key: int, attempt: int, profile: TaskProfile, hint: int, now_s: float
    ) -> None:
        """The agent has been given this attempt. Doing so twice changes nothing."""
        agents = self.agents
        row = agents.rows.get(agent_id)
        if row is None or (key, attempt) in agents.held_attempts[row]:
            return
        seconds = self.durations.on(row, profile, key, hint)
        agents.hold(agent_id, key, attempt, profile, seconds)
        graph = self.graphs.of(key)
        if graph is not None:
            queued_s = seconds if agents.held.item(row) > agents.slots.item(row) else None
            self.shares.hold(graph.owner.namespace, key, attempt, profile, queued_s)
            self.reserved.hold(graph.owner.namespace, row, key, attempt)
        if self.is_brief(profile, key, hint) and not self.leads_on(key):
            # It will have ended before anything could be made of how long it takes.
            self._brief.append(_Brief(now_s, row, key, attempt))
            self.due.given(key, attempt, seconds, now_s)
            return
        self._follow(key, attempt, row, profile, hint, seconds, now_s)

    def follow_late(self, now_s: float) -> None:
        """Follow attempts in time that were taken to be brief, and are not: the longest ones first, and a
        bounded number at a time."""
        brief, agents, left = self._brief, self.agents, FOLLOWED_AT_ONCE
        while left and brief and not 0 <= now_s - brief[0].since_s <= LATE_S:
            one = brief.popleft()
            key, attempt, row = one.key, one.attempt, one.row
            held, graph = agents.held_attempts[row].get((key, attempt)), self.graphs.of(key)
            if held is None or graph is None or self.running.get(key, attempt) is not None:
                continue
            left -= 1
            task = graph.task(key)
            self._follow(key, attempt, row, held.profile, task.hint, held.seconds, one.since_s)
            live = task.live_attempt(attempt)
            if live is not None and live.started_ms:
                self.begin(key, attempt, live.started_ms / 1_000)

    @property
    def follows(self) -> bool:
        """Whether any attempt is with an agent for longer than a moment, or may turn out to be."""
        return len(self.running) > 0 or len(self._brief) > 0

    def _follow(
        self,
        key: int,
        attempt: int,
        row: int,
        profile: TaskProfile,
        hint: int,
        seconds: float,
        now_s: float,
    ) -> None:
        first = not self.running.holds(key)
        self.running.hold(key, attempt, row, profile, hint, seconds, now_s)
        if first:
            self.foreseen.held(key)
            if (graph := self.graphs.of(key)) is not None:
                graph.placed(key & INDEX_MASK)

    def begin(self, key: int, attempt: int, now_s: float) -> None:
        """The agent has begun with it."""
        self.running.begin(key, attempt, now_s)

    def release(self, agent_id: str, key: int, attempt: int, *, completed: bool = False) -> None:
        """The agent has it no more. One that it did not hold is fine."""
        row = self.agents.rows.get(agent_id)
        if row is not None and (key, attempt) in self.agents.held_attempts[row]:
            self.agents.release(agent_id, key, attempt)
            self.due.over(key, attempt)
            self.running.release(key, attempt)
            self.shares.release(key, attempt)
            self.reserved.release(key, attempt)
        if completed or not self.running.holds(key):
            self.foreseen.released(key)

    def remove_agent(self, agent_id: str) -> None:
        """Forget an agent and what it holds; one that is not there is fine."""
        row = self.agents.rows.get(agent_id)
        if row is None:
            return
        for key, attempt in list(self.agents.held_attempts[row]):
            self.release(agent_id, key, attempt)
        self.estimates.forget_row(row)
        self.agents.remove(agent_id)

    def forget_dag(self, number: int) -> None:
        """The DAG has ended, and none of its tasks waits or runs."""
        self.graphs.remove(number)
        self.foreseen.forget_dag(number)
        self.estimates.forget_dag(number)

    def reserve(self, reservations: Iterable[ReservationRecord]) -> None:
        """These are all that there are, in the order in which they were made."""
        self.reserved.set(reservations)
        for row, attempts in enumerate(self.agents.held_attempts):
            for key, attempt in attempts:
                if (graph := self.graphs.of(key)) is not None:
                    self.reserved.hold(graph.owner.namespace, row, key, attempt)

    def policy_for(self, owner: Owner, cluster: Policy) -> Policy:
        """The policy of a DAG's tasks: its own, else its namespace's, else the cluster's."""
        settings = self.shares.account(owner.namespace).settings
        return policy_of(owner.policy or settings.policy, self.policies, cluster)

    # --- what is expected -----------------------------------------------------------------------------------

    def work(self, profile: TaskProfile, key: int, hint: int) -> Expectation:
        """Of a task, in seconds on an agent of speed 1."""
        return self.estimates.work(kind_of(profile, hint), key >> INDEX_BITS, hint)

    def work_s(self, profile: TaskProfile, key: int, hint: int) -> float:
        """The mean of `work`."""
        return self.estimates.work_s(kind_of(profile, hint), key >> INDEX_BITS, hint)

    def is_brief(self, profile: TaskProfile, key: int, hint: int) -> bool:
        """Whether a task may queue on an agent: it is known not to last."""
        return self.durations.is_brief(profile, key, hint)

    def leads_on(self, key: int) -> bool:
        """Whether a task that depends on this one lasts: then it should be foreseen. Few are looked at, they
        are mostly alike."""
        return any(
            not self.is_brief(task.profile, task.key, task.hint)
            for task in self.foreseen.successors(key, _SUCCESSORS_LOOKED_AT)
        )

    def barrier(
        self, namespace: str, profile: TaskProfile, key: int, hint: int, now_s: float
    ) -> Barrier | None:
        """Where a task of this namespace may not begin, because slots are kept for others; None if it may
        everywhere."""
        bounds = self.reserved.bounds(namespace, now_s)
        if bounds is None:
            return None
        work = self.work(profile, key, hint)
        stretch = work.quantile(_LONG) / work.seconds if work.known else None
        return Barrier(bounds, profile, stretch)

    def duration_s(self, task: Task) -> float:
        """Of a task on the mean of the agents, as upward ranks count it."""
        return self.work_s(task.profile, task.key, task.hint) * self.mean_inverse_speed()

    def mean_inverse_speed(self) -> float:
        """Over the agents that are there; 1 where there is none."""
        return self.estimates.mean_inverse_speed()
