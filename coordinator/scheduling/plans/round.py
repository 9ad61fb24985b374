"""One round's own view of the agents in time: when each can begin another task, given all that it holds and
what the round has given or kept for others."""

from __future__ import annotations

from heapq import heapreplace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import TaskProfile
from coordinator.scheduling.agents.ledger import Demand, Ledger
from coordinator.scheduling.agents.reserved import Barrier
from coordinator.scheduling.agents.rows import BoolRow, FloatRow, IntRow
from coordinator.scheduling.costs.weights import Weights
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import Owner

_SLOTS_TOLD_APART: Final = 8
"""Attempts per slot up to which slots are told apart; longer queues are taken to be level."""


class Spare(NamedTuple):
    """An attempt that can be preempted, and what it is worth: the seconds by which it is expected to bring
    its task's end forward."""

    key: int
    attempt: int
    worth_s: float


class Round:
    """`wait` is by row the seconds until an agent begins what it is given next, `base` what a task costs
    there before it has begun, `open` whether the agent may be given anything in this round, `free` how many
    agents with a free slot are open."""

    def __init__(self, snapshot: Snapshot, weights: Weights, now_s: float, spares: dict[int, Spare]) -> None:
        self.snapshot = snapshot
        self.now_s = now_s
        self.ledger = ledger = Ledger(snapshot.agents, snapshot.look_ahead)
        self.wait: FloatRow = snapshot.running.waits(now_s)
        self.open: BoolRow = ledger.open
        self.withdrawn: list[tuple[int, int]] = []
        """Spare attempts whose place was given away."""
        self._weights = weights
        self._spares = spares
        standing = snapshot.agents.standing()
        self.free = standing.many_free
        self._ends: dict[int, list[float]] = {}
        self._begun: dict[int, list[float]] = {}
        """By row, when those end that found a free slot there and left another."""
        if spares:
            # What is withdrawn takes up credit until it has stopped.
            ledger.credit = ledger.credit.copy()
        for row in spares:
            self._set_aside(row)
        self.base: FloatRow = weights.time * self.wait
        self.base += standing.work_s(weights.balance)
        for row, spare in spares.items():
            self.base[row] += weights.time * spare.worth_s

    def barrier(self, owner: Owner, profile: TaskProfile, key: int, hint: int) -> Barrier | None:
        """Where tasks like this one may not begin in this round, because slots are kept for others."""
        return self.snapshot.barrier(owner.namespace, profile, key, hint, self.now_s)

    def base_of(self, weights: Weights) -> FloatRow:
        """`base` by other weights than the round's; not the caller's to write to."""
        if weights is self._weights:
            return self.base
        ledger = self.ledger
        base: FloatRow = weights.time * self.wait + weights.balance * ledger.held_s / ledger.slots
        base[~ledger.accepting] = np.inf
        for row, spare in self._spares.items():
            base[row] += weights.time * spare.worth_s
        return base

    def set_free(self, row: int, seconds: float) -> None:
        """The agent does not hold so many seconds of work that it is taken to hold."""
        ledger = self.ledger
        ledger.held_s[row] -= seconds
        self.base[row] -= self._weights.balance * seconds / ledger.slots.item(row)

    def displaced(self) -> FloatRow | None:
        """By row, what it costs that a second attempt would have to go; None where none would."""
        if not self._spares:
            return None
        costs: FloatRow = np.zeros(len(self.wait))
        weights, ledger = self._weights, self.ledger
        for row in self._spares:
            if ledger.accepting.item(row):
                held_s = ledger.held_s.item(row) / ledger.slots.item(row)
                costs[row] = (
                    self.base.item(row) - weights.time * self.wait.item(row) - weights.balance * held_s
                )
        return costs

    def give(self, row: int, demand: Demand, seconds: float, arrive_s: float) -> float:
        """The agent gets the task now; returns in how many seconds it should have ended."""
        self._withdraw(row)
        ledger = self.ledger
        ledger.take(row, demand)
        if self._take_place(row) and ledger.held.item(row) >= ledger.credit.item(row):
            self.open[row] = False
        return self._occupy(row, seconds, arrive_s)

    def booked(self, rows: NDArray[np.intp], seconds: FloatRow) -> None:
        """These agents, of which some may be there several times, have got tasks of so many seconds in free
        slots; resources are taken already."""
        size, there = len(self.wait), np.unique(rows)
        self._hold(there, np.bincount(rows, minlength=size)[there], _summed(rows, seconds, size)[there])

    def give_many(
        self, rows: NDArray[np.intp], counts: NDArray[np.int64], demand: Demand, seconds: FloatRow
    ) -> None:
        """Each of these agents gets so many such tasks, of so many seconds each, in its slots and queue."""
        self.ledger.take_each(rows, demand, counts)
        self._hold(rows, counts, counts * seconds)

    def _hold(self, rows: NDArray[np.intp], counts: IntRow, seconds: FloatRow) -> None:
        """Count what these rows, each of them there once, hold more."""
        for row in rows.tolist() if self._spares else ():
            self._withdraw(row)
        ledger = self.ledger
        held = ledger.held[rows] + counts
        ledger.held[rows] = held
        slots = ledger.slots[rows]
        full = rows[(held >= np.minimum(slots, ledger.credit[rows])) & ledger.slot_free[rows]]
        ledger.slot_free[full] = False
        self.open[rows[held >= ledger.credit[rows]]] = False
        self.free -= len(full)
        held_s = ledger.held_s[rows] + seconds
        ledger.held_s[rows] = held_s
        self.wait[rows] = wait = np.where(held < slots, 0.0, held_s / slots)
        self.base[rows] = self._weights.time * wait + self._weights.balance * held_s / slots

    def keep(self, row: int, seconds: float, arrive_s: float) -> float:
        """One of the agent's places is kept for a task that will come; returns as `give`. With its last free
        slot, or behind others, nobody else gets anything there in this round."""
        if self._take_place(row):
            self.open[row] = False
        return self._occupy(row, seconds, arrive_s)

    def _take_place(self, row: int) -> bool:
        """Count one attempt more; returns whether no slot is free now."""
        ledger = self.ledger
        held = ledger.held.item(row) + 1
        ledger.held[row] = held
        full = held >= ledger.slots.item(row) or held >= ledger.credit.item(row)
        if full and ledger.slot_free.item(row):
            ledger.slot_free[row] = False
            self.free -= 1
        return full

    def _withdraw(self, row: int) -> None:
        spare = self._spares.pop(row, None)
        if spare is not None:
            self.withdrawn.append((spare.key, spare.attempt))

    def _set_aside(self, row: int) -> None:
        """Look at the agent as if it did not hold its spare attempt."""
        ledger = self.ledger
        held = ledger.held.item(row) - 1
        ledger.held[row] = held
        ledger.credit[row] -= 1
        if held < ledger.slots.item(row) and ledger.accepting.item(row):
            self.free += not ledger.slot_free.item(row)
            ledger.slot_free[row] = self.open[row] = True
            self.wait[row] = 0.0

    def _occupy(self, row: int, seconds: float, arrive_s: float) -> float:
        slots = self.ledger.slots.item(row)
        if slots == 1:
            wait = end = max(self.wait.item(row), arrive_s) + seconds
        elif self.ledger.held.item(row) < slots:
            wait, end = 0.0, arrive_s + seconds
            self._begun.setdefault(row, []).append(end)
        else:
            ends = self._ends.get(row)
            if ends is None:
                ends = self._ends[row] = self.slot_ends(row, slots)
            end = max(ends[0], arrive_s) + seconds
            heapreplace(ends, end)
            wait = ends[0]
        self.wait[row] = wait
        held_s = self.ledger.held_s.item(row) + seconds
        self.ledger.held_s[row] = held_s
        self.base[row] = self._weights.time * wait + self._weights.balance * held_s / slots
        return end

    def slot_ends(self, row: int, slots: int) -> list[float]:
        """When each slot of the agent is free, as a heap."""
        running = self.snapshot.running
        held = self.snapshot.agents.held_attempts[row]
        if len(held) > _SLOTS_TOLD_APART * slots:
            return [self.wait.item(row)] * slots
        live = [one for attempt in held if (one := running.get(*attempt)) is not None]
        ends = [0.0] * slots
        for one in sorted(live, key=lambda one: one.began_s is None):
            heapreplace(ends, ends[0] + running.left_of(one, self.now_s))
        for end in self._begun.pop(row, ()):
            heapreplace(ends, end)
        return ends


def _summed(rows: NDArray[np.intp], values: FloatRow, size: int) -> FloatRow:
    """The values of each row together, over `size` rows."""
    sums: FloatRow = np.zeros(size)
    np.add.at(sums, rows, values)
    return sums
