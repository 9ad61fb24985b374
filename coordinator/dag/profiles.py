"""Interning: tasks that are alike to the scheduler share one `TaskProfile`, which is checked once, also where
they come in many DAGs one after the other."""

from __future__ import annotations

from typing import Final

import msgspec

from coordinator.core.model import (
    DagHeader,
    Priority,
    Requirements,
    Resources,
    RetryPolicy,
    TaskFamily,
    TaskProfile,
)
from coordinator.dag.draft import TaskDraft
from coordinator.dag.limits import DagLimits
from coordinator.errors import InvalidRequest
from coordinator.families.family import Family
from coordinator.families.registry import Families

_LARGEST: Final = (1 << 63) - 1
"""Amounts are added up in 64 bits by the scheduler."""


CHECKED_KEPT: Final = 1_024
"""Beyond them all are forgotten and checked again."""

Asked = tuple[object, ...]
"""What tasks ask for that has a profile."""


class Checked:
    """Profiles that were found to be in order, by what was asked for: by the same limits and families. May be
    used by several threads."""

    def __init__(self) -> None:
        self._profiles: dict[Asked, TaskProfile] = {}

    def get(self, asked: Asked) -> TaskProfile | None:
        """The profile, if it was checked lately."""
        return self._profiles.get(asked)

    def add(self, asked: Asked, profile: TaskProfile) -> None:
        """It has been checked."""
        if len(self._profiles) >= CHECKED_KEPT:
            self._profiles = {}
        self._profiles[asked] = profile


class ProfileTable:
    """The profiles of one DAG, in the order in which they were first met; of what others have had `checked`
    nothing is looked at again."""

    def __init__(
        self, header: DagHeader, limits: DagLimits, families: Families, checked: Checked | None = None
    ) -> None:
        self._header = header
        self._limits = limits
        self._families = families
        self._checked = checked or Checked()
        self._positions: dict[TaskProfile, int] = {}
        self._met: dict[Asked, int] = {}

    def position(self, task: TaskDraft) -> int:
        """Where the task's profile stands in `profiles`. Raises InvalidRequest, LimitExceeded,
        PluginFailed."""
        asked = (
            task.type,
            task.family,
            task.requirements,
            task.priority or self._header.priority,
            task.timeout_ms,
            task.retry,
            task.deadline_ms or self._header.deadline_ms,
            task.preemptible,
            task.family_name,
        )
        position = self._met.get(asked)
        if position is None:
            profile = self._checked.get(asked)
            if profile is None:
                profile = self._profile(task)
                self._checked.add(asked, profile)
            position = self._positions.setdefault(profile, len(self._positions))
            self._met[asked] = position
        return position

    @property
    def profiles(self) -> list[TaskProfile]:
        """All of them."""
        return list(self._positions)

    def _profile(self, task: TaskDraft) -> TaskProfile:
        limits = self._limits
        if not task.type or not task.type.isprintable():
            raise _refused(task, f"its type {task.type!r} is empty or has unprintable characters")
        limits.check("max_id_length", len(task.type), "the length of its type", task.id)
        if task.priority not in (0, *Priority):
            raise _refused(
                task, f"its priority is {task.priority}: give 1 (low) to 4 (urgent), or 0 for the DAG's"
            )
        if task.timeout_ms < 0 or task.deadline_ms < 0:
            raise _refused(
                task, f"its timeout of {task.timeout_ms} or deadline of {task.deadline_ms} ms is negative"
            )
        limits.check("max_timeout_ms", task.timeout_ms, "its timeout in ms", task.id)
        family = self._family(task)
        requirements = _checked_requirements(task, limits)
        if complaint := self._families.check(family, requirements):
            raise _refused(task, f"it is of the family {family.name}, and {complaint}")
        return TaskProfile(
            type=task.type,
            family=family.like,
            requirements=requirements,
            priority=Priority(task.priority or self._header.priority),
            timeout_ms=task.timeout_ms or limits.default_timeout_ms,
            retry=family.retry if task.retry is None else _checked_retry(task, task.retry, limits),
            deadline_ms=task.deadline_ms or self._header.deadline_ms,
            preemptible=task.preemptible,
            family_name="" if family.name == family.like.name.lower() else family.name,
        )

    def _family(self, task: TaskDraft) -> Family:
        given = task.family.name.lower()
        family = self._families.named(task.family_name or given)
        if task.family is not TaskFamily.UNSPECIFIED and task.family is not family.like:
            raise _refused(task, f"it is of the family {family.name}, which is not like {given}: name one")
        return family


def _checked_retry(task: TaskDraft, retry: RetryPolicy, limits: DagLimits) -> RetryPolicy:
    if retry.max_attempts < 1:
        raise _refused(
            task, f"it may make {retry.max_attempts} attempts: the first one counts, so give at least 1"
        )
    if retry.delay_ms < 0 or retry.max_delay_ms < 0:
        raise _refused(
            task, f"its retry delays of {retry.delay_ms} and {retry.max_delay_ms} ms must not be negative"
        )
    limits.check("max_attempts", retry.max_attempts, "the number of its attempts", task.id)
    limits.check("max_delay_ms", max(retry.delay_ms, retry.max_delay_ms), "its retry delay in ms", task.id)
    return retry


def _checked_requirements(task: TaskDraft, limits: DagLimits) -> Requirements:
    """The requirements in their normal form: pairs and names sorted, no name twice."""
    wanted = task.requirements
    for field in Resources.__struct_fields__:
        amount = getattr(wanted.resources, field)
        if not 0 <= amount <= _LARGEST:
            raise _refused(task, f"it requires {field} of {amount:,}: give 0 to {_LARGEST:,}")
    for name, level in wanted.capabilities:
        if not name or not 0 <= level <= _LARGEST:
            raise _refused(
                task, f"it requires the capability {name!r} at level {level}: give a name and a level >= 0"
            )
    if wanted.needs.max_latency_ms < 0:
        raise _refused(task, f"it requires a latency of {wanted.needs.max_latency_ms} ms: give 0 or more")
    parts = (wanted.capabilities, wanted.labels, wanted.anti_affinity, wanted.needs.permissions)
    limits.check("max_requirements", sum(map(len, parts)), "the number of its requirements", task.id)
    for pairs in (wanted.capabilities, wanted.labels):
        if len({name for name, _ in pairs}) < len(pairs):
            raise _refused(task, "it requires one capability or label twice")
    return msgspec.structs.replace(
        wanted,
        capabilities=tuple(sorted(wanted.capabilities)),
        labels=tuple(sorted(wanted.labels)),
        anti_affinity=tuple(sorted(set(wanted.anti_affinity))),
        needs=msgspec.structs.replace(wanted.needs, permissions=tuple(sorted(set(wanted.needs.permissions)))),
    )


def _refused(task: TaskDraft, complaint: str) -> InvalidRequest:
    return InvalidRequest(f"task {task.id!r}: {complaint}", task_id=task.id)
