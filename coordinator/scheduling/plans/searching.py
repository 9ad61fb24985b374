"""Placement by search, where little is left to do: what the best schedule of it begins now is begun, and all
else waits for the place that it has there. Where a search would not do, plans are made by cost."""

from __future__ import annotations

from typing import Final

import numpy as np

from coordinator.core.commands import Choice
from coordinator.core.model import Task, TaskProfile, TaskState
from coordinator.core.namespaces import NO_QUOTAS
from coordinator.scheduling.agents.feasibility import fitting
from coordinator.scheduling.agents.ledger import demand_of
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.assignments import Witness
from coordinator.scheduling.plans.lane import Lane
from coordinator.scheduling.plans.looks import look_at_schedule
from coordinator.scheduling.plans.outlook import Outlook, look_out
from coordinator.scheduling.plans.planner import LATER
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.plans.search import FIRST_THRIFT, Found, search
from coordinator.scheduling.plans.solver import Plan, PlanLimits
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.graphs import Expected, Graph

TASKS_SEARCHED: Final = 256
"""In all DAGs that have waiting tasks, those included that have ended."""

_PLACES: Final = 8_192
"""Tasks in all schedules of a search: where there are more, fewer schedules are made."""

_FIRST_TURNS: Final = 4
"""Searches in a row where some tasks are new."""

_AT_ONCE_S: Final = 1e-6


class Searching:
    """What the last search has found is where the next one begins."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._bias: dict[int, float] = {}
        """Of each task that is left, by key."""
        self._thrift: dict[int, float] = {}
        """With the slots of each agent, by row."""
        self._turn = 0

    def plan(self, limits: PlanLimits, policy: Policy, now_s: float, witness: Witness) -> Plan | None:
        """What to begin now. None where the policy asks for no search, or where a search would not do: there
        is too much to do, or more counts than when all has ended."""
        waiting = self._snapshot.waiting
        if not len(waiting) or not limits.max_choices:
            return None
        # Most policies ask for none, which is known in less time than all the rest.
        own = self._snapshot.policy_for(next(iter(waiting.classes.values())).owner, policy)
        if not own.schedules or not self._is_all_that_counts(now_s):
            return None
        tasks = self._left()
        if not tasks:
            return None
        around = Round(self._snapshot, own.weights, now_s, {})
        outlook = look_out(around, own, self._snapshot.prices.renew(), tasks)
        if outlook is None:
            return None
        return self._begin(outlook, self._find(outlook), limits, witness)

    def _is_all_that_counts(self, now_s: float) -> bool:
        """Whether all waiting tasks are one owner's, none of them goes before another but for what hangs on
        it, and nothing is kept from any."""
        snapshot = self._snapshot
        if len(snapshot.waiting) > TASKS_SEARCHED or snapshot.reserved or snapshot.running.shared():
            return False
        first, *others = snapshot.waiting.classes.values()
        line = first.owner, first.traits.level
        if any((one.owner, one.traits.level) != line for one in others):
            return False
        now_ms = now_s * 1_000
        if any(now_ms >= one.steady_ms for one in (first, *others)):
            return False
        return snapshot.shares.account(first.owner.namespace).settings.quotas == NO_QUOTAS

    def _left(self) -> list[Task]:
        """All tasks that no agent has and that have not ended, of the DAGs that have waiting ones; none if
        these are too large, or data moves between their tasks."""
        snapshot, graphs = self._snapshot, dict[int, Graph]()
        for members in snapshot.waiting.classes.values():
            for waiting in members.tasks:
                graph = snapshot.graphs.of(waiting.key)
                if graph is None or graph.dag.record.number in snapshot.graphs.moved:
                    return []
                graphs[graph.dag.record.number] = graph
        if sum(graph.size for graph in graphs.values()) > TASKS_SEARCHED:
            return []
        return [task for graph in graphs.values() for task in graph.dag.tasks if task.state in _LEFT]

    def _find(self, outlook: Outlook) -> Found:
        keys, rows = [task.key for task in outlook.tasks], outlook.rows.tolist()
        turns = 1 if self._bias.keys() >= set(keys) else _FIRST_TURNS
        bias = np.array([self._bias.get(key, 0.0) for key in keys])
        thrift = np.array([self._thrift.get(row, FIRST_THRIFT) for row in rows]) if self._thrift else None
        many = max(min(outlook.policy.schedules, _PLACES // len(keys)), 1)
        found = search(outlook.work, bias, thrift, many, self._turn)
        for turn in range(1, turns):
            found = search(outlook.work, found.bias, found.thrift, many, self._turn + turn)
        self._turn += turns
        self._bias = dict(zip(keys, found.bias.tolist(), strict=True))
        self._thrift = dict(zip(rows, found.thrift.tolist(), strict=True))
        return found

    def _begin(self, outlook: Outlook, found: Found, limits: PlanLimits, witness: Witness) -> Plan | None:
        """None if an agent lacks what a task takes beside its slot, or if all would wait for nothing."""
        snapshot, around = self._snapshot, outlook.around
        agents, ledger = snapshot.agents, around.ledger
        choices: list[Choice] = []
        kept: dict[int, Expected] = {}
        for at in found.start_s.argsort(kind="stable").tolist():
            key, slot = outlook.tasks[at].key, found.slot.item(at)
            row = outlook.rows.item(slot)
            waiting = snapshot.waiting.get(key)
            if waiting is None:
                continue
            begins = found.start_s.item(at) <= _AT_ONCE_S and ledger.slot_free.item(row)
            if not begins or len(choices) == limits.max_choices:
                kept[key] = Expected(row, found.end_s.item(at))
                continue
            profile, task = waiting
            work_s = outlook.work_s.item(at)
            if not self._fits(profile, work_s, row, around):
                return None
            if witness.left:
                prices = snapshot.prices.renew()
                lane = Lane(profile, outlook.policy, around, prices, limits.shortlist, work_s)
                witness.keep(look_at_schedule(around, lane, task, work_s), row, snapshot, ledger)
            around.give(row, demand_of(profile), outlook.work.seconds.item(at, slot), 0.0)
            choices.append(Choice(key, task.attempt, agents.ids[row], agents.epochs.item(row)))
        if not choices and not len(snapshot.running):
            return None
        unplaced = {LATER: len(kept)} if kept else {}
        return Plan(choices, len(snapshot.waiting), unplaced, snapshot.turn, kept=kept)

    def _fits(self, profile: TaskProfile, work_s: float, row: int, around: Round) -> bool:
        passing = fitting(profile, self._snapshot.agents)
        return all(one.holds(profile, work_s, around.ledger).item(row) for one in passing)


_LEFT: Final = (TaskState.PENDING, TaskState.READY)
