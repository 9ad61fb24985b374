"""How gRPC waits for the sockets of the program `coordinator`
([decision 31](../../docs/decisions/0031-nodes-poll-with-room.md))."""

from __future__ import annotations

import asyncio
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

EXPERIMENTS: Final = "GRPC_EXPERIMENTS"
"""The variable of the environment that tells gRPC, as it starts, which of its parts to use."""

_POLLING: Final = "-event_engine_client,-event_engine_listener"

_TAKEN_BYTES: Final = 65_536
"""What one look at a pipe takes out of it: all that it holds on Linux."""


class _PipeEnd:
    """An end of a pipe, with what `grpc.aio` calls of a socket."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def setblocking(self, blocking: bool) -> None:
        os.set_blocking(self._descriptor, blocking)

    def recv(self, _size: int) -> bytes:
        """All that there is, whatever was asked for: each look handles all events that there are by then, so
        that a byte left behind would only have it look again."""
        return os.read(self._descriptor, _TAKEN_BYTES)

    def close(self) -> None:
        os.close(self._descriptor)


def use_polling_engine() -> None:
    """Have gRPC's older engine serve this process, with a thread that never waits for the event loop.

    To be called before anything imports `grpc`. Whoever sets `GRPC_EXPERIMENTS` has chosen an engine; that
    one is used.
    """
    chosen = EXPERIMENTS in os.environ
    if not chosen:
        os.environ[EXPERIMENTS] = _POLLING
    # Imported here, since it is then that gRPC chooses.
    import grpc.aio  # noqa: F401

    if not chosen:
        del os.environ[EXPERIMENTS]
    asyncio.run(_begin())


async def _begin() -> None:
    """Done in an event loop, since gRPC would make one that stays, and that asks for a pair too."""
    import grpc.aio

    with _pipes_for_pairs() as given:
        # Never given back: the next user of gRPC would have all of it made anew, with a pair of sockets.
        grpc.aio.init_grpc_aio()
    if not given:
        warnings.warn(
            "gRPC did not ask for a pair of sockets: it was begun before, or this version wakes the event "
            "loop in another way. Where it waits for the loop, many agents may lose their sessions; set "
            f"{EXPERIMENTS} to choose its engine yourself",
            RuntimeWarning,
            stacklevel=2,
        )


@contextmanager
def _pipes_for_pairs() -> Iterator[list[_PipeEnd]]:
    """While this lasts, who asks for a pair of sockets gets a pipe. Yields the ends that were given."""
    given: list[_PipeEnd] = []

    def pipe() -> list[_PipeEnd]:
        ends = [_PipeEnd(descriptor) for descriptor in os.pipe()]
        given.extend(ends)
        return ends

    socketpair = socket.socketpair
    socket.socketpair = pipe  # type: ignore[assignment]  # two ends of what is written and read, as it gives
    try:
        yield given
    finally:
        socket.socketpair = socketpair
