"""How often agents report their load, so that all together stay below a bound."""

from __future__ import annotations

from typing import Final

SHIFT: Final = 0.25
"""Agents are told of another interval when it has changed by more than this share."""


class Pace:
    """One interval for all agents: the shortest one, `least_ms`, or so long that they do not report more than
    `most_per_s` times a second together, with what may come before it is told anew already counted."""

    def __init__(self, least_ms: int, most_per_s: int) -> None:
        self._least_ms = least_ms
        self._most_per_s = most_per_s
        self.interval_ms = least_ms
        """What agents have been told last."""

    def count(self, agents: int) -> bool:
        """So many agents are connected; whether the interval is another one now, and all are to be told."""
        needed = max(self._least_ms, _rounded_up(agents * 1000 * (1 + SHIFT) / self._most_per_s))
        if abs(needed - self.interval_ms) <= SHIFT * self.interval_ms:
            return False
        self.interval_ms = needed
        return True


def _rounded_up(value: float) -> int:
    return -int(-value // 1)
