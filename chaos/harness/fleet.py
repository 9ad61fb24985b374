"""The agents of a drill: processes that come and go, each with a file of what it did.

All offer one capability that the drill's tasks require: beside a cluster's own agents, nobody takes the
other's work.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from chaos.effects import Effects, read_effects
from coordinator.cli.agent_spec import AgentSpec
from coordinator.cli.processes import Process, end

CAPABILITY: Final = "drill"

_MODULE: Final = "coordinator"
_KILL_WAIT_S: Final = 10.0


class Fleet:
    """Agents by id. `name` begins their ids, so that two drills on one cluster do not meet."""

    def __init__(self, directory: Path, endpoints: Sequence[str], *, name: str, slots: int) -> None:
        self._directory = directory
        self._endpoints = list(endpoints)
        self.name = name
        self._slots = slots
        self._processes: dict[str, Process] = {}
        self._started = 0
        for folder in ("effects", "logs"):
            (directory / folder).mkdir(parents=True, exist_ok=True)

    @property
    def alive(self) -> list[str]:
        """The ids of those that run."""
        return [agent for agent, process in list(self._processes.items()) if process.alive]

    @property
    def effects(self) -> Effects:
        """What all of them, those that are gone included, have written down."""
        return read_effects(file for file in map(self.effects_file, self._processes) if file.exists())

    def effects_file(self, agent: str) -> Path:
        """Where this agent writes down what it does."""
        return self._directory / "effects" / f"{agent}.jsonl"

    def join(self, count: int) -> list[str]:
        """Start so many new agents; returns their ids at once."""
        agents = [f"{self.name}-{self._started + number}" for number in range(1, count + 1)]
        self._started += count
        for agent in agents:
            self.start(agent)
        return agents

    def start(self, agent: str) -> None:
        """Start this agent, as a new one or again."""
        spec = AgentSpec(id=agent, slots=self._slots, capabilities={CAPABILITY: 1})
        recording = ["--effects", str(self.effects_file(agent)), "--log-level", "warning"]
        arguments = ["agent", "--endpoints", ",".join(self._endpoints), *spec.flags(), *recording]
        self._processes[agent] = Process.start(_MODULE, arguments, self._directory / "logs" / f"{agent}.log")

    def signal(self, agents: Iterable[str], number: signal.Signals) -> None:
        """Send all of them a signal."""
        for agent in agents:
            self._processes[agent].signal(number)

    def kill(self, agents: Sequence[str]) -> None:
        """SIGKILL, and wait until they are gone."""
        self.signal(agents, signal.SIGKILL)
        for agent in agents:
            self._processes[agent].wait(_KILL_WAIT_S)

    def leave(self, agents: Iterable[str], grace_s: float) -> None:
        """Let them give back what they hold and go; killed after `grace_s`."""
        end([self._processes[agent] for agent in agents], grace_s)

    def close(self) -> None:
        """End all of them."""
        end(self._processes.values(), grace_s=5.0)
