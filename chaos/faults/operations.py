"""What operators do to a cluster, on purpose or not: the faults for clusters that the drill did not start."""

from __future__ import annotations

import shlex
import subprocess
from typing import Final

from chaos.faults.base import Fault, Seconds, Site, Wound, now_ms
from coordinator.errors import Unavailable

_COMMAND_TIMEOUT_S: Final = 60.0


class MoveLeader(Fault, tag="move-leader", frozen=True, kw_only=True):
    """The leader is drained, so that another node leads; healed by undoing that."""

    hold_s: tuple[Seconds, Seconds] = (0.5, 0.5)

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        node = site.leader()
        at_ms = now_ms()
        site.client.drain_node(node)

        def heal() -> None:
            site.client.drain_node(node, undo=True)

        return Wound(at_ms=at_ms, nodes=(node,), leader=True, heal=heal)


class Hook(Fault, tag="hook", frozen=True, kw_only=True):
    """A command of the plan's, and another that undoes it; "{node}" in them stands for the target's id. They
    are not given to a shell."""

    command: str
    undo: str
    target: str = "leader"

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        node, leader = site.choose(self.target), site.leader()
        at_ms = now_ms()
        _run(self.command, node)
        return Wound(
            at_ms=at_ms,
            in_effect_ms=now_ms(),
            nodes=(node,),
            leader=node == leader,
            note=self.command,
            heal=lambda: _run(self.undo, node),
        )


def _run(command: str, node: str) -> None:
    words = [word.replace("{node}", node) for word in shlex.split(command)]
    try:
        done = subprocess.run(  # noqa: S603 - the plan's own command
            words, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the plan's command {command!r} could not be run: {error}") from error
    if done.returncode != 0:
        raise Unavailable(
            f"the plan's command {command!r} ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        )
