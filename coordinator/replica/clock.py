"""The time that the leader stamps entries with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""


def wall_ms() -> int:
    """Unix time in milliseconds, by this machine."""
    return time.time_ns() // 1_000_000


class TermClock:
    """Follows the event loop's monotonic clock from an anchor, which is set when a term of leadership begins.

    The replicated time never goes back, so a leader whose clock ran ahead would make it stand still under
    its successors, and every delay with it. A successor goes on from the replicated time instead. Steps
    of the wall clock within a term change nothing. Belongs to the running loop.
    """

    def __init__(self, wall: Callable[[], int] = wall_ms) -> None:
        self._wall = wall
        # To ask for the running loop costs a call of the system in Python 3.11.
        self._loop_s = asyncio.get_running_loop().time
        self._anchor_ms = 0
        self._anchored_s = 0.0
        self.anchor(0)

    def anchor(self, at_least_ms: int) -> None:
        """Begin anew from the wall clock, or from `at_least_ms` if that is later."""
        self._anchor_ms = max(self._wall(), at_least_ms)
        self._anchored_s = self._loop_s()

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return self._anchor_ms + int((self._loop_s() - self._anchored_s) * 1000)
