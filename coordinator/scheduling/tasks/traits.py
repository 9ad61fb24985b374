"""What the profile of tasks says of them to the scheduler, worked out once for all of their classes."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from coordinator.core.kinds import kinds_of
from coordinator.core.model import TaskProfile
from coordinator.scheduling.agents.feasibility import KINDS_KEPT, fixed, needs_of
from coordinator.scheduling.agents.ledger import demand_of
from coordinator.scheduling.tasks.columns import packed

NEVER_MS: Final = 1 << 62


class Traits:
    """`level` and `deadline_ms` order classes, the lower first. `family` is the same for profiles that are of
    one family, `packed` is what `Columns` has of a class."""

    __slots__ = ("deadline_ms", "demand", "family", "fixed", "kinds", "level", "needs", "packed")

    def __init__(self, profile: TaskProfile) -> None:
        self.family = profile.family_name, int(profile.family)
        self.level = -int(profile.priority)
        self.deadline_ms = profile.deadline_ms or NEVER_MS
        self.demand = demand_of(profile)
        self.needs = needs_of(profile)
        self.fixed = fixed(profile)
        self.kinds = kinds_of(profile)
        shares = bool(self.demand.groups or self.demand.uses)
        self.packed = packed(self.level, shares, bool(self.fixed), self.demand.packed)


@lru_cache(maxsize=KINDS_KEPT)
def traits_of(profile: TaskProfile) -> Traits:
    """Those of a profile."""
    return Traits(profile)
