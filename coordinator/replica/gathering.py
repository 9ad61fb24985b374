"""How long an entry waits for more commands before it leaves.

What an entry costs whatever it carries - a tick, frames to and from every follower, a sync, a write - is
spent once for all that it carries. Where this node has more to do than it can, entries of few commands would
take up its time: then each waits, and the longer, the more the load adds to the time that a commit takes.
Where it has not, or commands come one by one, waiting would win nothing: then none does.
"""

from __future__ import annotations

import math
from typing import Final

_WEIGHT: Final = 1 / 8
"""Of the newest gap, or commit, in the smoothed one."""

_FORGET: Final = 1 / 1_024
"""By this part of the way per commit, the quickest commit is forgotten."""

_TIMES: Final = 4.0
"""An entry waits for so many times what the load adds to a commit."""

_LONGEST_GAP_S: Final = 1.0

ENOUGH: Final = 32
"""Commands beside which an entry costs little."""


class Pace:
    """How closely commands come, beside how long a commit takes, both smoothed. All times are seconds."""

    def __init__(self) -> None:
        self._came_s = self._made_s = -math.inf
        self._gap_s = _LONGEST_GAP_S
        self._making_s = 0.0
        self._commit_s = 0.0

    def came(self, now_s: float) -> None:
        """A command has come."""
        gap_s = min(max(now_s - max(self._came_s, self._made_s), 0.0), _LONGEST_GAP_S)
        self._came_s = now_s
        self._gap_s += _WEIGHT * (gap_s - self._gap_s)

    def made(self, began_s: float, ended_s: float) -> None:
        """An entry has been made, and nobody could come meanwhile."""
        self._made_s = ended_s
        self._making_s += _WEIGHT * (ended_s - began_s - self._making_s)

    def committed(self, took_s: float) -> None:
        """An entry has been applied, so long after it left."""
        self._commit_s += (_WEIGHT if self._commit_s else 1.0) * (took_s - self._commit_s)

    @property
    def is_dense(self) -> bool:
        """Whether the next command is to be expected within a commit."""
        return self._gap_s + self._making_s < self._commit_s


class Gathering(Pace):
    """How long an entry waits, by the pace of all commands: for `most_s` seconds at most."""

    def __init__(self, most_s: float) -> None:
        super().__init__()
        self._most_s = most_s
        self._quickest_s = math.inf

    def committed(self, took_s: float) -> None:
        """As `Pace.committed`."""
        super().committed(took_s)
        self._quickest_s = min(self._quickest_s, took_s)
        self._quickest_s += _FORGET * (took_s - self._quickest_s)

    @property
    def wait_s(self) -> float:
        """How long an entry waits now: not at all where the next command is not expected within a commit."""
        return self.worth_s if self.is_dense else 0.0

    @property
    def worth_s(self) -> float:
        """How long an entry may wait now for what is sure to come."""
        return min(_TIMES * max(self._commit_s - self._quickest_s, 0.0), self._most_s)
