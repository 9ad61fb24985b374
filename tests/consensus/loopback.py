"""A cluster of real nodes in one process: RocksDB, TCP on the loopback interface, the real loop, and lists
as state machines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from coordinator.consensus.journal import FAMILIES
from coordinator.consensus.membership import Member, Membership
from coordinator.consensus.port import Role
from coordinator.consensus.raft import RaftConsensus
from coordinator.consensus.settings import RaftSettings
from coordinator.consensus.tls import AnyPeer
from coordinator.consensus.transport import WireTransport
from coordinator.errors import CoordinatorError
from coordinator.storage.engine import RocksEngine
from tests.consensus.memory import ListReplica

CLUSTER = "test-cluster"
PATIENCE_S = 30.0


class WatchedReplica(ListReplica):
    """Says when anything has changed, and keeps its state over a restart as a node's state store would."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._tell = changed

    def changed(self) -> None:
        self._tell()


class Cluster:
    """Nodes "n1", "n2", ... Nothing here sleeps: `until` waits for events."""

    def __init__(self, folder: Path, size: int, settings: RaftSettings | None = None) -> None:
        self.ids = [f"n{number}" for number in range(1, size + 1)]
        self.nodes: dict[str, RaftConsensus] = {}
        self.replicas = {node: WatchedReplica(self._note) for node in self.ids}
        self._folder = folder
        self._settings = settings or RaftSettings()
        self._engines: dict[str, RocksEngine] = {}
        self._links: dict[str, WireTransport] = {}
        self._ports: dict[str, int] = {}
        self._changed = asyncio.Event()

    async def start(self, *nodes: str) -> None:
        """Start these nodes, or all; peers are told their addresses once the ports are known."""
        members = tuple(Member(node, "127.0.0.1:0", f"{node}:grpc") for node in self.ids)
        for node in nodes or self.ids:
            self._engines[node] = RocksEngine(self._folder / node, FAMILIES)
            self._links[node] = WireTransport(
                node,
                cluster=CLUSTER,
                listen=f"127.0.0.1:{self._ports.get(node, 0)}",
                routes={other: f"127.0.0.1:{port}" for other, port in self._ports.items()},
                settings=self._settings,
                rng=random.Random(),
                trust=AnyPeer(),
            )
            self.nodes[node] = RaftConsensus(
                node,
                Membership(members),
                cluster=CLUSTER,
                engine=self._engines[node],
                replica=self.replicas[node],
                links=self._links[node],
                settings=self._settings,
            )
            await self.nodes[node].start()
            self._ports[node] = self.nodes[node].bound_port
            for other in self.nodes:
                if other != node:
                    self._links[other].set_route(node, f"127.0.0.1:{self._ports[node]}")

    async def kill(self, node: str, *, forget_state: bool = False) -> None:
        """Stop a node without a word to the others. `forget_state`: its state machine must be built anew
        from the log."""
        await self.nodes.pop(node).stop(hand_over=False)
        self._engines.pop(node).close()
        if forget_state:
            self.replicas[node] = WatchedReplica(self._note)

    def links(self, node: str) -> WireTransport:
        """What connects a node with the others."""
        return self._links[node]

    def break_links(self, node: str) -> None:
        """Cut every connection of a node, which are made anew at once."""
        for other, links in self._links.items():
            for caller in [*self._links] if other == node else [node]:
                if caller in links._incoming:
                    links._incoming[caller].abort()

    async def stop(self) -> None:
        """Stop everything, whatever state it is in."""
        for node in list(self.nodes):
            await self.kill(node)

    def leader(self) -> str | None:
        """The node that leads the highest term."""
        leading = [
            (consensus.status().term, node)
            for node, consensus in self.nodes.items()
            if consensus.status().role is Role.LEADER
        ]
        return max(leading)[1] if leading else None

    async def led(self) -> str:
        """Wait until somebody leads, and all nodes that are up know it."""

        def agreed() -> bool:
            return len(
                {consensus.status().leader for consensus in self.nodes.values()} - {None}
            ) == 1 and all(consensus.status().leader is not None for consensus in self.nodes.values())

        await self.until(lambda: self.leader() is not None and agreed())
        leader = self.leader()
        assert leader is not None
        return leader

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is looked at whenever a state machine hears of something."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def write(self, payload: bytes) -> tuple[int, int]:
        """Propose until a leader has taken it, and wait until it is applied there; returns the (index,
        term) it has."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                node = await self.led()
                try:
                    index, term = self.nodes[node].propose(payload)
                except CoordinatorError:
                    await asyncio.sleep(0)
                    continue
                if await self._settled(node, index, term):
                    return index, term

    async def write_all(self, payloads: Iterable[bytes]) -> int:
        """Write one after the other; returns the last index."""
        index = 0
        for payload in payloads:
            index, _ = await self.write(payload)
        return index

    async def _settled(self, node: str, index: int, term: int) -> bool:
        replica = self.replicas[node]
        await self.until(
            lambda: (
                node not in self.nodes
                or replica.applied.index >= index
                or self.nodes[node].status().term != term
            )
        )
        return (
            node in self.nodes and replica.applied.index >= index and self.nodes[node].status().term == term
        )

    async def all_applied(self, index: int) -> None:
        """Wait until every node that is up has applied the entries up to `index`."""
        await self.until(lambda: all(self.replicas[node].applied.index >= index for node in self.nodes))

    def _note(self) -> None:
        self._changed.set()


def number(value: int) -> bytes:
    """A command that names its number."""
    return msgspec.msgpack.encode(value)
