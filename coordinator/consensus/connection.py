"""What both ends of a connection between two nodes have in common."""

from __future__ import annotations

import asyncio
import socket
from typing import Final, cast

from coordinator.consensus.framing import MAX_HANDSHAKE_BYTES, FrameReader
from coordinator.consensus.settings import RaftSettings

_KEEPALIVE_S: Final = 1


class Link(asyncio.Protocol):
    """Frames in, bytes out, and a deadline for the handshake."""

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


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port"; brackets around an IPv6 address are taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _set_options(transport: asyncio.Transport, settings: RaftSettings) -> None:
    """Send at once, and let the kernel find out that a peer's machine is gone: nothing else would on a
    link that is idle. A link that has no socket has no kernel to ask."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
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
