"""Attempts that may end at any moment, with others that were given at the same time."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

AT_ONCE_S: Final = 0.002
"""Attempts that are expected to last longer end one here and one there."""

_LOST_S: Final = 0.25
"""Who has not ended by then, queue and all, is not about to."""


class Due:
    """By the clock that it is given, in seconds."""

    def __init__(self) -> None:
        self._given_s: OrderedDict[tuple[int, int], float] = OrderedDict()
        """The first of it is found at once, however many before it are gone."""

    def given(self, key: int, attempt: int, seconds: float, now_s: float) -> None:
        """An agent has got this attempt, which is expected to last so long."""
        if seconds <= AT_ONCE_S:
            self._given_s[key, attempt] = now_s

    def over(self, key: int, attempt: int) -> None:
        """It has ended, or been taken back; one that was not due is fine."""
        self._given_s.pop((key, attempt), None)

    def any(self, now_s: float) -> bool:
        """Whether there is one. Those that were given too long ago, or later than now, are forgotten."""
        given_s = self._given_s
        while given_s:
            oldest = next(iter(given_s))
            if 0 <= now_s - given_s[oldest] <= _LOST_S:
                return True
            del given_s[oldest]
        return False
