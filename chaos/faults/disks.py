"""Disks that are full."""

from __future__ import annotations

from typing import ClassVar

from agent_sdk import QuorumflowError
from chaos.faults.base import Fault, Need, Site, Wound, await_event, now_ms


class FullDisk(Fault, tag="full-disk", frozen=True, kw_only=True):
    """A node has no room for another byte; healed by making room, and by starting the node again if it
    stopped for it."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROCESSES, Need.DISKS})

    target: str = "leader"

    def strike(self, site: Site) -> Wound:
        """See `Fault`."""
        assert site.disks is not None
        disks, cluster = site.disks, site.processes
        node, leader = site.choose(self.target), site.leader()
        at_ms = now_ms()
        disks.fill(node, cluster.pid(node))

        def heal() -> None:
            disks.clear(node, cluster.pid(node) if cluster.alive(node) else None)
            # A node that has met the full disk takes its time to stop.
            target = site.client.cluster_status().commit_index
            await_event(
                f"{node} has stopped or goes on",
                lambda: not cluster.alive(node) or _goes_on(site, node, target),
            )
            if not cluster.alive(node):
                cluster.restart_node(node)

        return Wound(at_ms=at_ms, nodes=(node,), leader=node == leader, heal=heal)


def _goes_on(site: Site, node: str, target: int) -> bool:
    """Whether it has come as far as the others had."""
    try:
        return site.client.node_status(site.processes.nodes[node].grpc).applied_index >= target
    except QuorumflowError:
        return False
