"""PySyncObj's transport seam on asyncio: every node dials every other, and a connection carries messages
one way, from its caller.

A node speaks on the connections that it dialled and listens on those that it accepted. Bytes that are not
what they should be cost the connection, never the node. An outgoing buffer that is full refuses the
message, which consensus takes as lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from pysyncobj.node import Node

from coordinator.consensus.admission import Credentials, Gate, Refusal
from coordinator.consensus.connection import Link, split_address
from coordinator.consensus.framing import (
    PROTOCOL_VERSION,
    FrameError,
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
from coordinator.consensus.tcp import TcpWire
from coordinator.consensus.tls import Trust, identity
from coordinator.consensus.wire import Call, Port, Wire
from coordinator.errors import StartFailed

log = logging.getLogger(__name__)

_LOOK_AT_CERTIFICATE_S: Final = 3600


class WireTransport(Links):
    """The links of one node. Nothing is opened before `start`, so that no peer can come before the
    callbacks are set."""

    def __init__(
        self,
        me: str,
        *,
        cluster: str,
        listen: str,
        advertise: str = "",
        routes: Mapping[str, str] | None = None,
        settings: RaftSettings,
        rng: random.Random,
        trust: Trust,
        wire: Wire | None = None,
    ) -> None:
        """Addresses are "host:port". `advertise` is where others reach this node, which is where it listens
        if empty; `routes` says by id where this node reaches others, if not where the cluster does. Without
        a `wire` the connections are TCP's."""
        super().__init__(None, Node(me), [])
        self.me = me
        self.cluster = cluster
        self.settings = settings
        self.rng = rng
        self.trust = trust
        self.wire = wire or TcpWire(settings.handshake_timeout_s)
        self.counters: Counter[str] = Counter()
        self._listen = listen
        self._advertise = advertise
        self._routes = dict(routes or {})
        self.on_read: Callable[[], None] = _ignore
        self._gate: Gate | None = None
        self._peers: dict[str, str] = {}
        self._announced: dict[str, str] = {}
        self._outgoing: dict[str, Dialler] = {}
        self._stopped: list[Dialler] = []
        self._incoming: dict[str, Listener] = {}
        self._unidentified: dict[Listener, None] = {}
        self._refused: dict[str, str] = {}
        self._port: Port | None = None
        self._look: asyncio.TimerHandle | None = None
        self._encoded: tuple[object, bytes] = (None, b"")

    async def start(self) -> None:
        """Listen, and begin to dial. Raises StartFailed."""
        host, port = split_address(self._listen)
        try:
            self._port = await self.wire.listen(host, port, self._called)
        except OSError as error:
            raise StartFailed(
                f"cannot listen for other nodes on {self._listen}: {error}; free the port, or set "
                "another raft_port",
                address=self._listen,
            ) from error
        for peer in self._peers:
            self._dial(peer)
        self._look_at_certificate()

    async def close(self) -> None:
        """Close every connection, and wait until nothing runs any more."""
        self.abort()
        await asyncio.gather(*(dialler.ended() for dialler in [*self._outgoing.values(), *self._stopped]))

    def abort(self) -> None:
        """Close every connection; nothing is called back any more."""
        self.setOnMessageReceivedCallback(None)
        self.setOnNodeConnectedCallback(None)
        self.setOnNodeDisconnectedCallback(None)
        if self._port is not None:
            self._port.close()
        if self._look is not None:
            self._look.cancel()
        for link in [*self._incoming.values(), *self._unidentified]:
            link.abort()
        for dialler in self._outgoing.values():
            dialler.stop()

    @property
    def bound_port(self) -> int:
        """The port that it listens on, which the system chose if it was given as 0."""
        assert self._port is not None
        return self._port.number

    @property
    def address(self) -> str:
        """Where others can call this node back."""
        host, _ = split_address(self._listen)
        return self._advertise or f"{host}:{self.bound_port}"

    @property
    def gate(self) -> Gate:
        """Who decides about peers."""
        assert self._gate is not None, "attach() comes first"
        return self._gate

    def attach(self, gate: Gate) -> None:
        """As `Links.attach`."""
        self._gate = gate

    def reach(self, peers: Mapping[str, str]) -> None:
        """As `Links.reach`."""
        self._peers = dict(peers)
        links: list[Listener | Caller] = list(self._incoming.values())
        links += [dialler.link for dialler in self._outgoing.values() if dialler.link is not None]
        for link in links:
            if not self.gate.keeps(link.credentials):
                link.abort()
        for peer in [peer for peer in self._outgoing if peer not in peers]:
            if peer not in self._incoming or not self.gate.keeps(self._incoming[peer].credentials):
                self._hang_up(peer)
        if self._port is not None:
            for peer in peers:
                self._dial(peer)

    def set_route(self, peer: str, address: str) -> None:
        """This node reaches a peer at another "host:port" from now on, whatever the cluster knows."""
        self._routes[peer] = address

    def places(self, peer: str) -> list[str]:
        """Where a peer may be reached: by the route of our own if there is one; else where the cluster knows
        it, as far as we have learned of that, and where it said itself when it called. Either of the two may
        be out of date."""
        if peer in self._routes:
            return [self._routes[peer]]
        known = (self._peers.get(peer), self._announced.get(peer))
        return list(dict.fromkeys(place for place in known if place))

    def send(self, node: Node, message: object) -> bool:
        """Send a message; False if there is no connection or its buffer is full. One encoding serves all
        that get the same."""
        assert isinstance(message, Message)
        dialler = self._outgoing.get(node.id)
        link = dialler.link if dialler is not None else None
        if link is None or not link.has_room:
            return False
        if self._encoded[0] is not message:
            self._encoded = (message, frame(message))
        if len(self._encoded[1]) > self.settings.max_frame_bytes:
            # The other side would close the connection, again and again.
            self.counters["messages_too_large"] += 1
            log.error(
                "a %s of %d bytes cannot go to %s: setting max_frame_bytes is %d",
                type(message).__name__,
                len(self._encoded[1]),
                node.id,
                self.settings.max_frame_bytes,
            )
            return False
        link.write(self._encoded[1])
        return True

    def check(self, hello: Hello) -> Refusal | None:
        """Why a caller is not welcome; None if it is."""
        reason = ""
        if hello.version != PROTOCOL_VERSION:
            reason = (
                f"protocol {hello.version}, and {self.me} speaks {PROTOCOL_VERSION}: upgrade the older one"
            )
        elif hello.cluster != self.cluster:
            reason = f"cluster {hello.cluster!r}, and {self.me} belongs to {self.cluster!r}"
        elif hello.target != self.me:
            reason = f"it wants to reach {hello.target!r}, and this is {self.me!r}: mend its configuration"
        elif hello.node == self.me:
            reason = f"it calls itself {self.me!r}, as this node does: mend the configuration of one"
        if reason:
            return Refusal(reason, final=False)
        return self.gate.judge(Credentials(hello.node, hello.incarnation, hello.place))

    def objection(self, certificate: object, peer: str) -> str:
        """Why whoever shows this certificate is not the peer; empty if it is."""
        objection = self.trust.objection(certificate, identity(self.cluster, peer))
        if objection:
            self.counters["identities_refused"] += 1
        return objection

    # What the links report.

    def peer_called(self, link: Listener, peer: str, address: str) -> None:
        """A peer has said who it is, and where it listens. An older connection of its own is of no use any
        more."""
        self._unidentified.pop(link, None)
        self._refused.pop(peer, None)
        former = self._incoming.pop(peer, None)
        self._incoming[peer] = link
        if former is not None:
            former.abort()
        self._announced[peer] = address
        self._dial(peer)

    def peer_refused(self, peer: str, reason: str) -> None:
        """Somebody who calls himself this is not let in. That is logged when it changes, not at every
        attempt."""
        self.counters["handshakes_refused"] += 1
        if self._refused.get(peer) == reason:
            return
        if len(self._refused) >= self.settings.max_members:
            self._refused.clear()
        self._refused[peer] = reason
        log.warning("refusing connections from %r: %s", peer, reason)

    def link_closed(self, link: Listener) -> None:
        """An incoming connection is gone. If it was its peer's present one, consensus must know at once."""
        self._unidentified.pop(link, None)
        if link.peer and self._incoming.get(link.peer) is link:
            del self._incoming[link.peer]
            if link.peer not in self._peers:
                self._hang_up(link.peer)
            self._interrupted(link.peer)

    def peer_reached(self, peer: str) -> None:
        """An outgoing connection is ready."""
        self._onNodeConnected(Node(peer))

    def peer_lost(self, peer: str) -> None:
        """An outgoing connection is gone."""
        self._onNodeDisconnected(Node(peer))

    def message_arrived(self, peer: Node, content: Message) -> None:
        """A peer has sent a message."""
        self._onMessageReceived(peer, content)

    async def _called(self, call: Call) -> None:
        """Somebody has called. Until it has said who it is, it is one of a limited number."""
        if len(self._unidentified) >= self.settings.max_unidentified_links:
            self.counters["links_refused"] += 1
            call.refuse()
            return
        link = Listener(self)
        self._unidentified[link] = None
        try:
            await call.take(link, self.trust.contexts().listening)
        except OSError as error:
            self._unidentified.pop(link, None)
            self.counters["tls_refused"] += 1
            log.warning("refusing a connection: no TLS was agreed: %s", error)

    def _look_at_certificate(self) -> None:
        """Links may last for longer than the certificate that they were agreed with."""
        self._look = asyncio.get_running_loop().call_later(_LOOK_AT_CERTIFICATE_S, self._look_at_certificate)
        self.trust.contexts()

    def _interrupted(self, peer: str) -> None:
        """Messages from `peer` may be lost, though the way to it may be open still."""
        self._onNodeDisconnected(Node(peer))
        if peer in self._outgoing and self._outgoing[peer].link is not None:
            self._onNodeConnected(Node(peer))

    def _dial(self, peer: str) -> None:
        """Keep a link to a peer."""
        if peer not in self._outgoing:
            self._outgoing[peer] = Dialler(self, peer)
            self._outgoing[peer].start()

    def _hang_up(self, peer: str) -> None:
        self._announced.pop(peer, None)
        dialler = self._outgoing.pop(peer, None)
        if dialler is not None:
            dialler.stop()
            self._stopped = [one for one in self._stopped if one.running]
            self._stopped.append(dialler)


class Listener(Link):
    """An accepted connection: a Hello, then messages."""

    def __init__(self, owner: WireTransport) -> None:
        super().__init__(owner.settings)
        self._owner = owner
        self.peer = ""
        """The caller's id, once it is welcome."""
        self._node = Node("")
        self.credentials = Credentials("", "", (0, 0))
        """What it has said of itself then."""

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                if self.peer:
                    self._owner.message_arrived(self._node, message(body))
                elif not self._welcome(handshake(body)):
                    return
            self._owner.on_read()
        except FrameError as error:
            self._owner.counters["frames_refused"] += 1
            log.warning("closing a connection from %s: %s", self.peer or "an unidentified caller", error)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed()
        self._owner.link_closed(self)

    def _welcome(self, hello: Hello | Welcome | Refused) -> bool:
        if not isinstance(hello, Hello):
            raise FrameError("the first frame is not a hello")
        objection = self._owner.objection(self._certificate, hello.node)
        refusal = Refusal(objection, final=False) if objection else self._owner.check(hello)
        if refusal is not None:
            self._owner.peer_refused(hello.node, refusal.reason)
            self.write(frame(Refused(refusal.reason, refusal.final)))
            if self._transport is not None:
                self._transport.close()
            return False
        self._agreed()
        self.peer = hello.node
        self._node = Node(hello.node)
        self.credentials = Credentials(hello.node, hello.incarnation, hello.place)
        self._reader.limit = self._settings.max_frame_bytes
        ours = self._owner.gate.credentials
        self.write(frame(Welcome(ours.incarnation, ours.place)))
        self._owner.peer_called(self, hello.node, hello.raft)
        return True


class Caller(Link):
    """A connection that this node dialled: a Hello out, a Welcome in, then messages out."""

    def __init__(self, owner: WireTransport, hello: Hello) -> None:
        super().__init__(owner.settings)
        self._owner = owner
        self._hello = hello
        self.credentials = Credentials(hello.target, "", (0, 0))
        """What the other side has said of itself in its welcome."""
        self.welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        objection = self._owner.objection(self._certificate, self._hello.target)
        if objection:
            self._refuse(objection)
        else:
            self.write(frame(self._hello))

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                self._take(handshake(body))
        except FrameError as error:
            self._refuse(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed()
        self._refuse(f"it closed the connection ({exc})" if exc else "it closed the connection")
        if not self.gone.done():
            self.gone.set_result(None)

    def _take(self, answer: Hello | Welcome | Refused) -> None:
        if self.welcome.done():
            raise FrameError("it speaks where it should listen")
        target = self._hello.target
        if isinstance(answer, Refused):
            self._refuse(answer.reason)
            self._owner.gate.refused(target, Refusal(answer.reason, answer.final))
        elif isinstance(answer, Welcome):
            self._agreed()
            self.credentials = Credentials(target, answer.incarnation, answer.place)
            refusal = self._owner.gate.judge(self.credentials)
            if refusal is None:
                self.welcome.set_result(None)
            else:
                self._refuse(refusal.reason)
        else:
            raise FrameError("the answer to a hello is not a welcome")

    def _refuse(self, reason: str) -> None:
        if not self.welcome.done():
            self.welcome.set_exception(ConnectionRefusedError(reason))
            # A dialler that was stopped meanwhile does not ask, and asyncio would complain of it.
            self.welcome.exception()
        self.abort()


class Dialler:
    """Keeps one peer reachable: dials, and dials again after a short, random pause, wherever it may be."""

    def __init__(self, owner: WireTransport, peer: str) -> None:
        self.link: Caller | None = None
        """The connection that messages may be sent on, if there is one."""
        self._owner = owner
        self._peer = peer
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._complaints: dict[str, str] = {}

    def start(self) -> None:
        """Begin to dial."""
        self._task = asyncio.get_running_loop().create_task(self._keep_connected(), name=f"dial {self._peer}")

    def stop(self) -> None:
        """Stop dialling, and close the connection."""
        if self._task is not None:
            self._task.cancel()

    @property
    def running(self) -> bool:
        """Whether it has not stopped yet."""
        return self._task is not None and not self._task.done()

    async def ended(self) -> None:
        """Wait until it has stopped."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_connected(self) -> None:
        settings = self._owner.settings
        places: list[str] = []
        place = ""
        while True:
            try:
                places = self._owner.places(self._peer)
                place = places[self._failures % len(places)]
                await self._hold_one_connection(place)
            except Exception as error:
                # Also of an address that cannot be one, say: it may be mended by the next attempt.
                self._failures += 1
                self._complain(place, f"{type(error).__name__}: {error}", places)
            await asyncio.sleep(self._owner.rng.uniform(settings.reconnect_min_s, settings.reconnect_max_s))

    async def _hold_one_connection(self, place: str) -> None:
        owner = self._owner
        ours = owner.gate.credentials
        hello = Hello(
            PROTOCOL_VERSION, owner.cluster, owner.me, self._peer, ours.incarnation, ours.place, owner.address
        )
        host, port = split_address(place)
        caller = Caller(owner, hello)
        async with asyncio.timeout(owner.settings.connect_timeout_s):
            await owner.wire.dial(caller, host, port, owner.trust.contexts().calling)
        try:
            await caller.welcome
            self._complaints.clear()
            self.link = caller
            self._owner.peer_reached(self._peer)
            await caller.gone
        finally:
            was_up = self.link is not None
            self.link = None
            caller.abort()
            if was_up:
                self._owner.peer_lost(self._peer)

    def _complain(self, place: str, what: str, places: list[str]) -> None:
        """Say what is wrong when it changes, not at every attempt."""
        self._owner.counters["connections_failed"] += 1
        if self._complaints.get(place) != what:
            self._complaints = {at: said for at, said in self._complaints.items() if at in places}
            self._complaints[place] = what
            log.info("cannot reach %s at %s yet: %s", self._peer, place, what)


def _ignore() -> None:
    """Nobody listens yet."""
