"""What happened in a world, in order: the same for the same seed, byte for byte."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import Final

from chaos.sim.scheduler import Scheduler

_KEPT: Final = 400


class Trace:
    """A rolling digest over all lines; the last ones are kept, or all."""

    def __init__(self, scheduler: Scheduler, *, keep_all: bool = False) -> None:
        self.count = 0
        self.lines: deque[str] = deque(maxlen=None if keep_all else _KEPT)
        self._scheduler = scheduler
        self._digest = blake2b(digest_size=8)

    def note(self, host: str, what: str) -> None:
        """Something worth telling has happened at `host`."""
        line = f"{self._scheduler.now:10.6f} {host:<8} {what}"
        self.count += 1
        self.lines.append(line)
        self._digest.update(line.encode() + b"\n")

    @property
    def digest(self) -> str:
        """Of every line so far."""
        return self._digest.hexdigest()
