"""Nodes that are killed, frozen and restarted."""

from __future__ import annotations

import signal
import subprocess
from typing import ClassVar, Final

from chaos.faults.base import Fault, Milliseconds, Need, Periodic, Seconds, Site, Wound, now_ms
from coordinator.errors import CoordinatorError

_STAND_STILL: Final = 'kill -STOP "$1" && sleep "$2"; kill -CONT "$1"'
"""Of a process with this id, for so many seconds."""


class Kill(Fault, tag="kill", frozen=True, kw_only=True):
    """SIGKILL to a node; healed by starting it again."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROCESSES})

    target: str = "leader"

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        node, leader = site.choose(self.target), site.leader()
        at_ms = now_ms()
        site.processes.kill_node(node)
        return Wound(
            at_ms=at_ms,
            in_effect_ms=now_ms(),
            nodes=(node,),
            leader=node == leader,
            heal=lambda: site.processes.restart_node(node),
        )


class Freeze(Fault, tag="freeze", frozen=True, kw_only=True):
    """SIGSTOP to a node, whose connections stay open; healed by SIGCONT."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROCESSES})

    target: str = "leader"

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        node, leader = site.choose(self.target), site.leader()
        at_ms = now_ms()
        site.processes.signal(node, signal.SIGSTOP)
        return Wound(
            at_ms=at_ms,
            nodes=(node,),
            leader=node == leader,
            heal=lambda: site.processes.signal(node, signal.SIGCONT),
        )


class Stall(Fault, tag="stall", frozen=True, kw_only=True):
    """SIGSTOP to a node for at most `longest_ms`, then to another, again and again: machines that are too
    busy for a moment. Healed by letting all of them run. A process of its own does it, since the drill's
    own, which has much to remember, would let a node stand still for longer at times."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROCESSES})

    target: str = "any"
    longest_ms: Milliseconds = 200.0
    every_ms: Milliseconds = 300.0
    hold_s: tuple[Seconds, Seconds] = (10.0, 10.0)

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        at_ms = now_ms()
        stalling = Periodic(lambda _: self._stall(site), self.every_ms / 1000)
        return Wound(
            at_ms=at_ms,
            nodes=tuple(site.nodes),
            note=f"up to {self.longest_ms:g} ms, every {self.every_ms:g} ms",
            heal=stalling.stop,
        )

    def _stall(self, site: Site) -> None:
        pid = site.processes.pid(site.choose(self.target))
        seconds = site.rng.uniform(self.longest_ms / 4, self.longest_ms) / 1000
        command = ["/bin/sh", "-c", _STAND_STILL, "stall", str(pid), f"{seconds:.3f}"]
        subprocess.run(command, check=False)  # noqa: S603 - our own words


class Restart(Fault, tag="restart", frozen=True, kw_only=True):
    """SIGTERM to a node, which hands its leadership over and ends; healed by starting it again. One that is
    still there after `grace_s` is killed, as a supervisor would."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROCESSES})

    target: str = "next"
    hold_s: tuple[Seconds, Seconds] = (0.0, 0.0)
    grace_s: Seconds = 30.0

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        node, leader = site.choose(self.target), site.leader()
        at_ms = now_ms()
        try:
            code = site.processes.stop_node(node, self.grace_s)
            note, problem = f"exit code {code}, after {now_ms() - at_ms} ms", ""
        except CoordinatorError as error:
            site.processes.kill_node(node)
            note, problem = "killed", error.message
        return Wound(
            at_ms=at_ms,
            nodes=(node,),
            leader=node == leader,
            note=note,
            problem=problem,
            heal=lambda: site.processes.restart_node(node),
        )


class PowerCut(Fault, tag="power-cut", frozen=True, kw_only=True):
    """SIGKILL to all nodes at once; healed by starting them again."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROCESSES})

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        nodes = site.nodes
        at_ms = now_ms()
        for node in nodes:
            site.processes.signal(node, signal.SIGKILL)
        for node in nodes:
            site.processes.kill_node(node)

        def heal() -> None:
            for node in nodes:
                site.processes.restart_node(node)

        return Wound(
            at_ms=at_ms, in_effect_ms=now_ms(), nodes=tuple(nodes), leader=True, majority=False, heal=heal
        )
