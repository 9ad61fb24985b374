"""Both ends of links over TCP on the loopback interface: transports that note what they report, and callers
that are none."""

from __future__ import annotations

import asyncio
import random
import ssl
import struct
from collections import Counter
from collections.abc import Callable

from pysyncobj.node import Node

from coordinator.consensus.admission import Credentials, Refusal
from coordinator.consensus.framing import Hello, Refused, Welcome, handshake
from coordinator.consensus.settings import RaftSettings
from coordinator.consensus.tls import AnyPeer, Trust
from coordinator.consensus.transport import WireTransport

PATIENCE_S = 20.0
PLAIN = AnyPeer()
QUICK = RaftSettings(
    handshake_timeout_s=0.2,
    reconnect_max_s=0.02,
    max_entry_bytes=1000,
    max_append_bytes=1000,
    max_append_entries=100,
    max_frame_bytes=100_000,
    max_send_buffer_bytes=100_000,
    max_unidentified_links=3,
)


class Noted(Counter[str]):
    """Counts, and says when it has."""

    def __init__(self, changed: asyncio.Event) -> None:
        super().__init__()
        self._changed = changed

    def __setitem__(self, name: str, count: int) -> None:
        super().__setitem__(name, count)
        self._changed.set()


class MembersOnly:
    """A gate that lets in the members that it was told of, and keeps them but for those in `replaced`."""

    def __init__(self, me: str, members: tuple[str, ...]) -> None:
        self.members = set(members)
        self.replaced: set[str] = set()
        self.credentials = Credentials(me, f"{me}1", (0, 1))
        self.refusals: list[tuple[str, Refusal]] = []

    def judge(self, peer: Credentials) -> Refusal | None:
        return None if peer.node in self.members else Refusal(f"{peer.node} is not a member", final=True)

    def keeps(self, peer: Credentials) -> bool:
        return peer.node in self.members - self.replaced

    def refused(self, peer: str, refusal: Refusal) -> None:
        self.refusals.append((peer, refusal))


class End:
    """A transport and what it reports."""

    def __init__(self, me: str, *peers: str, cluster: str = "one", trust: Trust = PLAIN) -> None:
        self.me = me
        self.heard: list[tuple[str, object]] = []
        self.links: list[tuple[str, bool]] = []
        self.changed = asyncio.Event()
        self.transport = WireTransport(
            me,
            cluster=cluster,
            listen="127.0.0.1:0",
            settings=QUICK,
            rng=random.Random(1),
            trust=trust,
        )
        self.transport.counters = Noted(self.changed)
        self.gate = MembersOnly(me, peers)
        self.transport.attach(self.gate)
        self.transport.reach(dict.fromkeys(peers, "127.0.0.1:0"))
        self.transport.setOnMessageReceivedCallback(self._message)
        self.transport.setOnNodeConnectedCallback(lambda node: self._link(node, True))
        self.transport.setOnNodeDisconnectedCallback(lambda node: self._link(node, False))

    async def start(self) -> None:
        await self.transport.start()

    def knows(self, other: End) -> None:
        self.transport.set_route(other.me, f"127.0.0.1:{other.transport.bound_port}")

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def counted(self, what: str, count: int = 2) -> None:
        await self.until(lambda: self.transport.counters[what] >= count)

    def _message(self, node: Node, content: object) -> None:
        self.heard.append((node.id, content))
        self.changed.set()

    def _link(self, node: Node, up: bool) -> None:
        self.links.append((node.id, up))
        self.changed.set()


async def stranger(
    end: End, context: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to an end, with TLS if there is a context."""
    return await asyncio.open_connection("127.0.0.1", end.transport.bound_port, ssl=context)


async def answer(reader: asyncio.StreamReader) -> Hello | Welcome | Refused:
    """The next frame, which belongs to the handshake."""
    length, _ = struct.unpack(">II", await reader.readexactly(8))
    return handshake(await reader.readexactly(length))


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait for the other side to close."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await reader.read(1 << 16):
                pass
    except ConnectionError:
        return True
    return True
