"""How agents stand before a round has given them anything, by row: what every round begins with.

It is kept from one round to the next, and only agents that have changed are looked at again: between two
decisions on single tasks these are few."""

from __future__ import annotations

from typing import Final

import numpy as np

from coordinator.scheduling.agents.rows import AgentRows, BoolRow, FloatRow

BALANCES_KEPT: Final = 8
"""Weights of balance of which `work_s` is remembered; beyond them all are forgotten."""

_FEW: Final = 8
"""Agents that are looked at one by one in less time than all of the table."""


class Standing:
    """As of the last `renew`: `full` are agents that hold as many attempts as they have slots, `open` those
    that would take one more, if only into their queue, and `slot_free` those that would start it at once;
    `many_full`, `many_open` and `many_free` count them. `accepting`, `slots`, `credit`, `held`, `held_s`
    and `free` are those of the agents, over the rows in use. No array is to be written to."""

    def __init__(self, agents: AgentRows) -> None:
        self._agents = agents
        self._changed: dict[int, None] = {}
        self._work_s: dict[float, FloatRow] = {}
        self._look_at_all()

    def changed(self, row: int) -> None:
        """What the agent is, accepts or holds may be something else than before."""
        self._changed[row] = None

    def renew(self) -> Standing:
        """As the agents are now; returns itself."""
        if len(self._changed) > _FEW or len(self.full) != self._agents.size:
            self._look_at_all()
        else:
            for row in self._changed:
                self._look_at(row)
        self._changed.clear()
        return self

    def work_s(self, balance: float) -> FloatRow:
        """`balance` times the seconds of work per slot that an agent holds, infinite where it takes nothing
        new."""
        found = self._work_s.get(balance)
        if found is None:
            if len(self._work_s) >= BALANCES_KEPT:
                self._work_s.clear()
            work_s = balance * self.held_s / self.slots
            found = self._work_s[balance] = np.where(self.accepting, work_s, np.inf)
        return found

    def _look_at_all(self) -> None:
        agents = self._agents
        size = agents.size
        self.accepting, self.slots, self.credit = (
            agents.accepting[:size],
            agents.slots[:size],
            agents.credit[:size],
        )
        self.held, self.held_s, self.free = agents.held[:size], agents.held_s[:size], agents.free[:size]
        self.full: BoolRow = self.held >= self.slots
        self.open: BoolRow = self.accepting & (self.held < self.credit)
        self.slot_free: BoolRow = self.open & ~self.full
        self.many_full = int(np.count_nonzero(self.full))
        self.many_open = int(np.count_nonzero(self.open))
        self.many_free = int(np.count_nonzero(self.slot_free))
        self._work_s.clear()

    def _look_at(self, row: int) -> None:
        held, slots, accepting = self.held.item(row), self.slots.item(row), self.accepting.item(row)
        full = held >= slots
        is_open = accepting and held < self.credit.item(row)
        slot_free = is_open and not full
        self.many_full += full - self.full.item(row)
        self.many_open += is_open - self.open.item(row)
        self.many_free += slot_free - self.slot_free.item(row)
        self.full[row], self.open[row], self.slot_free[row] = full, is_open, slot_free
        for balance, work_s in self._work_s.items():
            work_s[row] = balance * self.held_s.item(row) / slots if accepting else np.inf
