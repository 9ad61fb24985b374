"""How connections between nodes come about: what the transport needs below it. Bytes on them go through
asyncio's own protocols and transports."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol


class Call(Protocol):
    """A connection that another node has opened, and of which nothing has been read yet."""

    async def take(self, protocol: asyncio.Protocol, context: ssl.SSLContext | None) -> None:
        """Serve it with `protocol`, once TLS is agreed if there is a context. Raises OSError."""

    def refuse(self) -> None:
        """Close it."""


class Port(Protocol):
    """Where a node listens."""

    @property
    def number(self) -> int:
        """The port, which the system chose if it was asked for 0."""

    def close(self) -> None:
        """Listen no more, and give up what is being welcomed."""


class Wire(Protocol):
    """Listens and dials."""

    async def listen(self, host: str, port: int, welcome: Callable[[Call], Awaitable[None]]) -> Port:
        """Await `welcome` with every call that comes, many at once. Raises OSError."""

    async def dial(
        self, protocol: asyncio.Protocol, host: str, port: int, context: ssl.SSLContext | None
    ) -> None:
        """Connect, agree on TLS if there is a context, and serve the connection with `protocol`. Whoever
        is cancelled meanwhile leaves no connection behind. Raises OSError."""
