"""A node's links to the others, as `consensus.transport` makes them on TCP: a node dials each other one,
says who it is, and sends on what it dialled."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from pysyncobj.node import Node

from chaos.sim.host_loop import HostLoop
from chaos.sim.network import Dialling, End, Network
from coordinator.addresses import parse_address
from coordinator.consensus.admission import Credentials, Gate, Refusal
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

_LATE_S: Final = (0.001, 1.0)
"""The least and the most by which a message that is overtaken comes too late."""


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

    def lateness_s(self) -> float:
        """By how much a message comes too late: often a little, sometimes in another term."""
        least, most = _LATE_S
        return math.exp(self.rng.uniform(math.log(least), math.log(most)))

    def strikes(self, what: str, share: float) -> bool:
        """Whether it happens to this message."""
        if share and self.rng.random() < share:
            self.struck[what] += 1
            return True
        return False


class SimLinks(Links):
    """`weather` is what messages suffer beside what the network does; `tap` is told of each message with its
    target."""

    def __init__(
        self,
        me: str,
        *,
        cluster: str,
        listen: str,
        advertise: str,
        settings: RaftSettings,
        process: HostLoop,
        network: Network,
        weather: Weather,
        tap: Callable[[str, Message], None],
    ) -> None:
        super().__init__(None, Node(me), [])
        self.me = me
        self.cluster = cluster
        self.settings = settings
        self.process = process
        self.network = network
        self.weather = weather
        self._tap = tap
        self.counters: Counter[str] = Counter()
        self.advertise = advertise
        self._port = listen
        self._gate: Gate | None = None
        self._started = False
        self._peers: dict[str, str] = {}
        self._callers: dict[str, _Caller] = {}
        self._incoming: dict[str, tuple[End, Credentials]] = {}
        self._encoded: tuple[object, bytes] = (None, b"")

    @property
    def bound_port(self) -> int:
        """The port on which other nodes reach this one."""
        return parse_address(self._port)[1]

    async def start(self) -> None:
        """Listen, and begin to dial."""
        self.network.listen(self.process, str(self.bound_port), self._accept)
        self._started = True
        for peer, address in self._peers.items():
            self._dial(peer, address)

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
        for end, _ in incoming.values():
            end.close()
        for caller in self._callers.values():
            caller.stop()

    @property
    def gate(self) -> Gate:
        """Who decides about peers."""
        assert self._gate is not None
        return self._gate

    def attach(self, gate: Gate) -> None:
        """As `Links.attach`."""
        self._gate = gate

    def reach(self, peers: Mapping[str, str]) -> None:
        """As `Links.reach`."""
        self._peers = dict(peers)
        refused = {
            peer for peer, (_, credentials) in self._incoming.items() if not self.gate.keeps(credentials)
        }
        for peer in sorted(self._callers.keys() - peers.keys()):
            if peer in refused or peer not in self._incoming:
                self._hang_up(peer)
        for peer in sorted(refused):
            self._incoming[peer][0].close()
        for caller in self._callers.values():
            if caller.end is not None and not self.gate.keeps(caller.credentials):
                caller.break_off()
        if self._started:
            for peer, address in peers.items():
                self._dial(peer, address)

    def send(self, node: Node, content: object) -> bool:
        """Send a message; False if there is no connection. One encoding serves all that get the same."""
        assert isinstance(content, Message)
        caller = self._callers.get(node.id)
        end = caller.end if caller is not None else None
        if end is None:
            return False
        self._tap(node.id, content)
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
                self.process.call_later(weather.lateness_s(), end.send, data)
            else:
                end.send(data)
            if weather.strikes("message_doubled", harm.doubled):
                self.process.call_later(weather.lateness_s(), end.send, data)

    # What the connections report.

    def reached(self, peer: str) -> None:
        """An outgoing connection is ready."""
        self._onNodeConnected(Node(peer))

    def lost(self, peer: str) -> None:
        """An outgoing connection is gone."""
        self._onNodeDisconnected(Node(peer))

    def _accept(self, end: End) -> None:
        reader = FrameReader(self.settings.max_frame_bytes)
        end.on_message = lambda data: self._greet(end, reader, data)

    def _greet(self, end: End, reader: FrameReader, data: bytes) -> None:
        (body,) = reader.feed(data)
        hello = handshake(body)
        assert isinstance(hello, Hello)
        credentials = Credentials(hello.node, hello.incarnation, hello.place)
        refusal = self._objection(hello) or self.gate.judge(credentials)
        if refusal is not None:
            self.counters["handshakes_refused"] += 1
            end.send(frame(Refused(refusal.reason, refusal.final)))
            end.close()
            return
        peer, ours = hello.node, self.gate.credentials
        end.send(frame(Welcome(ours.incarnation, ours.place)))
        end.on_message = lambda data: self._hear(peer, reader, data)
        end.on_closed = lambda: self._gone(peer, end)
        former = self._incoming.pop(peer, None)
        self._incoming[peer] = (end, credentials)
        if former is not None:
            former[0].close()
        if peer not in self._peers:
            self._dial(peer, hello.raft)

    def _objection(self, hello: Hello) -> Refusal | None:
        meant = (hello.version, hello.cluster, hello.target) == (PROTOCOL_VERSION, self.cluster, self.me)
        return None if meant else Refusal("not for this node", final=False)

    def _hear(self, peer: str, reader: FrameReader, data: bytes) -> None:
        for body in reader.feed(data):
            self._onMessageReceived(Node(peer), message(body))

    def _gone(self, peer: str, end: End) -> None:
        """An incoming connection is gone. If it was its peer's present one, consensus must know at once."""
        if peer not in self._incoming or self._incoming[peer][0] is not end:
            return
        del self._incoming[peer]
        if peer not in self._peers:
            self._hang_up(peer)
        self._onNodeDisconnected(Node(peer))
        if peer in self._callers and self._callers[peer].end is not None:
            self._onNodeConnected(Node(peer))

    def _dial(self, peer: str, address: str) -> None:
        if peer in self._callers:
            self._callers[peer].address = address
        else:
            self._callers[peer] = _Caller(self, peer, address)
            self._callers[peer].dial()

    def _hang_up(self, peer: str) -> None:
        caller = self._callers.pop(peer, None)
        if caller is not None:
            caller.stop()
            self._onNodeDisconnected(Node(peer))


class _Caller:
    """Keeps one peer reachable: dials, and dials again after a short, random pause."""

    def __init__(self, links: SimLinks, peer: str, address: str) -> None:
        self.address = address
        self.end: End | None = None
        """The connection that messages may be sent on, if there is one."""
        self.credentials = Credentials(peer, "", (0, 0))
        """What the peer last said of itself."""
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

    def break_off(self) -> None:
        """Close the connection, and make another."""
        if self.end is not None:
            self.end.close()
            self._closed()

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
        ours = links.gate.credentials
        place = (ours.incarnation, ours.place, links.advertise)
        end.send(frame(Hello(PROTOCOL_VERSION, links.cluster, links.me, self._peer, *place)))

    def _answered(self, end: End, data: bytes) -> None:
        (body,) = FrameReader(self._links.settings.max_frame_bytes).feed(data)
        answer, gate = handshake(body), self._links.gate
        if self._stopped:
            return
        if isinstance(answer, Refused):
            gate.refused(self._peer, Refusal(answer.reason, answer.final))
        elif isinstance(answer, Welcome):
            self.credentials = Credentials(self._peer, answer.incarnation, answer.place)
            refusal = gate.judge(self.credentials)
            if refusal is not None:
                end.close()
                self._again()
                return
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
