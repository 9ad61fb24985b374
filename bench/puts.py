"""Writes of small values by one or many clients, each with a connection of its own: what each write took."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, NamedTuple

import grpc.aio

VALUE_BYTES: Final = 256
_KEYS: Final = 1_000
_WARM_UP: Final = 50
_LEAST: Final = 10
"""Of fewer writes there is no p99."""

Put = Callable[[str, bytes], Awaitable[object]]
Connect = Callable[[str], AbstractAsyncContextManager[Put]]
"""Connects a client to the node at an address."""


class Load(NamedTuple):
    """So many clients, each with so many writes under way at once; how many writes in a turn, and turns in a
    run."""

    clients: int
    at_once: int
    writes: int
    turns: int = 1

    def __str__(self) -> str:
        return f"{self.clients} x {self.at_once}"

    @property
    def writers(self) -> int:
        """Of all clients together."""
        return self.clients * self.at_once

    @property
    def of_each(self) -> int:
        """Writes in a turn of one writer."""
        return -(-self.writes // self.writers)

    @property
    def all_writes(self) -> int:
        """Those of a turn, and those before it that do not count."""
        return self.writers * (self.of_each + _WARM_UP)

    def scaled(self, scale: float) -> Load:
        """So large a part of its writes, one of each writer at least, to try things with: what comes of it is
        no measurement."""
        return self._replace(writes=max(_LEAST, self.writers, round(self.writes * scale)))


class Side(NamedTuple):
    """One of those that are compared: whom to write to, and how."""

    name: str
    leader: str
    connect: Connect


class Turn(NamedTuple):
    """How long each write took and all together, in seconds."""

    each: list[float]
    all: float


class Puts(NamedTuple):
    """Latency in milliseconds, and writes per second of all clients together."""

    p50: float
    p99: float
    per_s: float

    @classmethod
    def of(cls, turns: list[Turn]) -> Puts:
        """All writes of some turns."""
        times = [took for turn in turns for took in turn.each]
        cuts = statistics.quantiles(times, n=100)
        return cls(cuts[49] * 1e3, cuts[98] * 1e3, len(times) / sum(turn.all for turn in turns))


async def take_turn(address: str, connect: Connect, load: Load) -> Turn:
    """Write, after a few that do not count."""
    async with AsyncExitStack() as connected:
        clients = [await connected.enter_async_context(connect(address)) for _ in range(load.clients)]
        writers = [(f"{at}", put) for at, put in enumerate(clients * load.at_once)]
        await asyncio.gather(*(_write(put, f"warm-{name}", _WARM_UP) for name, put in writers))
        began = time.perf_counter()
        each = [_write(put, f"key-{name}", load.of_each) for name, put in writers]
        times = [took for one in await asyncio.gather(*each) for took in one]
        return Turn(times, time.perf_counter() - began)


async def alternate(sides: Sequence[Side], load: Load) -> dict[str, Puts]:
    """A run of each side, by name, their turns one after the other, so that whatever else the machine does
    meets all alike."""
    turns: dict[str, list[Turn]] = {side.name: [] for side in sides}
    for _ in range(load.turns):
        for side in sides:
            turns[side.name].append(await take_turn(side.leader, side.connect, load))
    return {name: Puts.of(taken) for name, taken in turns.items()}


@asynccontextmanager
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own."""
    # Without this, channels to one address share a connection.
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as opened:
        yield opened


async def _write(put: Put, name: str, times: int) -> list[float]:
    took = []
    value = bytes(range(256)) * (VALUE_BYTES // 256)
    for at in range(times):
        key = f"{name}-{at % _KEYS}"
        began = time.perf_counter()
        await put(key, value)
        took.append(time.perf_counter() - began)
    return took
