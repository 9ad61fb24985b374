"""A round's own copy of what is free: the plan's choices are booked here, the snapshot stays as it is."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import TaskProfile
from coordinator.scheduling.agents.lookahead import LookAhead, may_queue
from coordinator.scheduling.agents.rows import BoolRow, FloatRow, IntRow
from coordinator.scheduling.agents.table import AgentTable, Use, resource_vector, uses_of

KINDS_KEPT: Final = 10_000
"""Profiles whose demand is remembered."""


GROUP: Final = "anti_affinity"
"""The kind of a use that is an anti-affinity group, of which every agent takes one task at once."""


class Demand:
    """What one task of a profile takes, made ready for booking: its resources as the bytes of a row of `free`
    and, of those that it needs, as (column, amount); its anti-affinity groups, and the tool and model that it
    uses."""

    __slots__ = ("amounts", "groups", "packed", "uses")

    def __init__(self, profile: TaskProfile) -> None:
        vector = resource_vector(profile.requirements.resources)
        amounts: list[int] = vector.tolist()
        self.packed = vector.tobytes()
        self.amounts = tuple((column, amount) for column, amount in enumerate(amounts) if amount)
        self.groups: tuple[Use, ...] = tuple((GROUP, name) for name in profile.requirements.anti_affinity)
        self.uses = uses_of(profile)


@lru_cache(maxsize=KINDS_KEPT)
def demand_of(profile: TaskProfile) -> Demand:
    """What one task of the profile takes."""
    return Demand(profile)


class Ledger:
    """Arrays over rows, as in `AgentTable`. `booked` counts what was booked in this round, per row and, as
    `bookings`, in all."""

    def __init__(self, agents: AgentTable, look_ahead: LookAhead) -> None:
        standing = agents.standing()
        self.agents = agents
        self.look_ahead = look_ahead
        self.accepting: BoolRow = standing.accepting
        self.slots: IntRow = standing.slots
        self.credit: IntRow = standing.credit
        self.held: IntRow = standing.held.copy()
        self.held_s: FloatRow = standing.held_s.copy()
        self.free: IntRow = standing.free.copy()
        self.bookings = 0
        self.open: BoolRow = standing.open.copy()
        """Rows of agents that would take one more attempt, if only into their queue."""
        self.slot_free: BoolRow = standing.slot_free.copy()
        """Rows of agents that would start one more attempt at once."""
        self._places: dict[Use, IntRow] = {}

    @cached_property
    def booked(self) -> IntRow:
        """Per row."""
        return np.zeros(len(self.held), np.int64)

    @cached_property
    def load(self) -> FloatRow:
        """As in `AgentTable`."""
        return self.agents.load[: self.agents.size]

    @cached_property
    def latency_ms(self) -> FloatRow:
        """As in `AgentTable`."""
        return self.agents.latency_ms[: self.agents.size]

    def free_slots(self) -> int:
        """Attempts that all agents together would start at once."""
        return int(np.maximum(np.minimum(self.slots, self.credit) - self.held, 0)[self.slot_free].sum())

    def bounded(self, demand: Demand) -> tuple[Use, ...]:
        """What such a task uses, as far as any agent bounds it."""
        if not demand.uses:
            return demand.groups
        return demand.groups + self.agents.bounded(demand.uses)

    def places(self, use: Use) -> IntRow:
        """Per row, how many more tasks of this tool, model or group the agent takes at once."""
        column = self._places.get(use)
        if column is None:
            size, agents = self.agents.size, self.agents
            if use[0] == GROUP:
                column = 1 - agents.groups(use[1])[:size]
            else:
                column = agents.limits(use)[:size] - agents.users(use)[:size]
            self._places[use] = column
        return column

    def room(self, task_s: float) -> BoolRow:
        """Rows of agents with a free slot or, for a task of `task_s` expected seconds, room in their
        queue."""
        queue = may_queue(self.held, self.slots, self.held_s, task_s, self.look_ahead)
        room: BoolRow = (self.held < self.credit) & ((self.held < self.slots) | queue)
        return room

    def room_at(self, row: int, task_s: float) -> bool:
        """`room` of one agent."""
        held, slots = self.held.item(row), self.slots.item(row)
        return held < self.credit.item(row) and (
            held < slots or bool(may_queue(held, slots, self.held_s.item(row), task_s, self.look_ahead))
        )

    def queue_free(self, task_s: float) -> BoolRow:
        """Rows of agents that would queue one more attempt of `task_s` expected seconds, having no free
        slot."""
        return self.accepting & (self.held >= self.slots) & self.room(task_s)

    def admits(self, row: int, demand: Demand, task_s: float) -> bool:
        """Whether this agent, which could take such tasks before, still can after what was booked."""
        return self.room_at(row, task_s) and self.fits(row, demand)

    def fits(self, row: int, demand: Demand) -> bool:
        """Whether what such a task takes is there beside what was booked."""
        for column, amount in demand.amounts:
            if amount > self.free.item(row, column):
                return False
        return all(self.places(use)[row] > 0 for use in self.bounded(demand))

    def book(self, row: int, demand: Demand, task_s: float) -> None:
        """The agent takes one such task, which lasts `task_s` expected seconds."""
        held = self.held.item(row) + 1
        self.held[row] = held
        self.held_s[row] += task_s
        self.booked[row] += 1
        self.bookings += 1
        if held >= self.slots.item(row) or held >= self.credit.item(row):
            self.slot_free[row] = False
        self.take(row, demand)

    def take(self, row: int, demand: Demand) -> None:
        """What one such task takes beside a slot."""
        for column, amount in demand.amounts:
            self.free[row, column] -= amount
        for use in self.bounded(demand):
            self.places(use)[row] -= 1

    def take_each(self, rows: NDArray[np.intp], demand: Demand, times: NDArray[np.int64] | int = 1) -> None:
        """`take` on each of these rows, so many times."""
        for column, amount in demand.amounts:
            self.free[rows, column] -= amount * times
        for use in self.bounded(demand):
            self.places(use)[rows] -= times
