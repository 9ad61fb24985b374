"""Reservations: slots of agents that are kept for the work of one namespace, for a while or for good.

What is kept of an agent follows from what it is and from the time, and is the same on every node. A slot that
is kept is one that others may not take the last of: what runs on it already goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from coordinator.core.model import AgentSpec


class ReservationRecord(msgspec.Struct, frozen=True, array_like=True):
    """Of each agent that it covers, so many `slots` are for the `namespace`, None for all of them, from
    `begin_ms` until before `end_ms`, 0 for good. It covers agents that are named in `agents`, and are of the
    `zone`, in the `group` and have the `labels`; where one of these is empty it does not count. `version` is
    the number of its last change, `created` that of its first."""

    id: str
    namespace: str
    slots: int | None = None
    begin_ms: int = 0
    end_ms: int = 0
    agents: tuple[str, ...] = ()
    zone: str = ""
    group: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    version: int = 0
    created: int = 0

    def covers(self, spec: AgentSpec) -> bool:
        """Whether it is of this agent's slots."""
        return (
            (not self.agents or spec.agent_id in self.agents)
            and (not self.zone or spec.zone == self.zone)
            and (not self.group or self.group in spec.groups)
            and all(label in spec.labels for label in self.labels)
        )

    def in_force(self, at_ms: int) -> bool:
        """Whether slots are kept at this time."""
        return self.begin_ms <= at_ms and not self.over(at_ms)

    def over(self, at_ms: int) -> bool:
        """Whether its end has come."""
        return 0 < self.end_ms <= at_ms


def room_of(spec: AgentSpec) -> int:
    """The attempts that the agent runs at once."""
    return max(0, min(max(1, spec.slots), spec.credit))


def kept_of(spec: AgentSpec, reservations: Iterable[ReservationRecord], at_ms: int) -> dict[str, int]:
    """The slots of an agent that are kept at a time, by namespace."""
    kept: dict[str, int] = {}
    for one, slots in keepers_of(spec, reservations, at_ms):
        kept[one.namespace] = kept.get(one.namespace, 0) + slots
    return kept


def keepers_of(
    spec: AgentSpec, reservations: Iterable[ReservationRecord], at_ms: int
) -> Iterator[tuple[ReservationRecord, int]]:
    """The reservations that keep slots of an agent at a time, and how many. Where more are wanted than it
    has, who stands first has the first of them."""
    left = room_of(spec)
    for one in reservations:
        if left and one.in_force(at_ms) and one.covers(spec):
            slots = left if one.slots is None else min(one.slots, left)
            left -= slots
            yield one, slots


def unused(kept: dict[str, int], held: Counter[str]) -> int:
    """How many of the slots that are kept by namespace are not taken by attempts of it, which are `held`."""
    return sum(max(0, slots - held[namespace]) for namespace, slots in kept.items())
