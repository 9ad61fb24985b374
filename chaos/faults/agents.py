"""Agents that die, freeze, come and go."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from chaos.faults.base import WAIT_S, Count, Fault, Seconds, Site, Wound, now_ms
from coordinator.errors import Unavailable

_POLL_S = 0.0005


class KillAgents(Fault, tag="kill-agents", frozen=True, kw_only=True):
    """SIGKILL to some agents; healed by starting them again."""

    count: Count = 1

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        agents = _some(site, self.count)
        at_ms = now_ms()
        site.fleet.kill(agents)
        return Wound(at_ms=at_ms, agents=agents, heal=lambda: _start(site, agents))


class FreezeAgents(Fault, tag="freeze-agents", frozen=True, kw_only=True):
    """SIGSTOP to some agents, whose late results must be refused; healed by SIGCONT."""

    count: Count = 1

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        agents = _some(site, self.count)
        at_ms = now_ms()
        site.fleet.signal(agents, signal.SIGSTOP)
        return Wound(at_ms=at_ms, agents=agents, heal=lambda: site.fleet.signal(agents, signal.SIGCONT))


class KillAtResult(Fault, tag="kill-at-result", frozen=True, kw_only=True):
    """SIGKILL to an agent within a millisecond of its having done a task: its result is about to be sent, on
    its way, or recorded and not yet acknowledged."""

    hold_s: tuple[Seconds, Seconds] = (0.0, 0.0)

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        (agent,) = _some(site, 1)
        _await_an_end(site.fleet.effects_file(agent))
        at_ms = now_ms()
        site.fleet.kill([agent])
        return Wound(at_ms=at_ms, agents=(agent,), heal=lambda: _start(site, (agent,)))


class Churn(Fault, tag="churn", frozen=True, kw_only=True):
    """So many agents join at once; healed by their leaving, every other one without a word."""

    count: Count = 8
    hold_s: tuple[Seconds, Seconds] = (3.0, 6.0)

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        at_ms = now_ms()
        agents = site.fleet.join(self.count)

        def heal() -> None:
            site.fleet.kill(agents[::2])
            site.fleet.leave(agents[1::2], grace_s=5.0)

        return Wound(at_ms=at_ms, agents=tuple(agents), heal=heal)


def _some(site: Site, count: int) -> tuple[str, ...]:
    alive = site.fleet.alive
    return tuple(site.rng.sample(alive, min(count, len(alive))))


def _start(site: Site, agents: tuple[str, ...]) -> None:
    for agent in agents:
        site.fleet.start(agent)


def _await_an_end(effects: Path) -> None:
    """Until the agent writes that it has come to the end of a task, which it does before it says so to the
    leader. Raises Unavailable."""
    deadline = time.monotonic() + WAIT_S
    with effects.open("rb") as file:
        file.seek(0, os.SEEK_END)
        while b'"event":"end"' not in file.read():
            if time.monotonic() > deadline:
                raise Unavailable(f"waited {WAIT_S} s in vain until a task ended: see {effects}")
            time.sleep(_POLL_S)
