"""`python -m bench.crowd`: many agents that come at once, and come back at once when the leader is killed.

Two programs hold all agents, so that on a small machine these need most of it. They give way to the nodes, as
agents on machines of their own would.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from agent_sdk import Client
from agent_sdk.errors import QuorumflowError
from bench.figures import Figure, Kind, figure
from bench.fleet import Crew
from bench.options import Finite, json_option
from bench.results import Report, add, begin, write
from bench.running import workplace
from bench.stage import Stage
from bench.usage import FOLLOWER, LEADER

_PROGRAMS: Final = 2
_IDLE_S: Final = 5.0
"""For so long nothing happens, and what that costs is measured."""
_POLL_S: Final = 1.0
"""To be looked at costs a leader that has thousands of agents to take up."""
_GIVE_WAY: Final = ("sh", "-c", 'echo 10 > /proc/self/autogroup 2>/dev/null; exec nice -n 10 "$@"', "sh")
"""Programs of different sessions share Linux's cores by group, where it has groups, and by niceness else."""

_JOIN: Final = Kind("join", "until the last of them is up", "s")
_IDLE_LEADER: Final = Kind("idle_leader", "the leader's CPU while nothing happens", "% of a core")
_IDLE_FOLLOWER: Final = Kind("idle_follower", "a follower's", "% of a core")
_BACK_P50: Final = Kind("back_p50", "leader killed -> half of them are back", "s")
_BACK: Final = Kind("back", "leader killed -> all of them are back", "s")
_LOST: Final = Kind("lost", "taken for lost meanwhile", "agents")
_TERMS: Final = Kind("terms", "changes of leader, one of them asked for", "changes")


@click.command()
@click.option("--agents", type=click.IntRange(2, 10_000), default=1_000, show_default=True)
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--patience", type=Finite(1), default=120.0, help="Seconds for all to be back.")
@json_option("crowd")
def main(agents: int, runs: int, patience: float, file: Path) -> None:
    """Let agents come at once to three nodes as shipped, and kill the leader."""
    if agents % _PROGRAMS:
        raise click.BadParameter(f"{_PROGRAMS} programs share them evenly: take an even number")
    report = begin({"agents": agents})
    found: dict[Kind, list[float]] = {}
    try:
        for _ in range(runs):
            with workplace() as folder, Stage(folder, None) as stage:
                for kind, value in _run(stage, agents, patience).items():
                    found.setdefault(kind, []).append(value)
        report.complete = True
    finally:
        _tell(report, found, file)


def _tell(report: Report, found: dict[Kind, list[float]], file: Path) -> None:
    figures: dict[Kind, Figure] = {kind: figure(values, kind.unit, []) for kind, values in found.items()}
    if figures:
        add(report, figures, "agent")
    write(report, file)


def _run(stage: Stage, agents: int, patience_s: float) -> dict[Kind, float]:
    """One cluster; raises TimeoutError if the agents do not come, or do not come back."""
    began_ms = time.time_ns() / 1e6
    stage.join(Crew(_PROGRAMS, agents // _PROGRAMS, slots=1), prefix=_GIVE_WAY)
    found = {_JOIN: (_since_ms(stage.client)[-1] - began_ms) / 1e3}
    meter = stage.meter()
    time.sleep(_IDLE_S)
    idle_s = meter.read(1).cpu_us
    found[_IDLE_LEADER] = idle_s[LEADER] / 1e6 / _IDLE_S * 100
    found[_IDLE_FOLLOWER] = idle_s[FOLLOWER] / 1e6 / _IDLE_S * 100
    term = stage.client.cluster_status().term
    killed_ms = time.time_ns() / 1e6
    stage.cluster.kill_node(stage.cluster.leader())
    fewest, since_ms = _all_back(stage.client, agents, killed_ms, patience_s)
    found[_LOST] = float(agents - fewest)
    found[_BACK_P50] = (since_ms[len(since_ms) // 2] - killed_ms) / 1e3
    found[_BACK] = (since_ms[-1] - killed_ms) / 1e3
    found[_TERMS] = float(stage.client.cluster_status().term - term)
    return found


def _since_ms(client: Client) -> list[float]:
    """When the present session of each agent began, in order."""
    return sorted(agent.since_ms for agent in client.agents())


def _all_back(client: Client, agents: int, killed_ms: float, patience_s: float) -> tuple[int, list[float]]:
    """Wait until all have a session that began after a moment: how many were connected at the least until
    then, and when those sessions began."""
    began, fewest = time.monotonic(), agents
    while time.monotonic() - began < patience_s:
        time.sleep(_POLL_S)
        try:
            connected = client.cluster_status().agents
            fewest = min(fewest, connected)
            # To list them takes the leader longer than to count them.
            since_ms = _since_ms(client) if connected == agents else []
        except QuorumflowError:
            # Nobody leads at the moment.
            continue
        if since_ms and since_ms[0] > killed_ms:
            return fewest, since_ms
    raise TimeoutError(f"not all of {agents} agents are back {patience_s} s after the leader was killed")


if __name__ == "__main__":
    main()
