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
import socket
from collections import Counter
from collections.abc import Mapping
from typing import Final, cast

from pysyncobj.node import Node

from coordinator.consensus.framing import (
    MAX_HANDSHAKE_BYTES,
    PROTOCOL_VERSION,
    FrameError,
    FrameReader,
    Hello,
    Refused,
    Welcome,
    frame,
    handshake,
    message,
)
from coordinator.consensus.links import Links
from coordinator.consensus.listening import ListeningPort
from coordinator.consensus.messages import Message
from coordinator.consensus.settings import RaftSettings
from coordinator.consensus.tls import Trust, identity
from coordinator.errors import StartFailed

log = logging.getLogger(__name__)

_KEEPALIVE_S: Final = 1
_LOOK_AT_CERTIFICATE_S: Final = 3600


class TcpTransport(Links):
    """The links of one node. Nothing is opened before `start`, so that no peer can come before the
    callbacks are set.

    `peers` maps node ids to "host:port"; names are resolved at every attempt, off the event loop.
    """

    def __init__(
        self,
        me: str,
        peers: Mapping[str, str],
        *,
        cluster: str,
        listen: str,
        settings: RaftSettings,
        rng: random.Random,
        trust: Trust,
    ) -> None:
        super().__init__(None, Node(me), [])
        self.me = me
        self.cluster = cluster
        self.settings = settings
        self.rng = rng
        self.trust = trust
        self.counters: Counter[str] = Counter()
        self._listen = listen
        self._nodes = {peer: Node(peer) for peer in peers}
        self._outgoing = {peer: Dialler(self, peer, address) for peer, address in peers.items()}
        self._incoming: dict[str, Listener] = {}
        self._unidentified: set[Listener] = set()
        self._port: ListeningPort | None = None
        self._look: asyncio.TimerHandle | None = None
        self._encoded: tuple[object, bytes] = (None, b"")

    async def start(self) -> None:
        """Listen, and begin to dial. Raises StartFailed."""
        host, port = split_address(self._listen)
        try:
            self._port = await ListeningPort.open(host, port, self._called)
        except OSError as error:
            raise StartFailed(
                f"cannot listen for other nodes on {self._listen}: {error}; free the port, or set "
                "another raft_port",
                address=self._listen,
            ) from error
        for dialler in self._outgoing.values():
            dialler.start()
        self._look_at_certificate()

    async def close(self) -> None:
        """Close every connection, and wait until nothing runs any more."""
        self.abort()
        await asyncio.gather(*(dialler.ended() for dialler in self._outgoing.values()))

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

    def set_address(self, peer: str, address: str) -> None:
        """A peer has moved: dial it there from now on."""
        self._outgoing[peer].address = address

    def send(self, node: Node, message: object) -> bool:
        """Send a message; False if there is no connection or its buffer is full. One encoding serves all
        that get the same."""
        assert isinstance(message, Message)
        link = self._outgoing[node.id].link
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

    def check(self, hello: Hello) -> str:
        """Why a caller is not welcome; empty if it is."""
        if hello.version != PROTOCOL_VERSION:
            return f"protocol {hello.version}, and {self.me} speaks {PROTOCOL_VERSION}: upgrade the older one"
        if hello.cluster != self.cluster:
            return f"cluster {hello.cluster!r}, and {self.me} belongs to {self.cluster!r}"
        if hello.target != self.me:
            return f"it wants to reach {hello.target!r}, and this is {self.me!r}: mend its configuration"
        if hello.node not in self._nodes:
            return f"{hello.node!r} is not a member of the cluster as {self.me} knows it"
        return ""

    def objection(self, certificate: object, peer: str) -> str:
        """Why whoever shows this certificate is not the peer; empty if it is."""
        objection = self.trust.objection(certificate, identity(self.cluster, peer))
        if objection:
            self.counters["identities_refused"] += 1
        return objection

    # What the links report.

    def peer_called(self, link: Listener, peer: str) -> None:
        """A peer has said who it is. An older connection of its own is of no use any more."""
        self._unidentified.discard(link)
        former = self._incoming.pop(peer, None)
        self._incoming[peer] = link
        if former is not None:
            former.abort()

    def link_closed(self, link: Listener) -> None:
        """An incoming connection is gone. If it was its peer's present one, consensus must know at once."""
        self._unidentified.discard(link)
        if link.peer and self._incoming.get(link.peer) is link:
            del self._incoming[link.peer]
            self._interrupted(link.peer)

    def peer_reached(self, peer: str) -> None:
        """An outgoing connection is ready."""
        self._onNodeConnected(self._nodes[peer])

    def peer_lost(self, peer: str) -> None:
        """An outgoing connection is gone."""
        self._onNodeDisconnected(self._nodes[peer])

    def message_arrived(self, peer: str, content: Message) -> None:
        """A peer has sent a message."""
        self._onMessageReceived(self._nodes[peer], content)

    async def _called(self, connection: socket.socket) -> None:
        """Somebody has called. Until it has said who it is, it is one of a limited number."""
        if len(self._unidentified) >= self.settings.max_unidentified_links:
            self.counters["links_refused"] += 1
            connection.close()
            return
        link = Listener(self)
        self._unidentified.add(link)
        context = self.trust.contexts().listening
        limit_s = None if context is None else self.settings.handshake_timeout_s
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: link,
                connection,
                ssl=context,
                ssl_handshake_timeout=limit_s,
                ssl_shutdown_timeout=limit_s,
            )
        except OSError as error:
            self._unidentified.discard(link)
            self.counters["tls_refused"] += 1
            log.warning("refusing a connection: no TLS was agreed: %s", error)

    def _look_at_certificate(self) -> None:
        """Links may last for longer than the certificate that they were agreed with."""
        self.trust.contexts()
        self._look = asyncio.get_running_loop().call_later(_LOOK_AT_CERTIFICATE_S, self._look_at_certificate)

    def _interrupted(self, peer: str) -> None:
        """Messages from `peer` may be lost, though the way to it may be open still."""
        self._onNodeDisconnected(self._nodes[peer])
        if self._outgoing[peer].link is not None:
            self._onNodeConnected(self._nodes[peer])


class Link(asyncio.Protocol):
    """What both ends of a connection have in common: frames in, and a deadline for the handshake."""

    def __init__(self, settings: RaftSettings) -> None:
        self._settings = settings
        self._reader = FrameReader(MAX_HANDSHAKE_BYTES)
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's, hence a cast and no check.
        self._transport = cast(asyncio.Transport, transport)
        _set_options(self._transport, self._settings)
        self._deadline = asyncio.get_running_loop().call_later(self._settings.handshake_timeout_s, self.abort)

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def write(self, data: bytes) -> None:
        """Queue bytes for sending."""
        if self._transport is not None:
            self._transport.write(data)

    @property
    def has_room(self) -> bool:
        """Whether the outgoing buffer takes another message."""
        return (
            self._transport is not None
            and self._transport.get_write_buffer_size() < self._settings.max_send_buffer_bytes
        )

    @property
    def _certificate(self) -> object:
        """What the other side has shown, if TLS is spoken."""
        return self._transport.get_extra_info("peercert") if self._transport is not None else None

    def _agreed(self) -> None:
        """The handshake is done."""
        if self._deadline is not None:
            self._deadline.cancel()

    def _closed(self) -> None:
        self._agreed()
        self._transport = None


class Listener(Link):
    """An accepted connection: a Hello, then messages."""

    def __init__(self, owner: TcpTransport) -> None:
        super().__init__(owner.settings)
        self._owner = owner
        self.peer = ""
        """The caller's id, once it is welcome."""

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                if self.peer:
                    self._owner.message_arrived(self.peer, message(body))
                elif not self._welcome(handshake(body)):
                    return
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
        reason = self._owner.check(hello) or self._owner.objection(self._certificate, hello.node)
        if reason:
            self._owner.counters["handshakes_refused"] += 1
            log.warning("refusing a connection from %r: %s", hello.node, reason)
            self.write(frame(Refused(reason)))
            if self._transport is not None:
                self._transport.close()
            return False
        self._agreed()
        self.peer = hello.node
        self._reader.limit = self._settings.max_frame_bytes
        self.write(frame(Welcome()))
        self._owner.peer_called(self, hello.node)
        return True


class Caller(Link):
    """A connection that this node dialled: a Hello out, a Welcome in, then messages out."""

    def __init__(self, owner: TcpTransport, hello: Hello) -> None:
        super().__init__(owner.settings)
        self._owner = owner
        self._hello = hello
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
        if isinstance(answer, Refused):
            self._refuse(answer.reason)
        elif isinstance(answer, Welcome):
            self._agreed()
            self.welcome.set_result(None)
        else:
            raise FrameError("the answer to a hello is not a welcome")

    def _refuse(self, reason: str) -> None:
        if not self.welcome.done():
            self.welcome.set_exception(ConnectionRefusedError(reason))
        self.abort()


class Dialler:
    """Keeps one peer reachable: dials, and dials again after a short, random pause."""

    def __init__(self, owner: TcpTransport, peer: str, address: str) -> None:
        self.address = address
        self.link: Caller | None = None
        """The connection that messages may be sent on, if there is one."""
        self._owner = owner
        self._peer = peer
        self._task: asyncio.Task[None] | None = None
        self._complaint = ""

    def start(self) -> None:
        """Begin to dial."""
        self._task = asyncio.get_running_loop().create_task(self._keep_connected(), name=f"dial {self._peer}")

    def stop(self) -> None:
        """Stop dialling, and close the connection."""
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Wait until it has stopped."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_connected(self) -> None:
        settings = self._owner.settings
        while True:
            try:
                await self._hold_one_connection()
            except (OSError, TimeoutError) as error:
                self._complain(f"{type(error).__name__}: {error}")
            await asyncio.sleep(self._owner.rng.uniform(settings.reconnect_min_s, settings.reconnect_max_s))

    async def _hold_one_connection(self) -> None:
        hello = Hello(PROTOCOL_VERSION, self._owner.cluster, self._owner.me, self._peer)
        host, port = split_address(self.address)
        context = self._owner.trust.contexts().calling
        limit_s = None if context is None else self._owner.settings.handshake_timeout_s
        async with asyncio.timeout(self._owner.settings.connect_timeout_s):
            _, caller = await asyncio.get_running_loop().create_connection(
                lambda: Caller(self._owner, hello),
                host,
                port,
                ssl=context,
                # The name is no secret of ours to tell, and no proof: the certificate holds the identity.
                server_hostname=None if context is None else "",
                ssl_handshake_timeout=limit_s,
                ssl_shutdown_timeout=limit_s,
            )
        try:
            await caller.welcome
            self._complaint = ""
            self.link = caller
            self._owner.peer_reached(self._peer)
            await caller.gone
        finally:
            was_up = self.link is not None
            self.link = None
            caller.abort()
            if was_up:
                self._owner.peer_lost(self._peer)

    def _complain(self, what: str) -> None:
        """Say what is wrong when it changes, not at every attempt."""
        self._owner.counters["connections_failed"] += 1
        if what != self._complaint:
            self._complaint = what
            log.info("cannot reach %s at %s yet: %s", self._peer, self.address, what)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port"; brackets around an IPv6 address are taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _set_options(transport: asyncio.Transport, settings: RaftSettings) -> None:
    """Send at once, and let the kernel find out that a peer's machine is gone: nothing else would on a
    link that is idle."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    timeout_ms = int(settings.link_timeout_s * 1000)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_S),
        ("TCP_USER_TIMEOUT", timeout_ms),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
