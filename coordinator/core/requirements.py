"""What a task needs of the agent that gets it, and what it takes there."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import msgspec


class Resources(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a task takes while an agent holds it, or an agent has in all."""

    milli_cores: int = 0
    memory_bytes: int = 0
    gpu_memory_bytes: int = 0
    disk_bytes: int = 0
    bandwidth_bps: int = 0


NO_RESOURCES: Final = Resources()


class FamilyNeeds(msgspec.Struct, frozen=True, array_like=True):
    """Requirements by task family, B1; empty or zero means no need."""

    model: str = ""
    model_version: str = ""
    batchable: bool = False
    tool: str = ""
    permissions: tuple[str, ...] = ()
    environment: str = ""
    data_location: str = ""
    max_latency_ms: int = 0
    protocol: str = ""


class Requirements(msgspec.Struct, frozen=True, array_like=True, cache_hash=True):
    """Hard constraints on the agent. `capabilities` are (name, least level) pairs, `labels` (name, value)
    pairs, both sorted."""

    resources: Resources = Resources()
    capabilities: tuple[tuple[str, int], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    anti_affinity: tuple[str, ...] = ()
    needs: FamilyNeeds = FamilyNeeds()


class Taken(Resources, frozen=True, array_like=True, gc=False):
    """What an attempt takes of its agent: resources, and a place of its tool and of its model, "" if it uses
    none."""

    tool: str = ""
    model: str = ""

    @property
    def resources(self) -> Resources:
        """Without the rest."""
        return Resources(*(getattr(self, name) for name in Resources.__struct_fields__))


NOTHING_TAKEN: Final = Taken()


def taken_by(requirements: Requirements) -> Taken:
    """What an attempt of a task with these requirements takes."""
    resources, needs = requirements.resources, requirements.needs
    if resources == NO_RESOURCES and not needs.tool and not needs.model:
        return NOTHING_TAKEN
    return Taken(**msgspec.structs.asdict(resources), tool=needs.tool, model=needs.model)


def has_place(users: dict[str, int], name: str, limits: tuple[tuple[str, int], ...]) -> bool:
    """Whether one more may use what has this name, given how many do; `limits` are sorted."""
    at = bisect_left(limits, (name, 0))
    return at == len(limits) or limits[at][0] != name or users.get(name, 0) < limits[at][1]
