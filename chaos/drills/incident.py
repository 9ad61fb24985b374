"""What is known of one fault: when it struck, whom, and how long the cluster was without what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from chaos.plan import Limit, Measure

_NAMED = 2
"""So many agents and more are counted, not named."""


@dataclass(frozen=True, kw_only=True)
class Incident:
    """Moments in Unix ms, durations in ms from `at_ms`; None is what did not come about, or was not looked
    for. `recovered_ms` is how long after it was healed all whom it hit had caught up."""

    fault: str
    note: str
    nodes: tuple[str, ...]
    agents: tuple[str, ...]
    hit_leader: bool
    majority: bool
    leader_before: str
    leader_after: str
    at_ms: int
    healed_ms: int
    acknowledged_ms: int | None
    assigned_ms: int | None
    begun_ms: int | None
    pause_ms: int | None
    recovered_ms: int | None
    problem: str = ""
    """What went wrong with the fault itself, or did not come about in time."""

    def measured(self, measure: Measure) -> int | None:
        """One of its durations, by its name in plans."""
        value: int | None = getattr(self, f"{measure}_ms")
        return value

    @property
    def victims(self) -> str:
        """Whom it hit, in words."""
        agents = self.agents if len(self.agents) < _NAMED else (f"{len(self.agents)} agents",)
        return ", ".join((*self.nodes, *agents)) or "-"


def durations(incidents: Sequence[Incident], limit: Limit) -> list[int]:
    """What a limit is about: the durations of those incidents that it concerns. One that took the majority
    away concerns none."""
    return [
        value
        for one in incidents
        if one.majority and (limit.of == "all" or one.hit_leader)
        if (value := one.measured(limit.measure)) is not None
    ]


def summary(values: Sequence[int]) -> tuple[float, int] | None:
    """Median and worst; None of nothing."""
    return (median(values), max(values)) if values else None
