"""How old a follower's state may be at most. Pure."""

from __future__ import annotations

import math


class Freshness:
    """When the state here was last known to hold everything that had been committed.

    A leader's commit index says nothing about what earlier leaders acknowledged before an entry of its own
    term is committed (Raft, section 8), so a state counts as current only if it ends in that term. The time
    that a message took to come is not known and not counted.
    """

    def __init__(self) -> None:
        self.current_s = -math.inf
        """Seconds of the node's clock; -inf if never."""
        self._awaited: tuple[int, float] | None = None

    def heard(self, commit: int, *, applied: int, same_term: bool, now: float) -> None:
        """The leader has named its commit index. `same_term`: the last entry applied is of its term."""
        if applied >= commit and same_term:
            self.current_s = now
            self._awaited = None
        elif self._awaited is None or commit <= self._awaited[0]:
            self._awaited = (commit, now)

    def term_ended(self) -> None:
        """What the former leader named last may have been less than others had committed by then."""
        self._awaited = None

    def applied(self, index: int, *, same_term: bool) -> None:
        """The state has moved on to `index`."""
        if self._awaited is not None and index >= self._awaited[0]:
            if same_term:
                self.current_s = self._awaited[1]
            self._awaited = None
