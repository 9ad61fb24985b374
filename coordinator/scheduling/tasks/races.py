"""How second attempts have turned out."""

from __future__ import annotations

from typing import NamedTuple


class Raced(NamedTuple):
    """Tasks that have ended while several attempts of them were with agents; `won` are those to which a later
    attempt than the first of these gave the result."""

    won: int
    raced: int


class Races:
    """Those that nobody has asked about yet."""

    def __init__(self) -> None:
        self._won = self._raced = 0

    def ended(self, attempt: int, live: list[int]) -> None:
        """This attempt of a task has given its result while these were with agents."""
        if len(live) > 1 and attempt in live:
            self._raced += 1
            self._won += attempt > min(live)

    def take(self) -> Raced:
        """Since the last call."""
        raced = Raced(self._won, self._raced)
        self._won = self._raced = 0
        return raced
