"""For how much longer than expected an attempt must have lasted before it gets a second one: by how many of
those that were begun have given the result.

One that is begun early seldom overtakes the first, and what it has done is thrown away; where most of them
overtake it, they came late. The longer an attempt has lasted, the longer it goes on, where durations have a
heavy tail, so that the share of those that win grows with the patience: it is raised below one share, and
lowered above another, and rests in between."""

from __future__ import annotations

import math
from typing import Final

from coordinator.scheduling.decision_log import Adapted

RACES: Final = 16
"""Tasks that have ended with several attempts, before they are judged together."""

FEW: Final = 0.25
MOST: Final = 0.5
"""Shares of races that are won by a later attempt than the first, between which nothing changes."""

_STEP: Final = 1.25


class Patience:
    """`factor` begins with that of the policy and stays from `least` to `most`, or where the policy is beyond
    these, up to its own. A policy without patience keeps to that."""

    def __init__(self, factor: float, least: float, most: float) -> None:
        self._least = min(least, factor)
        self._most = max(most, factor)
        self._won = self._raced = 0
        self.factor = factor

    def observe(self, won: int, raced: int) -> Adapted | None:
        """So many tasks have ended that had several attempts, so many of them by a later one than the first;
        returns what changes because of it."""
        self._won += won
        self._raced += raced
        if self._raced < RACES:
            return None
        won, raced = self._won, self._raced
        self._won = self._raced = 0
        before, self.factor = self.factor, self._wanted(won / raced)
        if self.factor == before:
            return None
        because = (
            f"of {raced} tasks with several attempts {won} were ended by a later one than the first; wanted: "
            f"{100 * FEW:.0f} to {100 * MOST:.0f} %"
        )
        return Adapted("patience", before, self.factor, because)

    def _wanted(self, share: float) -> float:
        if math.isclose(self.factor, 0.0):
            return self.factor
        if share < FEW:
            return min(self.factor * _STEP, self._most)
        if share > MOST:
            return max(self.factor / _STEP, self._least)
        return self.factor
