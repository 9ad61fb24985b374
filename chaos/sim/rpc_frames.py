"""What gRPC's two sides say to each other on a connection. Messages are serialized, as on a real one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple

import grpc

PORT: Final = "grpc"

Metadata = tuple[tuple[str, str | bytes], ...]


class Begin(NamedTuple):
    """A call begins. `timeout_s` is what is left of its time, None if it has no end."""

    call: int
    method: str
    timeout_s: float | None


class Data(NamedTuple):
    """One message of a call, in either direction."""

    call: int
    payload: bytes


class HalfClose(NamedTuple):
    """The client sends no more messages."""

    call: int


class Cancel(NamedTuple):
    """The client has lost interest."""

    call: int


class Status(NamedTuple):
    """The server's last word on a call."""

    call: int
    code: grpc.StatusCode
    details: str
    trailing: Metadata


class Inbox:
    """Messages of one direction of a call, in order, until it is closed."""

    def __init__(self) -> None:
        self.closed = False
        self._messages: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, payload: bytes) -> None:
        """A message has arrived."""
        self._messages.append(payload)
        self._wake()

    def close(self) -> None:
        """Nothing more will come."""
        self.closed = True
        self._wake()

    async def get(self) -> bytes | None:
        """The next message; None when there is none and none will come. For one reader at a time."""
        while not self._messages:
            if self.closed:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._messages.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
