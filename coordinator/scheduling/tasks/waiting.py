"""The tasks of a snapshot: those that wait for an agent, in classes of tasks that are alike to the
scheduler."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import Priority, TaskProfile
from coordinator.core.namespaces import DEFAULT_NAMESPACE
from coordinator.scheduling.agents.capable import FeasibilityCache
from coordinator.scheduling.agents.ledger import Demand
from coordinator.scheduling.agents.rows import IntRow
from coordinator.scheduling.tasks.columns import UNKNOWN, Columns
from coordinator.scheduling.tasks.traits import NEVER_MS, traits_of

AGEING: Final = 0.1
"""Seconds of upward rank that a second of a DAG's age is worth. Since all age alike, the order of a class
never changes by itself, and in a DAG what hangs on a task alone counts."""

STARVATION_S: Final = 3_600.0
"""Whoever has waited so long goes with the next higher priority."""


CODES_KEPT: Final = 4_096
"""Codes of kinds that are remembered beside those of classes that wait; beyond them all are given anew."""


class WaitingTask(msgspec.Struct, frozen=True, order=True, gc=False):
    """A READY task, ordered as its class hands it out: `order_ms` is when its DAG came, moved back by what
    hangs on the task (`AGEING`). `attempt` is the number that its next one gets; `previous` the agent of its
    last failed attempt, "" if none: others are preferred. `hint` is what the client says of how long it takes
    (`Task.hint`), `rank_s` the upward rank."""

    order_ms: int
    key: int
    attempt: int = 1
    previous: str = ""
    hint: int = 0
    rank_s: float = 0.0
    ready_ms: int = 0

    @classmethod
    def ranked(
        cls,
        came_ms: int,
        ready_ms: int,
        key: int,
        attempt: int,
        previous: str,
        hint: int,
        rank_s: float,
    ) -> WaitingTask:
        """Of this upward rank, in a DAG that came then."""
        order_ms = came_ms - round(min(rank_s, _LONGEST_S) / AGEING * 1_000)
        return cls(order_ms, key, attempt, previous, hint, rank_s, ready_ms)


class Owner(NamedTuple):
    """What tasks have from their DAG: its namespace, and the policy that it names, "" if none."""

    namespace: str = DEFAULT_NAMESPACE
    policy: str = ""


NOBODY_ELSE: Final = Owner()
"""Of tasks in a cluster without namespaces or policies of DAGs."""


class TaskClass:
    """Waiting tasks of one profile and owner. Until `steady_ms`, priority, order and key alone say who of
    them goes before whom. `at` is its row in `WaitingTable.columns`."""

    __slots__ = ("at", "owner", "profile", "steady_ms", "tasks", "traits")

    def __init__(self, profile: TaskProfile, owner: Owner = NOBODY_ELSE) -> None:
        self.profile = profile
        self.owner = owner
        self.tasks: list[WaitingTask] = []
        self.traits = traits_of(profile)
        self.steady_ms = -1 if profile.deadline_ms else NEVER_MS
        self.at = UNKNOWN


class WaitingTable:
    """All classes that have tasks. Adding in the order of the class and taking from the front are cheap; so
    is adding or taking many at once, wherever they stand."""

    def __init__(self) -> None:
        self.classes: dict[TaskProfile | tuple[Owner, TaskProfile], TaskClass] = {}
        """By profile, and by owner where that is not `NOBODY_ELSE`."""
        self.columns = Columns()
        self.by_row: list[TaskClass] = []
        """The class in each row of the columns."""
        self.retried: set[int] = set()
        """Keys of tasks that should not go where they have failed."""
        self._owners: frozenset[Owner] | None = None
        self._forgotten = 0
        """As the cache was when it told what is noted of it."""
        self._codes: dict[Hashable, int] = {}
        self._tasks: dict[int, WaitingTask] = {}
        self._class_of: dict[int, TaskClass] = {}
        self._urgent = 0

    @property
    def owners(self) -> frozenset[Owner]:
        """Who has tasks here."""
        if self._owners is None:
            self._owners = frozenset([members.owner for members in self.by_row])
        return self._owners

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, key: int) -> bool:
        return key in self._tasks

    @property
    def urgent(self) -> bool:
        """Whether an urgent task waits."""
        return self._urgent > 0

    def get(self, key: int) -> tuple[TaskProfile, WaitingTask] | None:
        """A waiting task and its profile."""
        task = self._tasks.get(key)
        return None if task is None else (self._class_of[key].profile, task)

    def task(self, key: int) -> WaitingTask:
        """One that waits."""
        return self._tasks[key]

    def sharing(self, rows: NDArray[np.intp]) -> dict[int, Demand]:
        """By position among the classes in these rows, what their tasks take, of those whose tasks share more
        of an agent than its resources."""
        those = self.columns["shares"][rows].nonzero()[0].tolist()
        return {at: self.by_row[rows.item(at)].traits.demand for at in those}

    def positions(self, rows: NDArray[np.intp], feasible: FeasibilityCache) -> IntRow:
        """Where the cache of feasibility has what the classes in these rows need."""
        capable = self.columns["capable"]
        if self._forgotten != feasible.forgotten:
            capable[:] = UNKNOWN
            self._forgotten = feasible.forgotten
        unknown = rows[capable[rows] == UNKNOWN]
        if len(unknown):
            found = feasible.positions([self.by_row[row].traits.needs for row in unknown.tolist()])
            if self._forgotten != feasible.forgotten:
                # To make room for these, the cache has forgotten all others.
                return self.positions(rows, feasible)
            capable[unknown] = found
        return capable[rows]

    def add(self, profile: TaskProfile, *tasks: WaitingTask, owner: Owner = NOBODY_ELSE) -> None:
        """These tasks wait, which are of one profile and owner; what was known of them before is replaced.
        Of one that is named twice the last counts."""
        known = self._tasks
        new = {task.key: task for task in tasks}
        if not known.keys().isdisjoint(new):
            new = {key: task for key, task in new.items() if self.get(key) != (profile, task)}
            self.discard(new)
        if not new:
            return
        name = profile if owner == NOBODY_ELSE else (owner, profile)
        members = self.classes.get(name)
        if members is None:
            members = self.classes[name] = TaskClass(profile, owner)
            self._open(members)
        known.update(new)
        if profile.priority is Priority.URGENT:
            self._urgent += len(new)
        self._class_of.update(dict.fromkeys(new, members))
        oldest_ms = min([task.ready_ms for task in new.values()])
        members.steady_ms = min(members.steady_ms, oldest_ms + _STARVATION_MS)
        _merge(members.tasks, new.values())
        for task in new.values():
            if task.previous:
                self.retried.add(task.key)
        self._show(members)

    def discard(self, keys: Iterable[int]) -> None:
        """These tasks wait no more, whether they did or not."""
        gone: dict[TaskClass, list[WaitingTask]] = {}
        for key in keys:
            task = self._tasks.pop(key, None)
            if task is not None:
                gone.setdefault(self._class_of.pop(key), []).append(task)
                self.retried.discard(key)
        for members, taken in gone.items():
            if members.profile.priority is Priority.URGENT:
                self._urgent -= len(taken)
            _take_out(members, taken)
            if members.tasks:
                self._show(members)
            else:
                owner, profile = members.owner, members.profile
                del self.classes[profile if owner == NOBODY_ELSE else (owner, profile)]
                self._close(members)

    def _open(self, members: TaskClass) -> None:
        codes, traits = self._codes, members.traits
        if len(codes) >= CODES_KEPT + 2 * len(self.by_row):
            self._code_anew()
        family = codes.setdefault(traits.family, len(codes))
        kind = codes.setdefault(traits.kinds[0], len(codes))
        members.at = self.columns.add(family, kind, traits.packed)
        self.by_row.append(members)
        self._owners = None

    def _code_anew(self) -> None:
        """Forget the codes of what does not wait any more."""
        codes = self._codes
        codes.clear()
        for at, members in enumerate(self.by_row):
            self.columns["family"][at] = codes.setdefault(members.traits.family, len(codes))
            self.columns["kind"][at] = codes.setdefault(members.traits.kinds[0], len(codes))

    def _show(self, members: TaskClass) -> None:
        first = members.tasks[0]
        self.columns.set_tasks(
            members.at,
            len(members.tasks),
            first.order_ms,
            first.key,
            first.attempt,
            first.hint,
            members.steady_ms,
        )

    def _close(self, members: TaskClass) -> None:
        self.columns.remove(members.at)
        last = self.by_row.pop()
        if last is not members:
            self.by_row[members.at], last.at = last, members.at
        self._owners = None


def column(tasks: Sequence[WaitingTask], name: str) -> IntRow:
    """Of each of the tasks, a field that is a whole number."""
    return np.fromiter(map(attrgetter(name), tasks), np.int64, len(tasks))


def _merge(tasks: list[WaitingTask], others: Iterable[WaitingTask]) -> None:
    ordered = sorted(others)
    if not tasks or tasks[-1] < ordered[0]:
        tasks.extend(ordered)
        return
    begin, end = bisect_left(tasks, ordered[0]), bisect_left(tasks, ordered[-1])
    if _one_by_one(len(ordered), end - begin):
        for task in ordered:
            insort(tasks, task)
    else:
        # Two sorted runs are merged in linear time, and what comes after them is moved once.
        tasks[begin:end] = sorted(tasks[begin:end] + ordered)


def _take_out(members: TaskClass, taken: Sequence[WaitingTask]) -> None:
    tasks = members.tasks
    begin, end = bisect_left(tasks, min(taken)), bisect_left(tasks, max(taken)) + 1
    if end - begin == len(taken):
        del tasks[begin:end]
    elif _one_by_one(len(taken), end - begin):
        for task in taken:
            del tasks[bisect_left(tasks, task)]
    else:
        keys = {task.key for task in taken}
        tasks[begin:end] = [task for task in tasks[begin:end] if task.key not in keys]


def _one_by_one(tasks: int, among: int) -> bool:
    """Whether so many tasks are put among others, or taken from among them, one by one in less time than it
    takes to go through all these."""
    return tasks <= _FEW or among > _GONE_THROUGH * tasks


_FEW: Final = 8
"""For so few it is not worth while to think about it."""

_GONE_THROUGH: Final = 2_000
"""Tasks that are gone through while a million are moved by one place."""

_STARVATION_MS: Final = round(STARVATION_S * 1_000)

_LONGEST_S: Final = 1e12
"""A rank beyond this counts as this much: what clients say may add up to more than a column can hold."""
