"""How many choices a round makes: as many as keep it within a time, by what rounds have taken.

A round of n choices is taken to last `fixed + each x n`. What rounds of one size last does not tell these
apart; what they last before and after a change of the size does. The size then follows what is measured in
proportion, by no more than a factor at once, and only where it is off by more than a little (a proportional
controller with a dead zone: Hellerstein et al., Feedback Control of Computing Systems, 2004, chapter 9). What
is fixed may take half of a round, however long that lasts: smaller ones would only be more of them."""

from __future__ import annotations

import math
from typing import Final

from coordinator.scheduling.decision_log import Adapted

LEAST_MEASURED: Final = 32
"""Choices of a round from which on it says something of what each takes."""

_MEMORY: Final = 0.8
"""The weight of all earlier rounds, with each new one."""

_SETTLING: Final = 5
"""Rounds of one size before it is judged."""

_LITTLE: Final = 1.25
_AT_ONCE: Final = 2.0


class Batch:
    """The size of rounds, from `least` to `most`, that last `target_s`; it begins with the most."""

    def __init__(self, target_s: float, least: int, most: int) -> None:
        self._target_s = target_s
        self._least = least
        self._most = most
        self._rounds = 0
        self._weight = self._choices = self._seconds = 0.0
        """Sums over the rounds since the last change."""
        self._before: tuple[float, float] | None = None
        """What rounds made and lasted in the mean before that, until it has been compared with."""
        self._share = 1.0
        """Of a duration, the part that grows with the size."""
        self.size = most

    def observe(self, choices: int, duration_s: float) -> Adapted | None:
        """A round has lasted so long; returns what changes because of it. What is no duration is passed
        over."""
        if choices < LEAST_MEASURED or not 0 <= duration_s < math.inf:
            return None
        self._rounds += 1
        self._weight = _MEMORY * self._weight + 1
        self._choices = _MEMORY * self._choices + choices
        self._seconds = _MEMORY * self._seconds + duration_s
        if self._rounds < _SETTLING:
            return None
        made, lasted_s = self._choices / self._weight, self._seconds / self._weight
        self._compare(made, lasted_s)
        each_s = self._share * lasted_s / made
        size = self._wanted(lasted_s - each_s * made, each_s)
        alike = max(size, self.size) <= _LITTLE * min(size, self.size)
        if size == self.size or (alike and size not in (self._least, self._most)):
            return None
        before, self.size = self.size, size
        self._before = made, lasted_s
        self._rounds, self._weight, self._choices, self._seconds = 0, 0.0, 0.0, 0.0
        return Adapted(
            "batch",
            before,
            size,
            f"rounds of {made:.0f} choices took {1e3 * lasted_s:.1f} ms, {100 * self._share:.0f} % of it for "
            f"the choices; wanted: {1e3 * self._target_s:g} ms",
        )

    def _compare(self, made: float, lasted_s: float) -> None:
        if self._before is None:
            return
        made_before, lasted_before_s = self._before
        self._before = None
        if max(made, made_before) > _LITTLE * min(made, made_before) and lasted_s > 0:
            each_s = (lasted_s - lasted_before_s) / (made - made_before)
            self._share = min(max(each_s * made / lasted_s, 0.0), 1.0)

    def _wanted(self, fixed_s: float, each_s: float) -> int:
        wanted = max(self._target_s - fixed_s, fixed_s) / max(each_s, 1e-9)
        wanted = min(max(wanted, self.size / _AT_ONCE), self.size * _AT_ONCE)
        return min(max(round(wanted), self._least), self._most)
