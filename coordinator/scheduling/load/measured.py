"""What the agents of a table have measured, and what is expected of them, by row."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from coordinator.core.model import AgentLoad, AgentSpec
from coordinator.scheduling.agents.rows import BoolRow, FloatRow
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.load.score import Loads, believed

LEAST_BANDWIDTH_BPS: Final = 12_500_000
"""100 Mbit/s: an agent that declares no bandwidth is taken to have at least that, or the most that it has
shown."""

_FIRST_ROWS: Final = 64


class ExpectedLoads(NamedTuple):
    """Forecasts of `cpu` and `memory` of some agents, an array of distances x agents each, at `leads_s`
    seconds from now, ascending. NaN stands for none that has proved better than that nothing changes."""

    leads_s: tuple[float, ...]
    agents: tuple[str, ...]
    cpu: FloatRow
    memory: FloatRow


NOTHING_EXPECTED: Final = ExpectedLoads((), (), np.zeros((0, 0)), np.zeros((0, 0)))


class Measured:
    """The latest report of each agent as shares of what it has. `reported` is False for rows whose agent has
    not reported anything: they count as idle. Whoever removes an agent from the table has it forgotten here
    first. `version` changes with anything that is known here."""

    def __init__(self, agents: AgentTable) -> None:
        self._agents = agents
        self._shares: FloatRow = np.zeros((len(Loads._fields), _FIRST_ROWS))
        self._reported: BoolRow = np.zeros(_FIRST_ROWS, np.bool_)
        self._most_bps: dict[int, float] = {}
        """The highest rate of those that declare no bandwidth, by row."""
        self.version = 0
        self.leads_s: tuple[float, ...] = ()
        """The distances at which something is expected."""
        self._expected: FloatRow = np.zeros((2, 0, _FIRST_ROWS))

    @property
    def reported(self) -> BoolRow:
        """Over the rows of the table."""
        self._fit()
        return self._reported[: self._agents.size]

    def loads(self) -> Loads:
        """Over the rows of the table. The arrays are views: do not write to them."""
        self._fit()
        return Loads(*self._shares[:, : self._agents.size])

    def loads_at(self, ahead: int) -> Loads:
        """The same, with the CPU and memory that are expected at one of `leads_s` where they are."""
        loads = self.loads()
        cpu, memory = self._expected[:, ahead, : self._agents.size]
        return loads._replace(
            cpu=np.where(np.isnan(cpu), loads.cpu, cpu),
            memory=np.where(np.isnan(memory), loads.memory, memory),
        )

    def expect(self, expected: ExpectedLoads) -> None:
        """This is expected from now on, and nothing else. Agents that are not in the table are passed
        over."""
        self._fit()
        self.version += 1
        self.leads_s = expected.leads_s
        self._expected = np.full((2, len(expected.leads_s), len(self._reported)), np.nan)
        at = [at for at, agent_id in enumerate(expected.agents) if agent_id in self._agents.rows]
        rows = [self._agents.rows[expected.agents[one]] for one in at]
        self._expected[0][:, rows] = expected.cpu[:, at]
        self._expected[1][:, rows] = expected.memory[:, at]

    def of(self, agent_id: str) -> Loads | None:
        """Of one agent, in arrays of one element; None if it has not reported."""
        row = self._agents.rows.get(agent_id)
        if row is None or not self.reported[row]:
            return None
        return Loads(*self._shares[:, row : row + 1])

    def record(self, agent_id: str, load: AgentLoad) -> None:
        """What the agent measured last; of one that is not in the table, nothing is kept."""
        row = self._agents.rows.get(agent_id)
        spec = self._agents.specs[row] if row is not None else None
        if row is None or spec is None:
            return
        load, _ = believed(load)
        self._fit()
        self.version += 1
        self._reported[row] = True
        self._shares[:, row] = (
            load.cpu,
            load.memory,
            self._network(row, spec, load),
            load.gpu,
            _gpu_memory(spec, load),
            _part(load.queued, spec.credit - spec.slots),
        )

    def forget(self, agent_id: str) -> None:
        """The agent is gone, or is another one now."""
        row = self._agents.rows.get(agent_id)
        if row is not None and row < len(self._reported):
            self.version += 1
            self._reported[row] = False
            self._shares[:, row] = 0.0
            self._expected[:, :, row] = np.nan
            self._most_bps.pop(row, None)

    def _network(self, row: int, spec: AgentSpec, load: AgentLoad) -> float:
        """The busier direction, as a share of the bandwidth; a link that loses packets is as busy as that."""
        rate = float(max(load.net_sent_bps, load.net_received_bps))
        bandwidth = float(spec.resources.bandwidth_bps)
        if bandwidth <= 0:
            bandwidth = max(self._most_bps.get(row, LEAST_BANDWIDTH_BPS), rate)
            self._most_bps[row] = bandwidth
        return max(_part(rate, bandwidth), load.packet_loss)

    def _fit(self) -> None:
        """Have room for every row of the table."""
        while len(self._reported) < self._agents.size:
            self._shares = np.concatenate([self._shares, np.zeros_like(self._shares)], axis=1)
            self._reported = np.concatenate([self._reported, np.zeros_like(self._reported)])
            self._expected = np.concatenate([self._expected, np.full_like(self._expected, np.nan)], axis=2)


def _gpu_memory(spec: AgentSpec, load: AgentLoad) -> float:
    """The share in use; 0 where the agent declares none, or does not say what is free."""
    free, total = load.gpu_memory_free_bytes, spec.resources.gpu_memory_bytes
    return _part(total - free, total) if free > 0 else 0.0


def _part(amount: float, of: float) -> float:
    """A share from 0 to 1; 0 of what is not there."""
    return min(max(amount / of, 0.0), 1.0) if of > 0 else 0.0
