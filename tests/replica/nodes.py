"""Whole nodes in one process, on real disks and sockets, whose free space a test decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from coordinator.cli.ports import free_ports
from coordinator.config import DEFAULT, Given, build
from coordinator.consensus.port import Role
from coordinator.replica.node import Node
from coordinator.replica.surroundings import this_machine

PATIENCE_S = 20.0
_POLL_S = 0.01


class Nodes:
    """Nodes "n1", "n2", ...; `free` holds the bytes that each one's disk has left."""

    def __init__(self, folder: Path, size: int, **settings: object) -> None:
        ids = [f"n{number}" for number in range(1, size + 1)]
        self.free = dict.fromkeys(ids, 1 << 40)
        self.nodes: dict[str, Node] = {}
        ports = iter(free_ports("127.0.0.1", 2 * size))
        members = ",".join(f"{me}=127.0.0.1:{next(ports)}/127.0.0.1:{next(ports)}" for me in ids)
        for me in ids:
            given = {
                "node_id": me,
                "cluster_nodes": members,
                "data_dir": str(folder / me),
                "tls.mode": "off",
                "limits.free_bytes_check_ms": 20,
                **settings,
            }
            config = build({key: Given(value, DEFAULT) for key, value in given.items()})
            around = this_machine(config)._replace(free_bytes=partial(self.free.__getitem__, me))
            self.nodes[me] = Node(config, around)

    async def start(self) -> None:
        """Start all."""
        for node in self.nodes.values():
            await node.start()

    async def stop(self) -> None:
        """Stop all that run."""
        for node in self.nodes.values():
            await node.stop()

    @property
    def leader(self) -> str | None:
        """Who leads and serves."""
        serving = (me for me, node in self.nodes.items() if node.leadership.leader is not None)
        return next(serving, None)

    async def led(self, *but: str) -> str:
        """Wait until somebody leads, but for these."""
        await self.until(lambda: self.leader is not None and self.leader not in but, "somebody leads")
        assert self.leader is not None
        return self.leader

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s in vain until {what}"
            await asyncio.sleep(_POLL_S)

    def role(self, me: str) -> Role:
        """What a node is."""
        return self.nodes[me].consensus.status().role
