"""Writes of small values by one or many clients, each with a connection of its own and one write at a time:
what each took."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import grpc.aio

VALUE_BYTES: Final = 256
_KEYS: Final = 1_000
_WARM_UP: Final = 50

Put = Callable[[str, bytes], Awaitable[None]]
Connect = Callable[[grpc.aio.Channel], Put]
"""Makes the write of one client from its channel."""


class Puts(NamedTuple):
    """Latency in milliseconds, and writes per second of all clients together."""

    p50: float
    p99: float
    per_s: float


async def puts(address: str, connect: Connect, *, clients: int, writes: int) -> Puts:
    """Write `writes` values in all, after a few that do not count."""
    channels = [_channel(address) for _ in range(clients)]
    try:
        senders = [connect(channel) for channel in channels]
        await asyncio.gather(*(_write(put, f"warm-{at}", _WARM_UP) for at, put in enumerate(senders)))
        began = time.perf_counter()
        each = [_write(put, f"key-{at}", writes // clients) for at, put in enumerate(senders)]
        times = [took for one in await asyncio.gather(*each) for took in one]
        per_s = len(times) / (time.perf_counter() - began)
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    cuts = statistics.quantiles(times, n=100)
    return Puts(cuts[49] * 1e3, cuts[98] * 1e3, per_s)


async def _write(put: Put, name: str, count: int) -> list[float]:
    times = []
    value = bytes(range(256)) * (VALUE_BYTES // 256)
    for at in range(count):
        key = f"{name}-{at % _KEYS}"
        began = time.perf_counter()
        await put(key, value)
        times.append(time.perf_counter() - began)
    return times


def _channel(address: str) -> grpc.aio.Channel:
    # Without this, channels to one address share a connection.
    return grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
