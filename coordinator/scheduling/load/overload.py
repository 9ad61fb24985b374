"""Who is overloaded, and says so: loads as they come in, judged once per interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from coordinator.core.model import AgentLoad
from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.load.measured import Measured
from coordinator.scheduling.load.score import Loads, following, score
from coordinator.scheduling.load.settings import LoadSettings
from coordinator.scheduling.load.thresholds import Thresholds


class LoadView(NamedTuple):
    """How loaded an agent is, from 0 to 1, and the shares of its network and GPU. `overloaded`: it takes
    nothing new."""

    load: float = 0.0
    overloaded: bool = False
    network: float = 0.0
    gpu: float = 0.0


class Overload:
    """Over the agents of a table. An agent's load here is the higher of its LoadScore, without the terms that
    depend on a task, and its memory: what lacks CPU or bandwidth is slow, what lacks memory is killed."""

    def __init__(self, agents: AgentTable, measured: Measured, settings: LoadSettings) -> None:
        self._agents = agents
        self._measured = measured
        self._weights = settings.machine
        self._thresholds = Thresholds(settings)
        self._now = self._weights
        """The weights in the state of the system that was judged last."""
        self._told: FloatRow = np.zeros(0)
        """What `refusing` said of loads and threshold after the last judgement, in hundredths, per row."""

    def record(self, agent_id: str, load: AgentLoad) -> None:
        """A report; it counts with the next judgement."""
        self._measured.record(agent_id, load)

    def forget(self, agent_id: str) -> None:
        """The agent is about to leave the table, or has left its work."""
        row = self._agents.rows.get(agent_id)
        if row is not None:
            self._thresholds.forget(row)
        self._measured.forget(agent_id)

    def judge(self) -> list[str]:
        """Mark and unmark; returns the agents of which `refusing` says something else than before."""
        loads = self._measured.loads()
        judged = self._agents.present[: self._agents.size] & self._measured.reported
        self._now = following(self._weights, loads, judged)
        scores = self._judged(loads)
        verdict = self._thresholds.update(scores, judged)
        tells = np.where(verdict.marks, np.rint(100 * scores) + 1_000 * round(100 * self._thresholds.high), 0)
        before, self._told = self._told, tells
        touched = verdict.marks.copy()
        touched[: len(before)] &= tells[: len(before)] != before
        touched[verdict.changed] = True
        return [self._agents.agent_id(row) for row in np.flatnonzero(touched).tolist()]

    def refusing(self, agent_id: str) -> str:
        """Why the agent takes nothing new, "" if it is not overloaded."""
        view = self.view(agent_id)
        if not view.overloaded:
            return ""
        high, low = self._thresholds.high, self._thresholds.low
        return f"overloaded: load {view.load:.2f} of {high:.2f}, until it is below {low:.2f}"

    def view(self, agent_id: str) -> LoadView:
        """What is known of the agent."""
        loads = self._measured.of(agent_id)
        if loads is None:
            return LoadView()
        return LoadView(
            load=self._judged(loads).item(),
            overloaded=self._thresholds.marked(self._agents.rows[agent_id]),
            network=loads.network.item(),
            gpu=loads.gpu.item(),
        )

    def views(self) -> FloatRow:
        """By row, the `load` of `view`."""
        measured = self._measured
        return np.where(measured.reported, self._judged(measured.loads()), 0.0)

    def _judged(self, loads: Loads) -> FloatRow:
        higher: FloatRow = np.maximum(score(self._now, loads), loads.memory)
        return higher
