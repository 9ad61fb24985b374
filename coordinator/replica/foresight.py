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


def expected_loads(bank: Bank) -> ExpectedLoads:
    """Of all agents of which the bank has a forecast that has proved better."""
    agents = tuple(dict.fromkeys(agent for agent, _ in bank.rows if agent))
    leads_s, cpu = bank.proved(_HORIZON, [(agent, CPU) for agent in agents])
    _, memory = bank.proved(_HORIZON, [(agent, MEMORY) for agent in agents])
    some = np.flatnonzero(~(np.isnan(cpu) & np.isnan(memory)).all(axis=0))
    if not len(some):
        return NOTHING_EXPECTED
    return ExpectedLoads(leads_s, tuple(agents[at] for at in some.tolist()), cpu[:, some], memory[:, some])
