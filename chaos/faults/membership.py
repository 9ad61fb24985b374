"""Nodes that are lost for good, and others that take their places."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from agent_sdk.errors import WrongState
from chaos.faults.base import Fault, Need, Site, Wound, await_event, now_ms


class Replace(Fault, tag="replace", frozen=True, kw_only=True):
    """SIGKILL to a node whose disk is lost with it. Healed by an operator: the node comes back under its old
    id and addresses with an empty disk, or, with `renamed`, another takes its place; either is fed by the
    others and votes in the end."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROCESSES})

    target: str = "follower"
    renamed: bool = False

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        node, leader = site.choose(self.target), site.leader()
        successor = _unused(site.nodes) if self.renamed else node
        at_ms = now_ms()
        site.processes.kill_node(node)
        in_effect_ms = now_ms()
        _wipe(Path(site.processes.nodes[node].data_dir))
        return Wound(
            at_ms=at_ms,
            in_effect_ms=in_effect_ms,
            nodes=(node,),
            whole=(successor,),
            leader=node == leader,
            note=f"by {successor}" if self.renamed else "by itself with an empty disk",
            heal=lambda: _replace(site, node, successor),
        )


def _replace(site: Site, dead: str, successor: str) -> None:
    cluster, members = site.processes, site.client.members
    entry = cluster.nodes[dead] if successor == dead else cluster.add_node(successor)

    def ordered() -> bool:
        try:
            members.replace(dead, successor, entry.raft, entry.grpc)
        except WrongState:
            # The leader does not believe yet that it is dead, or a voter that has to agree is not back.
            return False
        return True

    def votes() -> bool:
        return any(member.id == successor and member.kind == "voter" for member in members.list())

    await_event(f"{successor} may take the place of {dead}", ordered, poll_s=0.1)
    if successor == dead:
        cluster.restart_node(dead)
    else:
        cluster.forget_node(dead)
    await_event(f"{successor} votes", votes, poll_s=0.05)


def _unused(nodes: list[str]) -> str:
    """The id after the highest: no node has borne it, as the newest is always among those that are there."""
    return f"n{max(int(node[1:]) for node in nodes) + 1}"


def _wipe(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
