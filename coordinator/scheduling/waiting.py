"""The tasks of a snapshot: those that wait for an agent, in classes of tasks that are alike to the
scheduler."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Final

import msgspec

from coordinator.core.model import TaskProfile

AGEING: Final = 0.1
"""Seconds of upward rank that a second of a DAG's age is worth. Since all age alike, the order of a class
never changes by itself, and in a DAG what hangs on a task alone counts."""


class WaitingTask(msgspec.Struct, frozen=True, order=True, gc=False):
    """A READY task, ordered as its class hands it out: `order_ms` is when its DAG came, moved back by what
    hangs on the task (`AGEING`). `attempt` is the number that its next one gets; `previous` the agent of its
    last failed attempt, "" if none: others are preferred. `expected_ms` is the client's estimate, `rank_s`
    the upward rank."""

    order_ms: int
    key: int
    attempt: int = 1
    previous: str = ""
    expected_ms: int = 0
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
        expected_ms: int,
        rank_s: float,
    ) -> WaitingTask:
        """Of this upward rank, in a DAG that came then."""
        order_ms = came_ms - round(rank_s / AGEING * 1_000)
        return cls(order_ms, key, attempt, previous, expected_ms, rank_s, ready_ms)


class TaskClass:
    """Waiting tasks of one profile. `rank` orders classes: by priority, then by deadline."""

    __slots__ = ("profile", "rank", "tasks")

    def __init__(self, profile: TaskProfile) -> None:
        self.profile = profile
        self.rank = (-int(profile.priority), profile.deadline_ms or _NO_DEADLINE)
        self.tasks: list[WaitingTask] = []


class _Place(msgspec.Struct, frozen=True, gc=False):
    """Where a waiting task is found."""

    members: TaskClass
    task: WaitingTask


class WaitingTable:
    """All classes that have tasks. Adding in the order of readiness and taking from the front are cheap; a
    task anywhere else costs a search and a move of what is behind it."""

    def __init__(self) -> None:
        self.classes: dict[TaskProfile, TaskClass] = {}
        self._by_key: dict[int, _Place] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: int) -> bool:
        return key in self._by_key

    def get(self, key: int) -> tuple[TaskProfile, WaitingTask] | None:
        """A waiting task and its profile."""
        found = self._by_key.get(key)
        return None if found is None else (found.members.profile, found.task)

    def add(self, profile: TaskProfile, task: WaitingTask) -> None:
        """The task waits; what was known of it before is replaced."""
        known = self._by_key.get(task.key)
        if known is not None:
            if known.task == task and known.members.profile == profile:
                return
            self._remove(known)
        members = self.classes.get(profile)
        if members is None:
            members = self.classes[profile] = TaskClass(profile)
        if not members.tasks or members.tasks[-1] < task:
            members.tasks.append(task)
        else:
            insort(members.tasks, task)
        self._by_key[task.key] = _Place(members, task)

    def discard(self, keys: Iterable[int]) -> None:
        """These tasks wait no more, whether they did or not. Costs O(tasks of the classes concerned) for many
        keys."""
        gone: dict[TaskProfile, set[int]] = {}
        for key in keys:
            found = self._by_key.pop(key, None)
            if found is not None:
                gone.setdefault(found.members.profile, set()).add(key)
        for profile, taken in gone.items():
            self._shrink(self.classes[profile], taken)

    def _remove(self, place: _Place) -> None:
        tasks = place.members.tasks
        del tasks[bisect_left(tasks, place.task)]
        del self._by_key[place.task.key]
        if not tasks:
            del self.classes[place.members.profile]

    def _shrink(self, members: TaskClass, taken: set[int]) -> None:
        tasks = members.tasks
        front = 0
        while front < len(tasks) and tasks[front].key in taken:
            front += 1
        if front == len(taken):
            del tasks[:front]
        else:
            members.tasks = [task for task in tasks if task.key not in taken]
        if not members.tasks:
            del self.classes[members.profile]


_NO_DEADLINE = 1 << 62
