"""How long placement waits after a round before it makes the next one.

What a round costs whatever it places is spent once for all that has come meanwhile. So where rounds that
place little each take more than a share of the time, the pause between them grows, by a factor at a time and
up to a bound; it shrinks as their share does, and there is none where each choice might have a round of its
own. Between the two shares it rests: a step changes the share by less than lies between them (the dead zone
of `batch`). While no agent has a slot free, whatever is placed waits in a queue anyway: then the pause may be
longer."""

from __future__ import annotations

import math
from typing import Final

from coordinator.scheduling.adaptation.batch import LEAST_MEASURED
from coordinator.scheduling.decision_log import Adapted

WINDOW_S: Final = 0.25
"""Rounds are judged together that ended within so long."""

_BUSY: Final = 0.15
"""The share of the time from which on rounds are too many,"""
_IDLE: Final = 0.05
"""below which they need not be held back as much."""
_ALONE: Final = 0.10
"""Below this share for rounds of one choice each, none is held back."""

_AT_ONCE: Final = 2.0
_LEAST_S: Final = 0.001


class Interval:
    """The pause after a round of few choices: `seconds`, 0 at first and `most_s` at most, or while all slots
    are taken `busy_s`, where that is more."""

    def __init__(self, most_s: float, busy_s: float = 0.0) -> None:
        self._most_s = most_s
        self._busy_most_s = max(most_s, busy_s)
        self._since_s = self._ended_s = -math.inf
        self._rounds = self._choices = 0
        self._busy_s = 0.0
        self.seconds = 0.0

    def left(self, now_s: float, *, all_busy: bool = False) -> float:
        """What is left of the pause, 0 if it is over; whatever the clock does, no more than `seconds`."""
        pause_s = min(self.seconds, self._most(all_busy))
        return max(0.0, min(pause_s, self._ended_s + pause_s - now_s))

    def observe(
        self, choices: int, duration_s: float, now_s: float, *, all_busy: bool = False
    ) -> Adapted | None:
        """A round that has lasted so long ends now; returns what changes because of it. A round of many is
        followed by the next at once: there is nothing to wait for."""
        self._ended_s = now_s if choices < LEAST_MEASURED else -math.inf
        lasted_s = now_s - self._since_s
        if not (0 <= duration_s < math.inf and 0 <= lasted_s < math.inf):
            self._begin(now_s)
            return None
        self._rounds += 1
        self._choices += choices
        self._busy_s += duration_s
        if lasted_s < WINDOW_S:
            return None
        each, busy = self._choices / self._rounds, self._busy_s / lasted_s
        self._begin(now_s)
        before, self.seconds = self.seconds, self._wanted(each, busy, all_busy)
        if self.seconds == before:
            return None
        because = (
            f"rounds of {each:.1f} choices took {100 * busy:.0f} % of the time; wanted: {100 * _IDLE:.0f} to "
            f"{100 * _BUSY:.0f} %"
        )
        return Adapted("interval_ms", 1e3 * before, 1e3 * self.seconds, because)

    def _begin(self, now_s: float) -> None:
        self._since_s = now_s
        self._rounds = self._choices = 0
        self._busy_s = 0.0

    def _most(self, all_busy: bool) -> float:
        return self._busy_most_s if all_busy else self._most_s

    def _wanted(self, each: float, busy: float, all_busy: bool) -> float:
        if busy * max(each, 1.0) < _ALONE:
            return 0.0
        if busy > _BUSY and each < LEAST_MEASURED:
            most_s = max(self.seconds, self._most(all_busy))
            return min(max(self.seconds * _AT_ONCE, _LEAST_S), most_s)
        if busy < _IDLE:
            return min(max(self.seconds / _AT_ONCE, _LEAST_S), self.seconds)
        return self.seconds
