"""The wire between nodes as TCP, with TLS on it if wanted.

A listening port hands over each connection before anything is agreed on it and before any byte is read, so
that whoever gets it decides how many there may be.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, Self

from coordinator.consensus.wire import Call

log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.1
"""After an accept that failed, as it does for a process that has no file descriptor left."""


class TcpWire:
    """`Wire` on this machine's network. Names are resolved at every attempt, off the event loop. A TLS
    handshake may take `handshake_timeout_s`."""

    def __init__(self, handshake_timeout_s: float) -> None:
        self._handshake_timeout_s = handshake_timeout_s

    async def listen(self, host: str, port: int, welcome: Callable[[Call], Awaitable[None]]) -> ListeningPort:
        """As `Wire.listen`."""
        return await ListeningPort.open(
            host, port, lambda connection: welcome(_Accepted(connection, self._handshake_timeout_s))
        )

    async def dial(
        self, protocol: asyncio.Protocol, host: str, port: int, context: ssl.SSLContext | None
    ) -> None:
        """As `Wire.dial`."""
        limit_s = None if context is None else self._handshake_timeout_s
        await asyncio.get_running_loop().create_connection(
            lambda: protocol,
            host,
            port,
            ssl=context,
            # The name is no secret of ours to tell, and no proof: the certificate holds the identity.
            server_hostname=None if context is None else "",
            ssl_handshake_timeout=limit_s,
            ssl_shutdown_timeout=limit_s,
        )


class _Accepted:
    """`Call`."""

    def __init__(self, connection: socket.socket, handshake_timeout_s: float) -> None:
        self._connection = connection
        self._handshake_timeout_s = handshake_timeout_s

    async def take(self, protocol: asyncio.Protocol, context: ssl.SSLContext | None) -> None:
        """As `Call.take`."""
        limit_s = None if context is None else self._handshake_timeout_s
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: protocol,
            self._connection,
            ssl=context,
            ssl_handshake_timeout=limit_s,
            ssl_shutdown_timeout=limit_s,
        )

    def refuse(self) -> None:
        """As `Call.refuse`."""
        self._connection.close()


class ListeningPort:
    """Accepts on every address of a host, until closed."""

    def __init__(
        self, sockets: list[socket.socket], welcome: Callable[[socket.socket], Awaitable[None]]
    ) -> None:
        """Use `open`."""
        self._sockets = sockets
        self._welcome = welcome
        self._tasks = {asyncio.ensure_future(self._accept(one)) for one in sockets}

    @classmethod
    async def open(cls, host: str, port: int, welcome: Callable[[socket.socket], Awaitable[None]]) -> Self:
        """Listen, and await `welcome` with every connection, many at once. Raises OSError."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets: list[socket.socket] = []
        try:
            for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
                sockets.append(socket.create_server(address[:2], family=family))
        except OSError:
            for one in sockets:
                one.close()
            raise
        return cls(sockets, welcome)

    @property
    def number(self) -> int:
        """The port, which the system chose if it was given as 0."""
        number: int = self._sockets[0].getsockname()[1]
        return number

    def close(self) -> None:
        """Listen no more, and give up what is being welcomed."""
        for task in self._tasks:
            task.cancel()
        for one in self._sockets:
            one.close()

    async def _accept(self, listening: socket.socket) -> None:
        listening.setblocking(False)
        while True:
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(listening)
            except Exception as error:
                log.warning("cannot take a connection: %r", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            task = asyncio.ensure_future(self._welcome(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
