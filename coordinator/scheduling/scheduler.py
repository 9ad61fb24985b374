"""The scheduler: what has changed goes into its snapshot, and out come the commands to propose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from coordinator.core.commands import Choice, Command, Move, Preempt, Recall
from coordinator.core.model import TaskState
from coordinator.scheduling.adaptation.patience import Patience
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.decision_log import Adapted
from coordinator.scheduling.moves.preemption import Preempting, named
from coordinator.scheduling.moves.rivals import Racing, Rival
from coordinator.scheduling.moves.stealing import find_moves
from coordinator.scheduling.plans.assignments import Witness
from coordinator.scheduling.plans.planner import plan_by_cost
from coordinator.scheduling.plans.searching import Searching
from coordinator.scheduling.plans.solver import Plan, PlanLimits, plan
from coordinator.scheduling.settings import SchedulingSettings
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.graphs import Graph

RANKED_AT_ONCE: Final = 5_000
"""Tasks whose ranks are renewed in one decision; the rest follows with the next ones."""

_MADE_ROOM: Final = "another attempt of it is expected to end sooner"
_SOONER: Final = "it is expected to end sooner on another agent"


class Decision(msgspec.Struct, frozen=True):
    """Commands to propose first, the choices to propose then, in one entry if that can be, and the plan
    behind them. `adapted` is what has changed before they were made."""

    before: list[Command]
    choices: list[Choice]
    plan: Plan
    adapted: Adapted | None = None


class Scheduler:
    """Decides over one snapshot by one policy, within `limits`, which may change between two decisions.
    `settings` bound what adapts."""

    def __init__(
        self,
        snapshot: Snapshot,
        policy: Policy | Simple,
        limits: PlanLimits,
        settings: SchedulingSettings | None = None,
    ) -> None:
        settings = settings or SchedulingSettings()
        self.snapshot = snapshot
        self.limits = limits
        self._policy = policy
        base = policy.patience if isinstance(policy, Policy) else 0.0
        self._patience = Patience(base, settings.least_patience, settings.most_patience)
        self._preempting = Preempting(snapshot)
        self._searching = Searching(snapshot)
        self._made = 0
        """Choices of the decision before."""
        self._ranking: tuple[Graph, Iterator[None]] | None = None

    def decide(self, now_s: float, witness: Witness | None = None) -> Decision:
        """What to do now. The snapshot does not show it until it is noted there. The witness changes
        nothing."""
        snapshot = self.snapshot
        adapted = self._patience.observe(*snapshot.races.take())
        snapshot.estimates.renew_in_time(now_s)
        snapshot.follow_late(now_s)
        if isinstance(self._policy, Policy):
            snapshot.running.renew(min(self._made, len(snapshot.waiting)))
            self._renew_ranks()
        made = self._plan(now_s, witness)
        if witness is not None:
            witness.note_reserved(made.choices, snapshot, now_s)
        withdrawn = list(made.withdrawn)
        choices = list(made.choices)
        self._made = len(choices)
        for rival in [] if choices else self._rivals(now_s):
            if rival.replaces is None and self._beyond_quota(rival.choice.key):
                continue
            choices.append(rival.choice)
            if rival.replaces is not None:
                withdrawn.append(rival.replaces)
        before: list[Command] = [Preempt(withdrawn, _MADE_ROOM)] if withdrawn else []
        if not choices and (moves := self._moves(now_s)):
            before.append(Recall(moves, _SOONER))
        if not made.choices:
            evictions = self._preempting.evictions(now_s)
            before += [Preempt(one.attempts, reason) for one, reason in named(snapshot, evictions)]
        return Decision(before, choices, made, adapted)

    def _plan(self, now_s: float, witness: Witness | None) -> Plan:
        if isinstance(self._policy, Policy):
            limits, policy, witness = self.limits, self._policy, witness or Witness()
            return self._searching.plan(limits, policy, now_s, witness) or plan_by_cost(
                self.snapshot, limits, policy, now_s, witness
            )
        return plan(self.snapshot, self.limits, self._policy, now_s, witness)

    def _moves(self, now_s: float) -> list[Move]:
        if not isinstance(self._policy, Policy):
            return []
        return find_moves(self.snapshot, self._policy, self.limits.shortlist, now_s)

    def _rivals(self, now_s: float) -> list[Rival]:
        if not isinstance(self._policy, Policy) or self._policy.rivals < 2:
            return []
        return Racing(self.snapshot, self._policy, now_s, self._patience.factor).rivals(self._idle())

    def _beyond_quota(self, key: int) -> bool:
        graph = self.snapshot.graphs.of(key)
        return graph is not None and bool(
            self.snapshot.shares.beyond(graph.owner.namespace, graph.task(key).profile)
        )

    @property
    def looks_at_what_runs(self) -> bool:
        """Whether there may be something to decide although nothing waits."""
        return isinstance(self._policy, Policy) and self.snapshot.follows

    def _idle(self) -> list[int]:
        agents = self.snapshot.agents
        size = agents.size
        idle = agents.accepting[:size] & (agents.held[:size] == 0) & (agents.credit[:size] > 0)
        return [int(row) for row in np.flatnonzero(idle)]

    def _renew_ranks(self) -> None:
        """Ranks follow the estimates, a bounded number of tasks at a time: what was begun is finished first,
        and then those come that were longest not renewed."""
        graphs, epoch = self.snapshot.graphs, self.snapshot.estimates.epoch
        left = RANKED_AT_ONCE
        while left > 0:
            if self._ranking is None:
                graph = graphs.behind(epoch)
                if graph is None:
                    return
                self._ranking = graph, self._rank(graph, epoch)
            graph, steps = self._ranking
            if graph not in graphs:
                self._ranking = None
                continue
            left -= min(len(graph.dag.tasks), RANKED_AT_ONCE)
            if next(steps, _DONE) is _DONE:
                self._ranking = None

    def _rank(self, graph: Graph, epoch: int) -> Iterator[None]:
        """Renew the ranks of one DAG with pauses. Its waiting tasks take the places that these give them."""
        snapshot = self.snapshot
        for _ in graph.rank_steps(snapshot.duration_s, epoch):
            yield
        for begin in range(0, len(graph.dag.tasks), RANKED_AT_ONCE):
            some = graph.dag.tasks[begin : begin + RANKED_AT_ONCE]
            ready = (task for task in some if task.state is TaskState.READY)
            snapshot.ready(graph.dag, [task for task in ready if task.key in snapshot.waiting])
            if len(some) == RANKED_AT_ONCE:
                yield
        snapshot.graphs.ranked(graph)


_DONE: Final = object()
