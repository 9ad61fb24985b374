"""What a client or an agent needs of the machine that it runs on: channels to nodes, clocks, chance and
measurements.

Nothing else in the SDK touches any of them, so that a simulator which provides its own runs the very same
code.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import grpc.aio

from agent_sdk._channels import CLIENT_CONNECT_TIMEOUT_MS, open_channel
from agent_sdk._gauges import Gauges
from agent_sdk._load import LoadMeter, Meter


class Surroundings(NamedTuple):
    """`open_channel` connects to "host:port", `new_id` makes an id that nobody else has, `now_ns` gives
    monotonic nanoseconds, `meter` begins to measure the machine's load, beside what the program's gauges
    say."""

    open_channel: Callable[[str], grpc.aio.Channel]
    new_id: Callable[[], str]
    now_ns: Callable[[], int]
    meter: Callable[[Gauges | None], Meter]
    rng: random.Random


def this_machine(keepalive_ms: int, connect_timeout_ms: int = CLIENT_CONNECT_TIMEOUT_MS) -> Surroundings:
    """gRPC with pings at such pauses that tries for so long to connect, the system's clocks and chance, and
    psutil."""
    return Surroundings(
        open_channel=partial(open_channel, keepalive_ms=keepalive_ms, connect_timeout_ms=connect_timeout_ms),
        new_id=lambda: uuid.uuid4().hex,
        now_ns=time.perf_counter_ns,
        meter=LoadMeter,
        rng=random.Random(),  # noqa: S311 - jitter, not a secret
    )
