"""Whether memory and latency stay as they are under a load that goes on, window of time by window."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

MAX_GROWTH: Final = 1.1
"""What the leader's memory may be after the last window, to what it was after the warm-up."""
MAX_SLOWER: Final = 1.5
"""What p99 may be in the last third of all windows, to the second third; medians of each."""

LEAST_WINDOWS: Final = 6


class Window(NamedTuple):
    """Of the DAGs that ended in it, how many there were and how long they took; and what the leader had in
    memory when it was over."""

    dags: int
    p50_ms: float
    p99_ms: float
    leader_mib: float

    def __str__(self) -> str:
        return (
            f"{self.dags} DAGs, p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, {self.leader_mib:.0f} MiB"
        )

    @classmethod
    def of(cls, times_ms: Sequence[float], leader_mib: float) -> Window:
        """From what each of its DAGs took. Raises RuntimeError if there are fewer than two."""
        if len(times_ms) < 2:
            raise RuntimeError(f"{len(times_ms)} DAGs have ended in a window: there is no p99 of so few")
        cuts = statistics.quantiles(times_ms, n=100)
        return cls(len(times_ms), cuts[49], cuts[98], leader_mib)


class Verdict(NamedTuple):
    """The ratios that are bounded. A first third of the windows warms up: caches fill, and histories reach
    their bounds."""

    growth: float
    slower: float

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Verdict:
        """From windows of equal length, `LEAST_WINDOWS` at least."""
        third = len(windows) // 3
        second, last = (
            statistics.median(window.p99_ms for window in part)
            for part in (windows[third : 2 * third], windows[-third:])
        )
        return cls(windows[-1].leader_mib / windows[third - 1].leader_mib, last / second)

    @property
    def flat(self) -> bool:
        """Whether both are within their bounds."""
        return self.growth <= MAX_GROWTH and self.slower <= MAX_SLOWER

    def __str__(self) -> str:
        return (
            f"memory is {self.growth:.2f} times that after the warm-up (at most {MAX_GROWTH}), "
            f"p99 {self.slower:.2f} times (at most {MAX_SLOWER})"
        )
