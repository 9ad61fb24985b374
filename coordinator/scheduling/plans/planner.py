"""The plan of a round by cost in seconds: list scheduling by upward rank that looks ahead.

Tasks go in order (`order`), each to the agent where it costs least (`weights`) given all that agents hold and
all that went before it in the round, whether that agent is free or not. A task whose place is free now is a
choice. Any other keeps its place: no lesser task may take it, and the task itself is looked at again in the
next round, when more is known (late binding). Tasks that cannot begin yet but whose predecessors are all on
their way keep places too, as HEFT would (Topcuoglu, Hariri and Wu 2002), but for the round alone. After
`Policy.foresight` such places whatever is free goes to whoever is next: no agent idles while very many wait.

No loop runs over agents x tasks in Python: an agent is found with a few vector operations, on the shortlist
of the task's class where there are many agents."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain, islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.core.commands import Choice
from coordinator.core.model import Task, TaskProfile, TaskState
from coordinator.scheduling.agents.feasibility import blocked_by
from coordinator.scheduling.agents.reserved import RESERVED
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.alike import place_alike
from coordinator.scheduling.plans.assignments import Witness
from coordinator.scheduling.plans.brief import place_brief, room_in_all
from coordinator.scheduling.plans.bulk import BLOCK, MANY, Places
from coordinator.scheduling.plans.claims import QUOTA, Claims
from coordinator.scheduling.plans.crowd import Crowd, apart, crowd_of
from coordinator.scheduling.plans.lane import NOWHERE, Lane
from coordinator.scheduling.plans.lone import place_lone
from coordinator.scheduling.plans.looks import look_at_class, look_at_lane
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.plans.shut_out import not_shut_out
from coordinator.scheduling.plans.solver import Plan, PlanLimits
from coordinator.scheduling.plans.spares import find_spares
from coordinator.scheduling.plans.turns import Line, most_urgent
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.graphs import AT_ONCE, Expected
from coordinator.scheduling.tasks.order import Place, place_in_line
from coordinator.scheduling.tasks.waiting import Owner, TaskClass, WaitingTask

_PLACES_KEPT: Final = 32
_PLACES_PER_AGENT: Final = 2
"""Places kept beyond so many change nothing about who goes next."""

_ONE_BY_ONE: Final = 500
"""Choices of a round that are made one by one where shares or quotas count: more would take too long."""

_PASSED_OVER: Final = 64
"""Tasks of one class that are looked at for one that lasts less long, where the next finds no place, and how
often in a round."""

_KEPT_FOR_CLASSES: Final = 8
"""Classes of which one task each gets a place kept before brief ones, in a round of many."""

LATER: Final = "place_later"
"""The reason of a task that keeps a place: a better one than is free now will be."""


def plan_by_cost(
    snapshot: Snapshot, limits: PlanLimits, policy: Policy, now_s: float, witness: Witness | None = None
) -> Plan:
    """Place what waits. The same snapshot at the same time gives the same plan, with a witness or without."""
    if not (witness and witness.left):
        shorter = place_lone if len(snapshot.waiting) == 1 else place_alike
        found = shorter(snapshot, limits, policy, now_s)
        if found is not None:
            return found
    return _Planner(snapshot, limits, policy, now_s, witness or Witness()).run()


class _Queue:
    """The tasks of a class from the one on that is looked at next."""

    __slots__ = ("at", "lane", "members", "profile", "tasks")

    def __init__(self, members: TaskClass, lane: Lane) -> None:
        self.members = members
        self.profile = members.profile
        self.tasks = members.tasks
        self.lane = lane
        self.at = 0


_Head = tuple[Place, "_Queue | Task"]


class _Planner:
    """One round."""

    def __init__(
        self, snapshot: Snapshot, limits: PlanLimits, policy: Policy, now_s: float, witness: Witness
    ) -> None:
        self._snapshot = snapshot
        self._witness = witness
        self._limits = limits
        self._policy = policy
        self._now_ms = round(now_s * 1_000)
        self._round = Round(snapshot, policy.weights, now_s, find_spares(snapshot, now_s))
        self._prices = snapshot.prices.renew()
        self._classes, self._unplaced = not_shut_out(self._round, list(snapshot.waiting.classes.values()))
        self._owners: Collection[Owner] = snapshot.waiting.owners
        if len(self._classes) < len(snapshot.waiting.classes):
            self._owners = {members.owner for members in self._classes}
        self._passes_left = _PASSED_OVER
        self._claims = Claims(snapshot, now_s, self._owners)
        self._lanes: dict[tuple[str, str, TaskProfile], Lane] = {}
        self._policies: dict[Owner, Policy] = {}
        self._choices: list[Choice] = []
        places = _PLACES_KEPT + _PLACES_PER_AGENT * len(snapshot.agents.rows)
        self._places_left = min(policy.foresight, places)
        self._expected: dict[int, Expected] = {}
        self._kept: dict[int, Expected] = {}
        self._passed_by: list[Crowd] = []
        """Those that last and found no place, in a round of many."""
        self._unlocking: dict[int, int] = {}

    def run(self) -> Plan:
        if not self._place_many() and self._has_room():
            # Where it matters whose they are, brief tasks too go one by one: by class, whoever comes first
            # would get all that queues have room for.
            at_once = _ONE_BY_ONE if self._claims.counted else self._limits.max_choices
            self._place_each(self._heads(), min(at_once, self._limits.max_choices))
        return self._plan()

    def _place_each(self, heads: list[_Head], most: int) -> None:
        """Place tasks in order, until so many choices are made. Tasks that are foreseen keep places from
        those that come after them: there is nothing to do for any but these."""
        queues = sum(isinstance(first, _Queue) for _, first in heads)
        while queues and len(self._choices) < most:
            place, first = heads[0]
            share = self._share_of(first)
            if share > place[1]:
                # Its namespace has got something since it stood in line.
                heapreplace(heads, ((place[0], share, *place[2:]), first))
            elif isinstance(first, Task):
                heappop(heads)
                self._keep_for(first, heads)
            elif self._place_next(first, heads) and first.at < len(first.tasks):
                self._replace_head(heads, first)
            else:
                self._drop_head(heads, first)
                queues -= 1
            if not self._round.free and not self._has_room():
                break

    def _plan(self) -> Plan:
        waiting, turn = len(self._snapshot.waiting), self._snapshot.turn
        return Plan(self._choices, waiting, self._unplaced, turn, self._round.withdrawn, self._kept)

    def _place_many(self) -> bool:
        """Place many tasks at once, if there are many and places for them; False if none could be."""
        snapshot, around = self._snapshot, self._round
        if min(len(snapshot.waiting), self._limits.max_choices) < MANY or not snapshot.agents.size:
            return False
        most, rows = min(around.ledger.free_slots(), self._limits.max_choices), self._rows()
        if most < self._limits.max_choices and not self._claims.counted:
            most = max(most, min(self._brief_room(rows), self._limits.max_choices))
        if min(most, len(snapshot.waiting)) < MANY:
            return False
        line = self._first_in_line(rows, most)
        if not len(line.rows):
            return False
        middle = snapshot.waiting.by_row[line.rows.item(len(line.rows) // 2)]
        first = middle.tasks[0]
        typical_s = snapshot.work_s(middle.profile, first.key, first.hint)
        for level in crowd_of(snapshot, line).levels():
            for crowd in self._by_policy(self._place_others(level)):
                owner = crowd.members(0).owner
                places = Places(around, self._policy_of(owner), self._prices, most, typical_s)
                for block in crowd.blocks(BLOCK):
                    for stretch in block.stretches():
                        self._place_stretch(stretch, owner, places)
                places.close()
        return bool(self._choices)

    def _by_policy(self, crowd: Crowd) -> list[Crowd]:
        """Those whose tasks go by one policy together, in the order of the first of each."""
        if len(self._snapshot.waiting.owners) < 2:
            return [crowd] if len(crowd) else []
        names = [self._policy_of(one.owner).name for one in crowd.classes()]
        numbers = {name: at for at, name in enumerate(dict.fromkeys(names))}
        of = np.array([numbers[name] for name in names], np.intp)[crowd.of]
        return [crowd.only(of == at) for at in numbers.values()]

    def _place_stretch(self, stretch: Crowd, owner: Owner, places: Places) -> None:
        """Place classes that look for places together, all by the owner's policy."""
        longer, brief = stretch.only(~stretch.brief), stretch.only(stretch.brief)
        if len(longer):
            given = self._seen(longer, owner, places, partial(places.place, longer))
            self._choices += given
            if len(given) < len(longer):
                found = np.isin(longer.keys, [choice.key for choice in given])
                self._passed_by.append(longer.only(~found))
        for one in brief.blocks(1):
            places.close()
            self._keep_before_brief()
            members = one.members(0)
            lane = self._lane(members.profile, members.owner, members.tasks[0])
            place = partial(place_brief, self._round, lane, one)
            self._choices += self._seen(one, owner, None, place)

    def _keep_before_brief(self) -> None:
        """Keep places for some of those that last, come before brief tasks, and found none: these would fill
        the queue of every agent, and so no slot would ever be free."""
        heads: list[_Head] = []
        classes = chain.from_iterable(crowd.blocks(1) for crowd in self._passed_by)
        for one in islice(classes, _KEPT_FOR_CLASSES if self._places_left > 0 else 0):
            members = one.members(0)
            queue = _Queue(members, self._lane(members.profile, members.owner, members.tasks[0]))
            queue.tasks = [self._snapshot.waiting.task(one.keys.item(0))]
            heads.append((self._place_of(queue), queue))
        self._passed_by.clear()
        heapify(heads)
        self._place_each(heads, self._limits.max_choices)

    def _seen(
        self, crowd: Crowd, owner: Owner, places: Places | None, place: Callable[[], list[Choice]]
    ) -> list[Choice]:
        """What is placed, the first of these tasks before the eyes of the witness."""
        found = self._snapshot.waiting.get(crowd.keys.item(0)) if self._witness.left else None
        if found is None:
            return place()
        around, (profile, task) = self._round, found
        policy, shortlist = self._policy_of(owner), self._limits.shortlist
        barrier = around.barrier(crowd.members(0).owner, profile, task.key, task.hint)
        lane = Lane(profile, policy, around, self._prices, shortlist, crowd.work.item(0), barrier)
        look = look_at_class(around, lane, task, crowd.work.item(0), places)
        given = place()
        self._witness.keep_first(look, given, self._snapshot, around.ledger)
        return given

    def _place_others(self, crowd: Crowd) -> Crowd:
        """Place those that cannot go by class. A bounded number goes in each round, before the others: there
        are places for all. Returns these."""
        alone = apart(self._snapshot, crowd)
        if not alone.any():
            return crowd
        heads: list[_Head] = []
        for one in crowd.only(alone).blocks(1):
            members = one.members(0)
            queue = _Queue(members, self._lane(members.profile, members.owner, members.tasks[0]))
            queue.tasks = [self._snapshot.waiting.task(key) for key in one.keys.tolist()]
            heads.append((self._place_of(queue), queue))
        heapify(heads)
        self._place_each(heads, min(MANY, self._limits.max_choices))
        return crowd.only(~alone)

    def _brief_room(self, rows: NDArray[np.intp]) -> int:
        """For how many tasks slots and queues have room, if the first task of any of these classes is brief:
        so many need to be looked at, and some that turn out not to be. 0 if none is."""
        for begin in range(0, len(rows), BLOCK):
            some = rows[begin : begin + BLOCK]
            heads = crowd_of(self._snapshot, Line(some, np.ones_like(some)))
            if heads.brief.any():
                work = np.where(heads.brief, heads.work, np.inf)
                members = heads.members(work.argmin().item())
                lane = self._lane(members.profile, members.owner, members.tasks[0])
                return MANY + room_in_all(self._round, lane, float(work.min()))
        return 0

    # --- the order ------------------------------------------------------------------------------------------

    def _rows(self) -> NDArray[np.intp]:
        """Of all classes that are looked at, in the columns of what waits."""
        if len(self._classes) == len(self._snapshot.waiting.by_row):
            return np.arange(len(self._classes))
        return np.array([members.at for members in self._classes], np.intp)

    def _first_in_line(self, rows: NDArray[np.intp], most: int) -> Line:
        claims = self._claims
        if claims.counted:
            # What goes is taken again as it is placed.
            claims = Claims(self._snapshot, self._round.now_s, self._owners)
        return most_urgent(self._snapshot.waiting, rows, most, self._now_ms, claims)

    def _owner_of(self, first: _Queue | Task) -> Owner:
        if isinstance(first, Task):
            graph = self._snapshot.graphs.of(first.key)
            assert graph is not None
            return graph.owner
        return first.members.owner

    def _share_of(self, first: _Queue | Task) -> float:
        return self._claims.share(self._owner_of(first)) if self._claims.counted else 0.0

    def _heads(self) -> list[_Head]:
        heads: list[_Head] = []
        for members in self._classes:
            queue = _Queue(members, self._lane(members.profile, members.owner, members.tasks[0]))
            if self._kept:
                queue.tasks = [task for task in queue.tasks if task.key not in self._kept]
            if queue.tasks:
                heads.append((self._place_of(queue), queue))
        if self._places_left > 0 and heads:
            self._look_ahead(heads)
        heapify(heads)
        return heads

    def _place_of(self, queue: _Queue) -> Place:
        task = queue.tasks[queue.at]
        return place_in_line(queue.profile, task, self._share_of(queue), self._now_ms)

    def _replace_head(self, heads: list[_Head], queue: _Queue) -> None:
        """The class stands in line again with its next task. Meanwhile others may have come before it."""
        if heads[0][1] is queue:
            heapreplace(heads, (self._place_of(queue), queue))
        else:
            self._drop_head(heads, queue)
            heappush(heads, (self._place_of(queue), queue))

    @staticmethod
    def _drop_head(heads: list[_Head], queue: _Queue) -> None:
        if heads[0][1] is queue:
            heappop(heads)
        else:
            heads[:] = [head for head in heads if head[1] is not queue]
            heapify(heads)

    def _look_ahead(self, heads: list[_Head]) -> None:
        """Tasks that can begin when what is with agents has ended take part."""
        foreseen = self._snapshot.foreseen.tasks()
        if not foreseen:
            return
        running, waiting = self._snapshot.running, self._snapshot.waiting
        for task in foreseen:
            if task.key in waiting or not self._keeps_places(task):
                # What waits does so by ends that have been told, and that may yet be refused.
                continue
            graph = self._snapshot.graphs.of(task.key)
            assert graph is not None
            for index in task.depends:
                before = graph.dag.tasks[index]
                key = before.key
                if before.state is TaskState.COMPLETED:
                    continue
                if key not in self._expected and (end := running.ends(key, self._round.now_s)) is not None:
                    self._expected[key] = Expected(*end)
            self._foresee(task, heads)

    def _keeps_places(self, task: Task) -> bool:
        """Whether the task is foreseen. Brief ones find room when they come, and keep none from others,
        unless what lasts comes after them."""
        snapshot = self._snapshot
        brief = snapshot.is_brief(task.profile, task.key, task.hint)
        return not brief or snapshot.leads_on(task.key)

    def _foresee(self, task: Task, heads: list[_Head]) -> None:
        graph = self._snapshot.graphs.of(task.key)
        assert graph is not None
        came_ms, rank_s = graph.dag.record.created_ms, graph.rank(task.index)
        waiting = WaitingTask.ranked(came_ms, self._now_ms, task.key, task.attempt + 1, "", task.hint, rank_s)
        heads.append((place_in_line(task.profile, waiting, self._share_of(task), self._now_ms), task))

    def _unlock(self, key: int, heads: list[_Head]) -> None:
        """The task has a place: what waits for it alone can be foreseen."""
        foreseen = self._snapshot.foreseen
        for task in foreseen.successors(key):
            left = self._unlocking.get(task.key, task.waiting - foreseen.live(task.key)) - 1
            self._unlocking[task.key] = left
            if left == 0 and task.key not in self._snapshot.waiting and self._keeps_places(task):
                self._foresee(task, heads)
                heappush(heads, heads.pop())

    # --- places ---------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        return self._round.free > 0 or bool((self._round.open & self._round.ledger.queue_free(0.0)).any())

    def _policy_of(self, owner: Owner) -> Policy:
        policy = self._policies.get(owner)
        if policy is None:
            policy = self._policies[owner] = self._snapshot.policy_for(owner, self._policy)
        return policy

    def _lane(self, profile: TaskProfile, owner: Owner, first: WaitingTask | Task) -> Lane:
        """Of a class, whose tasks are taken to last as long as the first that asks."""
        policy = self._policy_of(owner)
        # What is kept for others depends on who asks.
        name = policy.name, owner.namespace if self._snapshot.reserved else "", profile
        lane = self._lanes.get(name)
        if lane is None:
            lasts_s = self._snapshot.work_s(profile, first.key, first.hint)
            barrier = self._round.barrier(owner, profile, first.key, first.hint)
            lane = self._lanes[name] = Lane(
                profile, policy, self._round, self._prices, self._limits.shortlist, lasts_s, barrier
            )
        return lane

    def _place_next(self, queue: _Queue, heads: list[_Head]) -> bool:
        """Find a place for the next task of a class; False if there is none for any of it."""
        lane, task = queue.lane, queue.tasks[queue.at]
        if self._claims.refused(queue.members.owner, queue.profile):
            self._count(QUOTA, len(queue.tasks) - queue.at)
            return False
        work_s = self._snapshot.work_s(queue.profile, task.key, task.hint)
        arrivals = self._snapshot.graphs.arrivals(task.key, self._snapshot.agents, self._expected)
        brief = self._snapshot.is_brief(queue.profile, task.key, task.hint)
        anywhere = self._places_left > 0 and not brief
        if anywhere:
            row = lane.cheapest(work_s, arrivals, self._previous(task))
        else:
            row = lane.cheapest_open(work_s, arrivals, self._previous(task), brief=brief)
        if row == NOWHERE:
            reason = blocked_by(queue.profile, work_s, self._round.ledger, lane.capable)
            if not reason and lane.is_barred(work_s):
                if self._pass_over(queue, RESERVED):
                    return True
                reason = RESERVED
            elif not brief and self._pass_over(queue, reason or LATER, to_brief=True):
                return True
            self._count(reason or LATER, len(queue.tasks) - queue.at)
            return False
        queue.at += 1
        seconds = work_s * lane.inverse_speed.item(row)
        self._claims.take(queue.members.owner, queue.profile)
        arrive_s = 0.0 if arrivals is AT_ONCE else arrivals.at(row)
        if self._can_give(row, brief, arrive_s):
            if self._witness.left:
                previous = self._previous(task)
                look = look_at_lane(self._round, lane, task, work_s, arrivals, previous, anywhere, brief)
                self._witness.keep(look, row, self._snapshot, self._round.ledger)
            agents = self._snapshot.agents
            end = self._round.give(row, lane.demand, seconds, arrive_s)
            self._choices.append(Choice(task.key, task.attempt, agents.ids[row], agents.epochs.item(row)))
            if self._places_left > 0 and self._snapshot.graphs.linked(task.key):
                self._expected[task.key] = Expected(row, end)
                self._unlock(task.key, heads)
        else:
            self._count(LATER, 1)
            self._kept[task.key] = Expected(row, self._keep(task.key, row, seconds, arrive_s, heads))
        return True

    def _pass_over(self, queue: _Queue, reason: str, *, to_brief: bool = False) -> bool:
        """Go on with a task of the class that is expected to last less long: it may end before the slots are
        kept for others or, if it is brief, queue. False if there is none at hand."""
        refused, is_brief = queue.tasks[queue.at].hint, self._snapshot.is_brief
        behind = range(queue.at + 1, min(queue.at + _PASSED_OVER, len(queue.tasks)))
        if not (refused and behind and self._passes_left):
            return False
        self._passes_left -= 1
        for at in behind:
            task = queue.tasks[at]
            shorter = 0 < task.hint < refused
            if shorter and (not to_brief or is_brief(queue.profile, task.key, task.hint)):
                self._count(reason, at - queue.at)
                queue.at = at
                return True
        return False

    def _can_give(self, row: int, brief: bool, arrive_s: float) -> bool:
        around = self._round
        if not around.open.item(row):
            return False
        if brief or around.ledger.slot_free.item(row):
            return True
        # The inputs move while the agent is still at something else.
        one_behind = around.ledger.held.item(row) == around.ledger.slots.item(row)
        return one_behind and arrive_s > 0 and around.wait.item(row) <= arrive_s

    def _keep(self, key: int, row: int, seconds: float, arrive_s: float, heads: list[_Head]) -> float:
        self._places_left -= 1
        end = self._round.keep(row, seconds, arrive_s)
        if self._snapshot.graphs.linked(key):
            self._expected[key] = Expected(row, end)
            self._unlock(key, heads)
        return end

    def _keep_for(self, task: Task, heads: list[_Head]) -> None:
        """A place for a task that is foreseen."""
        owner = self._owner_of(task)
        if self._places_left <= 0 or self._claims.refused(owner, task.profile):
            return
        lane = self._lane(task.profile, owner, task)
        work_s = self._snapshot.work_s(task.profile, task.key, task.hint)
        arrivals = self._snapshot.graphs.arrivals(task.key, self._snapshot.agents, self._expected)
        row = lane.cheapest(work_s, arrivals, NOWHERE)
        if row != NOWHERE:
            seconds = work_s * lane.inverse_speed.item(row)
            self._claims.take(owner, task.profile)
            self._keep(task.key, row, seconds, arrivals.at(row), heads)

    def _previous(self, task: WaitingTask) -> int:
        return self._snapshot.agents.rows.get(task.previous, NOWHERE) if task.previous else NOWHERE

    def _count(self, reason: str, tasks: int) -> None:
        self._unplaced[reason] = self._unplaced.get(reason, 0) + tasks
