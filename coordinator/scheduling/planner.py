"""The plan of a round by cost in seconds: list scheduling by upward rank that looks ahead.

Tasks go in order (`order`), each to the agent where it costs least (`weights`) given all that agents hold and
all that went before it in the round, whether that agent is free or not. A task whose place is free now is a
choice. Any other keeps its place: no lesser task may take it, and the task itself is looked at again in the
next round, when more is known (late binding). Tasks that cannot begin yet but whose predecessors are all on
their way keep places too, as HEFT would (Topcuoglu, Hariri and Wu 2002), but for the round alone. After
`Policy.foresight` such places whatever is free goes to whoever is next: no agent idles while very many wait.

No loop runs over agents x tasks in Python: an agent is found with a few vector operations, on the shortlist of
the task's class where there are many agents.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from coordinator.core.commands import Choice
from coordinator.core.model import Task, TaskProfile
from coordinator.scheduling.classview import NOWHERE, ClassView
from coordinator.scheduling.feasibility import blocked_by
from coordinator.scheduling.graphs import AT_ONCE, Arrivals, Expected
from coordinator.scheduling.order import Rank, head_rank, rank_of
from coordinator.scheduling.pricing import Prices
from coordinator.scheduling.round import Round, Spare
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.solver import Plan, PlanLimits
from coordinator.scheduling.waiting import TaskClass, WaitingTask
from coordinator.scheduling.weights import Policy

_PLACES_KEPT: Final = 32
_PLACES_PER_AGENT: Final = 2
"""Places kept beyond so many change nothing about who goes next."""

LATER: Final = "place_later"
"""The reason of a task that keeps a place: a better one than is free now will be."""


def plan_by_cost(snapshot: Snapshot, limits: PlanLimits, policy: Policy, now_s: float) -> Plan:
    """Place what waits. The same snapshot at the same time gives the same plan."""
    return _Planner(snapshot, limits, policy, now_s).run()


class _Queue:
    """The tasks of a class that are still to be looked at. `open_only`: it has kept enough places."""

    __slots__ = ("at", "members", "view")

    def __init__(self, members: TaskClass, view: ClassView) -> None:
        self.members = members
        self.view = view
        self.at = 0

    @property
    def left(self) -> int:
        """Tasks still to be looked at."""
        return len(self.members.tasks) - self.at


_Head = tuple[Rank, _Queue | Task]


class _Planner:
    """One round."""

    def __init__(self, snapshot: Snapshot, limits: PlanLimits, policy: Policy, now_s: float) -> None:
        self._snapshot = snapshot
        self._limits = limits
        self._policy = policy
        self._now_ms = round(now_s * 1_000)
        self._round = Round(snapshot, now_s, _spares(snapshot, now_s))
        self._prices = Prices(snapshot)
        self._views: dict[TaskProfile, ClassView] = {}
        self._choices: list[Choice] = []
        self._unplaced: dict[str, int] = {}
        self._foresight = min(policy.foresight, _PLACES_KEPT + _PLACES_PER_AGENT * len(snapshot.agents.rows))
        self._expected: dict[int, Expected] = {}
        self._unlocking: dict[int, int] = {}

    def run(self) -> Plan:
        snapshot = self._snapshot
        considered = len(snapshot.waiting)
        heads: list[_Head] = []
        if self._has_room():
            for members in snapshot.waiting.classes.values():
                self._push(heads, _Queue(members, self._view(members.profile)))
            if self._foresight:
                self._look_ahead(heads)
        while heads and len(self._choices) < self._limits.max_choices and self._has_room():
            _, next_one = heappop(heads)
            if isinstance(next_one, Task):
                self._keep_for(next_one, heads)
            elif self._place_next(next_one, heads) and next_one.left:
                self._push(heads, next_one)
        return Plan(self._choices, considered, self._unplaced, snapshot.turn, self._round.withdrawn)

    # --- the order ------------------------------------------------------------------------------------------

    def _push(self, heads: list[_Head], queue: _Queue) -> None:
        task = queue.members.tasks[queue.at]
        heappush(heads, (head_rank(queue.members, task, 0.0, self._now_ms), queue))

    def _look_ahead(self, heads: list[_Head]) -> None:
        """Tasks that can begin when what is with agents has ended take part."""
        left = self._round.left
        for (key, _), live in self._snapshot.running.items():
            if (expected := self._expected.get(key)) is None or left.item(live.place) < expected.seconds:
                self._expected[key] = Expected(live.row, left.item(live.place))
        for task in self._snapshot.foreseen.tasks():
            self._foresee(task, heads)

    def _foresee(self, task: Task, heads: list[_Head]) -> None:
        graph = self._snapshot.graphs.of(task.key)
        rank_s = graph.rank(task.index) if graph is not None else 0.0
        heappush(heads, (rank_of(task.profile, rank_s, self._now_ms, task.key, 0.0, self._now_ms), task))

    def _unlock(self, key: int, heads: list[_Head]) -> None:
        """The task has a place: what waits for it alone can be foreseen."""
        for task in self._snapshot.foreseen.successors(key):
            left = self._unlocking.get(task.key, task.waiting - self._snapshot.foreseen.live(task.key)) - 1
            self._unlocking[task.key] = left
            if left == 0:
                self._foresee(task, heads)

    # --- places ---------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        return self._round.free > 0 or bool((self._round.open & self._round.ledger.queue_free(0.0)).any())

    def _view(self, profile: TaskProfile) -> ClassView:
        view = self._views.get(profile)
        if view is None:
            view = self._views[profile] = ClassView(
                profile, self._policy, self._round, self._prices, self._limits.shortlist
            )
        return view

    def _place_next(self, queue: _Queue, heads: list[_Head]) -> bool:
        """Find a place for the next task of a class; False if there is none for any of it."""
        members, view = queue.members, queue.view
        task = members.tasks[queue.at]
        work_s = self._snapshot.work(members.profile, task.key, task.expected_ms).seconds
        arrivals = self._arrivals(task.key)
        if work_s <= self._snapshot.look_ahead.brief_s:
            row = view.cheapest_open(work_s, arrivals, queue_s=work_s).row
        elif self._foresight > 0:
            row = view.cheapest(work_s, arrivals, self._previous(task)).row
        else:
            row = view.cheapest_open(work_s, arrivals).row
        if row == NOWHERE:
            reason = blocked_by(members.profile, work_s, self._round.ledger, view.capable)
            self._count(reason or LATER, queue.left)
            return False
        queue.at += 1
        seconds = work_s * view.inverse_speed.item(row)
        arrive_s = arrivals.at(row)
        if self._can_give(row, seconds, arrive_s):
            self._give(task, row, view, seconds, arrive_s, heads)
        else:
            self._count(LATER, 1)
            self._keep(task.key, row, seconds, arrive_s, heads)
        return True

    def _can_give(self, row: int, seconds: float, arrive_s: float) -> bool:
        around = self._round
        if not around.open.item(row):
            return False
        if around.ledger.slot_free.item(row):
            return True
        # The inputs move while the agent is still at something else.
        one_behind = around.ledger.held.item(row) == around.ledger.slots.item(row)
        prefetch = one_behind and 0 < arrive_s and around.wait.item(row) <= arrive_s
        return prefetch or (seconds <= self._snapshot.look_ahead.brief_s and bool(around.ledger.room_at(row, seconds)))

    def _give(
        self, task: WaitingTask, row: int, view: ClassView, seconds: float, arrive_s: float, heads: list[_Head]
    ) -> None:
        agents = self._snapshot.agents
        end = self._round.give(row, view.demand, seconds, arrive_s)
        self._choices.append(Choice(task.key, task.attempt, agents.agent_id(row), agents.epochs.item(row)))
        if self._foresight > 0:
            self._expected[task.key] = Expected(row, end)
            self._unlock(task.key, heads)

    def _keep(self, key: int, row: int, seconds: float, arrive_s: float, heads: list[_Head]) -> None:
        self._foresight -= 1
        self._expected[key] = Expected(row, self._round.keep(row, seconds, arrive_s))
        self._unlock(key, heads)

    def _keep_for(self, task: Task, heads: list[_Head]) -> None:
        """A place for a task that is foreseen."""
        if self._foresight <= 0:
            return
        view = self._view(task.profile)
        work_s = self._snapshot.work(task.profile, task.key, task.expected_ms).seconds
        arrivals = self._arrivals(task.key)
        row = view.cheapest(work_s, arrivals).row
        if row != NOWHERE:
            seconds = work_s * view.inverse_speed.item(row)
            self._keep(task.key, row, seconds, arrivals.at(row), heads)

    def _arrivals(self, key: int) -> Arrivals:
        graph = self._snapshot.graphs.of(key)
        if graph is None:
            return AT_ONCE
        return graph.arrivals(graph.task(key), self._snapshot.agents, self._expected)

    def _previous(self, task: WaitingTask) -> int:
        return self._snapshot.agents.rows.get(task.previous, NOWHERE) if task.previous else NOWHERE

    def _count(self, reason: str, tasks: int) -> None:
        self._unplaced[reason] = self._unplaced.get(reason, 0) + tasks


def _spares(snapshot: Snapshot, now_s: float) -> dict[int, Spare]:
    """Attempts, by the row of their agent, that make room for any task: a better one of the same task goes on
    elsewhere."""
    shared = [(attempt, live) for attempt, live in snapshot.running.items() if snapshot.running.shares(attempt[0])]
    if not shared:
        return {}
    left = snapshot.running.left(now_s)
    by_task: dict[int, list[tuple[float, int, int]]] = {}
    for (key, number), live in shared:
        by_task.setdefault(key, []).append((left.item(live.place), number, live.row))
    spares: dict[int, Spare] = {}
    for key, attempts in by_task.items():
        (best_s, _, _), *others = sorted(attempts)
        for left_s, number, row in others:
            spares[row] = Spare(key, number, 0.5 * best_s * best_s / (best_s + left_s))
    return spares
