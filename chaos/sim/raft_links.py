"""A node's links to the others, as `consensus.transport` makes them on TCP: a node dials each other one,
says who it is, and sends on what it dialled."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from pysyncobj.node import Node

from chaos.sim.host_loop import HostLoop
from chaos.sim.network import Dialling, End, Network
from coordinator.config import parse_address
from coordinator.consensus.framing import (
    PROTOCOL_VERSION,
    FrameReader,
    Hello,
    Refused,
    Welcome,
    frame,
    handshake,
    message,
)
from coordinator.consensus.links import Links
from coordinator.consensus.messages import Message
from coordinator.consensus.settings import RaftSettings

_LATE_S: Final = 0.05
"""The longest by which a message that is overtaken comes too late."""


class Harm(NamedTuple):
    """What becomes of single messages on the way from one node to another: shares that are lost, doubled, or
    overtaken by later ones. Worse than TCP; Raft must bear it."""

    lost: float = 0.0
    doubled: float = 0.0
    overtaken: float = 0.0


class Weather:
    """The harm on each way, by (source, target), and how often it struck."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.harms: dict[tuple[str, str], Harm] = {}
        self.struck: Counter[str] = Counter()

    def strikes(self, what: str, share: float) -> bool:
        """Whether it happens to this message."""
        if share and self.rng.random() < share:
            self.struck[what] += 1
            return True
        return False


class SimLinks(Links):
    """`peers` maps ids to "host:port"; `weather` is what messages suffer beside what the network does."""

    def __init__(
        self,
        me: str,
        peers: Mapping[str, str],
        *,
        cluster: str,
        listen: str,
        settings: RaftSettings,
        process: HostLoop,
        network: Network,
        weather: Weather,
    ) -> None:
        super().__init__(None, Node(me), [])
        self.me = me
        self.cluster = cluster
        self.settings = settings
        self.process = process
        self.network = network
        self.weather = weather
        self.counters: Counter[str] = Counter()
        self._port = listen
        self._nodes = {peer: Node(peer) for peer in peers}
        self._callers = {peer: _Caller(self, peer, address) for peer, address in peers.items()}
        self._incoming: dict[str, End] = {}
        self._encoded: tuple[object, bytes] = (None, b"")

    @property
    def bound_port(self) -> int:
        """The port on which other nodes reach this one."""
        return parse_address(self._port)[1]

    async def start(self) -> None:
        """Listen, and begin to dial."""
        self.network.listen(self.process, str(self.bound_port), self._accept)
        for caller in self._callers.values():
            caller.dial()

    async def close(self) -> None:
        """Close every connection."""
        self.abort()

    def abort(self) -> None:
        """Close every connection; nothing is called back any more."""
        self.setOnMessageReceivedCallback(None)
        self.setOnNodeConnectedCallback(None)
        self.setOnNodeDisconnectedCallback(None)
        self.network.close_port(self.process, str(self.bound_port))
        incoming, self._incoming = self._incoming, {}
        for end in incoming.values():
            end.close()
        for caller in self._callers.values():
            caller.stop()

    def set_address(self, peer: str, address: str) -> None:
        """A peer has moved: dial it there from now on."""
        self._callers[peer].address = address

    def send(self, node: Node, content: object) -> bool:
        """Send a message; False if there is no connection. One encoding serves all that get the same."""
        assert isinstance(content, Message)
        end = self._callers[node.id].end
        if end is None:
            return False
        if self._encoded[0] is not content:
            self._encoded = (content, frame(content))
        self._expose(end, self._encoded[1])
        return True

    def _expose(self, end: End, data: bytes) -> None:
        """Send, as the weather allows."""
        weather = self.weather
        harm = weather.harms.get((self.me, end.peer.process.name))
        if harm is None:
            end.send(data)
        elif not weather.strikes("message_lost", harm.lost):
            if weather.strikes("message_overtaken", harm.overtaken):
                self.process.call_later(weather.rng.uniform(0.0, _LATE_S), end.send, data)
            else:
                end.send(data)
            if weather.strikes("message_doubled", harm.doubled):
                end.send(data)

    # What the connections report.

    def reached(self, peer: str) -> None:
        """An outgoing connection is ready."""
        self._onNodeConnected(self._nodes[peer])

    def lost(self, peer: str) -> None:
        """An outgoing connection is gone."""
        self._onNodeDisconnected(self._nodes[peer])

    def _accept(self, end: End) -> None:
        reader = FrameReader(self.settings.max_frame_bytes)
        end.on_message = lambda data: self._greet(end, reader, data)

    def _greet(self, end: End, reader: FrameReader, data: bytes) -> None:
        (body,) = reader.feed(data)
        hello = handshake(body)
        assert isinstance(hello, Hello)
        reason = self._objection(hello)
        if reason:
            self.counters["handshakes_refused"] += 1
            end.send(frame(Refused(reason)))
            end.close()
            return
        peer = hello.node
        end.send(frame(Welcome()))
        end.on_message = lambda data: self._hear(peer, reader, data)
        end.on_closed = lambda: self._gone(peer, end)
        former = self._incoming.pop(peer, None)
        self._incoming[peer] = end
        if former is not None:
            former.close()

    def _objection(self, hello: Hello) -> str:
        if hello.version != PROTOCOL_VERSION or hello.cluster != self.cluster or hello.target != self.me:
            return "not for this node"
        return "" if hello.node in self._nodes else f"{hello.node} is not a member"

    def _hear(self, peer: str, reader: FrameReader, data: bytes) -> None:
        for body in reader.feed(data):
            self._onMessageReceived(self._nodes[peer], message(body))

    def _gone(self, peer: str, end: End) -> None:
        """An incoming connection is gone. If it was its peer's present one, consensus must know at once."""
        if self._incoming.get(peer) is end:
            del self._incoming[peer]
            self._onNodeDisconnected(self._nodes[peer])
            if self._callers[peer].end is not None:
                self._onNodeConnected(self._nodes[peer])


class _Caller:
    """Keeps one peer reachable: dials, and dials again after a short, random pause."""

    def __init__(self, links: SimLinks, peer: str, address: str) -> None:
        self.address = address
        self.end: End | None = None
        """The connection that messages may be sent on, if there is one."""
        self._links = links
        self._peer = peer
        self._stopped = False

    def dial(self) -> None:
        """Try to connect."""
        if not self._stopped:
            links = self._links
            host, port = parse_address(self.address)
            dialling = Dialling(self._opened, self._failed)
            links.network.dial(links.process, host, str(port), dialling)

    def stop(self) -> None:
        """Close, and dial no more."""
        self._stopped = True
        end, self.end = self.end, None
        if end is not None:
            end.close()

    def _opened(self, end: End) -> None:
        if self._stopped:
            end.close()
            return
        links = self._links
        end.on_message = lambda data: self._answered(end, data)
        end.on_closed = self._closed
        end.send(frame(Hello(PROTOCOL_VERSION, links.cluster, links.me, self._peer)))

    def _answered(self, end: End, data: bytes) -> None:
        (body,) = FrameReader(self._links.settings.max_frame_bytes).feed(data)
        if isinstance(handshake(body), Welcome) and not self._stopped:
            self.end = end
            self._links.reached(self._peer)

    def _failed(self, why: str) -> None:
        del why
        self._again()

    def _closed(self) -> None:
        end, self.end = self.end, None
        if end is not None and not self._stopped:
            self._links.lost(self._peer)
        self._again()

    def _again(self) -> None:
        settings = self._links.settings
        pause = self._links.process.rng.uniform(settings.reconnect_min_s, settings.reconnect_max_s)
        self._links.process.call_later(pause, self.dial)
