"""What a plan is made from. The leader keeps one snapshot current: it never copies it, and `solver.plan`
never changes it but for its caches."""

from __future__ import annotations

from coordinator.scheduling.agents import AgentTable
from coordinator.scheduling.feasibility import FeasibilityCache
from coordinator.scheduling.lookahead import Durations, LookAhead
from coordinator.scheduling.measured import Measured
from coordinator.scheduling.waiting import WaitingTable


class Snapshot:
    """Agents, what they measured, waiting tasks, what attempts last, and the bound on queues. `turn` is the
    row at which a policy that takes turns goes on: the leader sets it to `Plan.turn` of the last plan that it
    proposed."""

    def __init__(self, look_ahead: LookAhead | None = None) -> None:
        self.agents = AgentTable()
        self.measured = Measured(self.agents)
        self.waiting = WaitingTable()
        self.durations = Durations()
        self.look_ahead = look_ahead or LookAhead()
        self.feasible = FeasibilityCache()
        self.turn = 0
