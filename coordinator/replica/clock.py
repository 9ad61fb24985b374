"""The wall clock that the leader stamps entries with. Injected, so that a simulator can turn its hands."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""


class SystemClock:
    """This machine's."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000
