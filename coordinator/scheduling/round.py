"""One round's own view of the agents in time: when each can begin another task, given all that it holds and
what the round has given or kept for others."""

from __future__ import annotations

from heapq import heapify, heapreplace
from typing import Final, NamedTuple

import numpy as np

from coordinator.scheduling.agents import BoolRow, FloatRow
from coordinator.scheduling.ledger import Demand, Ledger
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.weights import Weights

_SLOTS_TOLD_APART: Final = 8
"""Attempts per slot up to which slots are told apart; longer queues are taken to be level."""


class Spare(NamedTuple):
    """An attempt that can be preempted, and what it is worth: the seconds by which it is expected to bring its
    task's end forward."""

    key: int
    attempt: int
    worth_s: float


class Round:
    """`wait` is by row the seconds until an agent begins what it is given next; `open` whether it may be
    given anything in this round."""

    def __init__(self, snapshot: Snapshot, now_s: float, spares: dict[int, Spare]) -> None:
        agents = snapshot.agents
        self.snapshot = snapshot
        self.now_s = now_s
        self.ledger = Ledger(agents, snapshot.look_ahead)
        self.left: FloatRow = snapshot.running.left(now_s)
        self.wait: FloatRow = snapshot.running.waits(now_s)
        self._per_slot: FloatRow = self.ledger.held_s / self.ledger.slots
        self._bases: list[tuple[Weights, FloatRow]] = []
        self._ends: dict[int, list[float]] = {}
        self.open: BoolRow = self.ledger.accepting & (self.ledger.held < self.ledger.credit)
        self._spares = spares
        self.withdrawn: list[tuple[int, int]] = []
        """Spare attempts whose place was given away."""
        for row in spares:
            self._set_aside(row)
        self.free: int = int(self.ledger.slot_free.sum())
        """Agents with a free slot that is kept for nobody."""

    def base(self, weights: Weights) -> FloatRow:
        """By row, what a task costs before it has begun. Kept up to date with what is booked."""
        for known, row in self._bases:
            if known is weights:
                return row
        base: FloatRow = weights.time * self.wait
        for row, spare in self._spares.items():
            base[row] += weights.time * spare.worth_s
        if weights.balance:
            base = base + weights.balance * self._per_slot
        self._bases.append((weights, base))
        return base

    def give(self, row: int, demand: Demand, seconds: float, arrive_s: float) -> float:
        """The agent gets the task now; returns in how many seconds it should have ended."""
        was_free = self.ledger.slot_free.item(row)
        if row in self._spares:
            spare = self._spares.pop(row)
            self.withdrawn.append((spare.key, spare.attempt))
        end = self._occupy(row, seconds, arrive_s)
        self.ledger.book(row, demand, seconds)
        if was_free and not self.ledger.slot_free.item(row):
            self.free -= 1
        return end

    def keep(self, row: int, seconds: float, arrive_s: float) -> float:
        """One of the agent's places is kept for a task that will come; returns as `give`. With its last free
        slot, or behind others, nobody else gets anything there in this round."""
        was_free = self.ledger.slot_free.item(row)
        end = self._occupy(row, seconds, arrive_s)
        self.ledger.keep(row)
        if not self.ledger.slot_free.item(row):
            self.open[row] = False
            self.free -= was_free
        return end

    def _set_aside(self, row: int) -> None:
        """Look at the agent as if it did not hold its spare attempt."""
        ledger = self.ledger
        held = ledger.held.item(row) - 1
        ledger.held[row] = held
        if held < ledger.slots.item(row) and ledger.accepting.item(row):
            ledger.slot_free[row] = self.open[row] = True
            self.wait[row] = 0.0

    def _occupy(self, row: int, seconds: float, arrive_s: float) -> float:
        slots = self.ledger.slots.item(row)
        if slots == 1:
            end = max(self.wait.item(row), arrive_s) + seconds
            wait = end
        else:
            ends = self._ends.get(row) or self._slot_ends(row, slots)
            end = max(ends[0], arrive_s) + seconds
            heapreplace(ends, end)
            wait = ends[0]
        self.wait[row] = wait
        per_slot = self._per_slot.item(row) + seconds / slots
        self._per_slot[row] = per_slot
        for weights, base in self._bases:
            base[row] = weights.time * wait + weights.balance * per_slot
        return end

    def _slot_ends(self, row: int, slots: int) -> list[float]:
        """When each slot of the agent is free."""
        snapshot = self.snapshot
        held = snapshot.agents.held_attempts[row]
        if len(held) > _SLOTS_TOLD_APART * slots:
            ends = [self.wait.item(row)] * slots
        else:
            live = [one for attempt in held if (one := snapshot.running.get(*attempt)) is not None]
            ends = [0.0] * slots
            for one in sorted(live, key=lambda one: one.began_s is None):
                heapreplace(ends, ends[0] + self.left.item(one.place))
            heapify(ends)
        self._ends[row] = ends
        return ends

