"""Pauses between tries."""

from __future__ import annotations

import random


class Backoff:
    """Ceilings that double from `first_s` up to `limit_s`, with full jitter: many that fail together do not
    return together (Brooker, "Exponential Backoff and Jitter", 2015)."""

    def __init__(self, first_s: float, rng: random.Random, limit_s: float = 0.5) -> None:
        self._rng = rng
        self._limit_s = limit_s
        self._ceiling_s = first_s

    def next_s(self) -> float:
        """The next pause, in seconds."""
        pause = self._rng.uniform(0.0, self._ceiling_s)
        self._ceiling_s = min(self._limit_s, self._ceiling_s * 2)
        return pause
