"""The scheduler: what has changed goes into its snapshot, and out come the commands to propose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from coordinator.core.commands import Assign, Choice, Command, Preempt
from coordinator.core.model import TaskState
from coordinator.scheduling.graphs import Graph
from coordinator.scheduling.planner import plan_by_cost
from coordinator.scheduling.rivals import Racing
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.solver import Plan, PlanLimits
from coordinator.scheduling.weights import Policy

RANKED_AT_ONCE: Final = 5_000
"""Tasks whose ranks are renewed in one decision; the rest follows with the next ones."""

_MADE_ROOM: Final = "another attempt of it is expected to end sooner"


class Decision(msgspec.Struct, frozen=True):
    """Commands to propose in this order, and the plan that they carry out."""

    commands: list[Command]
    plan: Plan
    choices: list[Choice]


class Scheduler:
    """Decides over one snapshot by one policy."""

    def __init__(self, snapshot: Snapshot, policy: Policy, limits: PlanLimits) -> None:
        self.snapshot = snapshot
        self.policy = policy
        self._limits = limits
        self._ranking: dict[int, Iterator[None]] = {}

    def decide(self, now_s: float) -> Decision:
        """What to do now. The snapshot does not show it until it is noted there."""
        snapshot = self.snapshot
        snapshot.estimates.renew()
        snapshot.running.renew()
        self._renew_ranks()
        plan = plan_by_cost(snapshot, self._limits, self.policy, now_s)
        withdrawn = list(plan.withdrawn)
        choices = list(plan.choices)
        if not choices:
            for rival in Racing(snapshot, self.policy, now_s).rivals(self._idle()):
                choices.append(rival.choice)
                if rival.replaces is not None:
                    withdrawn.append(rival.replaces)
        commands: list[Command] = []
        if withdrawn:
            commands.append(Preempt(withdrawn, _MADE_ROOM))
        if choices:
            commands.append(Assign(choices))
        return Decision(commands, plan, choices)

    def _idle(self) -> list[int]:
        agents = self.snapshot.agents
        size = agents.size
        free = agents.accepting[:size] & (agents.held[:size] < agents.slots[:size])
        return [int(row) for row in np.flatnonzero(free & (agents.held[:size] == 0))]

    def _renew_ranks(self) -> None:
        """Ranks follow the estimates, a bounded number of tasks at a time."""
        snapshot, left = self.snapshot, RANKED_AT_ONCE
        version = snapshot.estimates.version
        for graph in snapshot.graphs:
            if left <= 0:
                return
            if not graph.linked or graph.ranked >= version:
                continue
            number = graph.dag.record.number
            steps = self._ranking.setdefault(number, graph.rank_steps(snapshot.duration_s, version))
            while left > 0 and next(steps, _DONE) is not _DONE:
                left -= min(len(graph.dag.tasks), RANKED_AT_ONCE)
            if graph.ranked >= 0 and graph.ranked == version:
                del self._ranking[number]
                self._requeue(graph)

    def _requeue(self, graph: Graph) -> None:
        """Waiting tasks take the places that their new ranks give them."""
        for task in graph.dag.tasks:
            if task.state is TaskState.READY and task.key in self.snapshot.waiting:
                self.snapshot.ready(graph.dag, task)


_DONE: Final = object()
