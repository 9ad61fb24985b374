"""From the bank of forecasts to what placement goes by: those of the load of agents on the short horizon that
have proved better than that nothing changes."""

from __future__ import annotations

from typing import Final

import numpy as np

from coordinator.forecast.bank import Bank
from coordinator.scheduling.load.measured import NOTHING_EXPECTED, ExpectedLoads

CPU: Final = "cpu"
MEMORY: Final = "memory"
"""The series of agents that are parts of a LoadScore."""

_HORIZON: Final = "short"


class Foresight:
    """What is expected, renewed one distance at a time: with thousands of agents each takes a millisecond or
    two, and commits go on in between."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._grid = next(grid for grid in bank.grids if grid.horizon.name == _HORIZON)
        leads = self._grid.horizon.leads
        self._leads_s = tuple(float(lead * self._grid.horizon.step_s) for lead in leads)
        self._changes = -1
        self._made = [-1] * len(leads)
        """The step after which each distance was looked at."""
        self._agents: tuple[str, ...] = ()
        self._rows = np.zeros((2, 0), np.int64)
        self._found = np.zeros((2, len(leads), 0))
        self._expected = NOTHING_EXPECTED

    def renew(self) -> ExpectedLoads:
        """Look at the distance that was longest not looked at, if there has been a step since; the very same
        object as before if there has not."""
        if self._bank.changes != self._changes:
            self._lay_out()
        at = min(range(len(self._made)), key=self._made.__getitem__)
        if self._made[at] < self._grid.number:
            self._made[at] = self._grid.number
            for found, rows in zip(self._found, self._rows, strict=True):
                found[at] = self._bank.proved(self._grid, self._grid.horizon.leads[at], rows)
            self._expected = self._told()
        return self._expected

    def renew_all(self) -> ExpectedLoads:
        """Look at every distance now."""
        for _ in self._made[1:]:
            self.renew()
        return self.renew()

    def _lay_out(self) -> None:
        self._changes = self._bank.changes
        self._agents = tuple(dict.fromkeys(agent for agent, _ in self._bank.rows if agent))
        self._rows = np.array(
            [
                [self._bank.rows.get((agent, series), -1) for agent in self._agents]
                for series in (CPU, MEMORY)
            ],
            np.int64,
        )
        self._found = np.full((2, len(self._made), len(self._agents)), np.nan)
        self._made = [-1] * len(self._made)

    def _told(self) -> ExpectedLoads:
        """Of those agents alone of which there is something to tell."""
        some = np.flatnonzero(~np.isnan(self._found).all(axis=(0, 1)))
        if not len(some):
            return NOTHING_EXPECTED
        cpu, memory = self._found[:, :, some]
        return ExpectedLoads(self._leads_s, tuple(self._agents[at] for at in some.tolist()), cpu, memory)
