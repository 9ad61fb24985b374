"""Agents for the benchmarks, one or many in a process: `python -m bench.fleet` is such a process.

Each is an `agent_sdk.Agent` as it is shipped, with a session and a connection of its own.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from agent_sdk import Agent, Client
from coordinator.cli.processes import Process, end

_MODULE: Final = "bench.fleet"
_SERVING: Final = frozenset({"IDLE", "RUNNING"})
_START_TIMEOUT_S: Final = 120.0
_KILL_WAIT_S: Final = 10.0
_GRACE_S: Final = 5.0
_POLL_S: Final = 0.05


class Crew(NamedTuple):
    """So many processes of so many agents, each with so many slots. `queue` is what an agent takes beyond
    its slots: as shipped if None, and with 0 it has strictly one task per slot."""

    processes: int = 2
    agents: int = 1
    slots: int = 4
    queue: int | None = None


class Fleet:
    """The processes of a crew, by name; a process's agents are NAME-1, NAME-2, ..."""

    def __init__(
        self, directory: Path, endpoints: Sequence[str], crew: Crew, prefix: Sequence[str] = ()
    ) -> None:
        """Start them, with `prefix` as `Process.start` takes it; returns when every agent is registered.
        Raises TimeoutError."""
        self._directory = directory
        self._endpoints = list(endpoints)
        self._crew = crew
        self._prefix = prefix
        self._processes: dict[str, Process] = {}
        directory.mkdir(parents=True, exist_ok=True)
        try:
            for number in range(1, crew.processes + 1):
                self._start(f"bench-{number}")
            self.wait_until_registered()
        except BaseException:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Of all processes."""
        return [process.identity.pid for process in self._processes.values()]

    def kill(self, agent_id: str) -> None:
        """SIGKILL the process of this agent, and wait until it is gone."""
        process = self._processes[_process_of(agent_id)]
        process.signal(signal.SIGKILL)
        process.wait(_KILL_WAIT_S)

    def restart(self, agent_id: str) -> None:
        """Start the process of this agent, which has ended, again; returns when all agents are registered."""
        self._start(_process_of(agent_id))
        self.wait_until_registered()

    def wait_until_registered(self) -> None:
        """Wait until the leader can give every agent something to do. Raises TimeoutError."""
        wanted = self._crew.processes * self._crew.agents
        deadline = time.monotonic() + _START_TIMEOUT_S
        with Client(self._endpoints) as client:
            while (there := sum(agent.state in _SERVING for agent in client.agents())) < wanted:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"{there} of {wanted} agents are registered after {_START_TIMEOUT_S} s: see the logs "
                        f"in {self._directory}"
                    )
                time.sleep(_POLL_S)

    def close(self) -> None:
        """End all of them."""
        end(self._processes.values(), _GRACE_S)

    def _start(self, name: str) -> None:
        crew = self._crew
        arguments = ["--endpoints", ",".join(self._endpoints), "--name", name]
        arguments += ["--agents", str(crew.agents), "--slots", str(crew.slots)]
        arguments += [] if crew.queue is None else ["--queue", str(crew.queue)]
        self._processes[name] = Process.start(
            _MODULE, arguments, self._directory / f"{name}.log", prefix=self._prefix
        )


def _process_of(agent_id: str) -> str:
    return agent_id.rpartition("-")[0]


@click.command()
@click.option("--endpoints", required=True)
@click.option("--name", required=True, help="Begins the ids of the agents.")
@click.option("--agents", type=click.IntRange(1, 10_000), default=1)
@click.option("--slots", type=click.IntRange(1, 10_000), default=4)
@click.option("--queue", type=click.IntRange(0, 10_000), help="Beyond the slots; as shipped unless given.")
def main(endpoints: str, name: str, agents: int, slots: int, queue: int | None) -> None:
    """Run agents with the built-in handlers in one process, until SIGTERM."""
    waiting: dict[str, Any] = {} if queue is None else {"queue": queue}
    crew = [Agent(endpoints, f"{name}-{number}", slots=slots, **waiting) for number in range(1, agents + 1)]
    for agent in crew:
        agent.add_builtins()
    asyncio.run(_serve(crew))


async def _serve(crew: list[Agent]) -> None:
    loop = asyncio.get_running_loop()
    leaving: list[asyncio.Task[None]] = []

    def leave() -> None:
        leaving.extend(loop.create_task(agent.stop(0.0)) for agent in crew)

    loop.add_signal_handler(signal.SIGTERM, leave)
    await asyncio.gather(*(agent.run_async() for agent in crew))
    await asyncio.gather(*leaving)


if __name__ == "__main__":
    main()
