"""Namespaces: what an operator has set for each, and what the work in it takes.

A namespace is there because DAGs name it. One without settings has a weight of 1, no quota, and the policy of
the cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from coordinator.core.requirements import Resources

DEFAULT_NAMESPACE: Final = "default"
"""Of DAGs that name none."""

TAKEN: Final = ("milli_cores", "memory_bytes", "gpu_memory_bytes")
"""Fields of `Resources` that have a quota."""


class Usage(msgspec.Struct, gc=False):
    """What the unfinished DAGs of a namespace are and hold: `tasks` that have not ended, live `attempts`, and
    what these were promised. Follows from the tasks."""

    dags: int = 0
    tasks: int = 0
    attempts: int = 0
    milli_cores: int = 0
    memory_bytes: int = 0
    gpu_memory_bytes: int = 0

    def take(self, needed: Resources, times: int = 1) -> None:
        """Count an attempt; with `times` -1, one less."""
        self.attempts += times
        self.milli_cores += times * needed.milli_cores
        self.memory_bytes += times * needed.memory_bytes
        self.gpu_memory_bytes += times * needed.gpu_memory_bytes


class Quotas(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Bounds on `Usage`; None is none. An attempt is not begun that would break one, and tasks are not taken
    beyond `tasks`. One that is lowered below what is held takes nothing away."""

    attempts: int | None = None
    milli_cores: int | None = None
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    tasks: int | None = None

    def broken_by(self, usage: Usage, needed: Resources) -> str:
        """The quota that one more attempt would break, "" if none."""
        if self.attempts is not None and usage.attempts >= self.attempts:
            return "attempts"
        for name in TAKEN:
            limit: int | None = getattr(self, name)
            if limit is not None:
                amount: int = getattr(needed, name)
                if amount and getattr(usage, name) + amount > limit:
                    return name
        return ""


NO_QUOTAS: Final = Quotas()


class NamespaceRecord(msgspec.Struct, frozen=True, array_like=True):
    """What an operator has set. A namespace with twice the `weight` gets twice the share while both want
    more; `policy` is that of its DAGs that name none, "" the cluster's."""

    name: str
    weight: float = 1.0
    quotas: Quotas = NO_QUOTAS
    policy: str = ""


class Namespaces:
    """`settings` are those that an operator has changed, `usage` that of all that have unfinished DAGs."""

    __slots__ = ("settings", "usage")

    def __init__(self) -> None:
        self.settings: dict[str, NamespaceRecord] = {}
        self.usage: dict[str, Usage] = {}

    def enter(self, namespace: str) -> Usage:
        """One DAG more is in the namespace; its tasks are counted as they come."""
        usage = self.usage.get(namespace)
        if usage is None:
            usage = self.usage[namespace] = Usage()
        usage.dags += 1
        return usage

    def leave(self, namespace: str) -> None:
        """One DAG less is."""
        usage = self.usage[namespace]
        usage.dags -= 1
        if not usage.dags:
            del self.usage[namespace]

    def quotas(self, namespace: str) -> Quotas:
        """Those that are set."""
        found = self.settings.get(namespace)
        return NO_QUOTAS if found is None else found.quotas
