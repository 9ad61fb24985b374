"""The agents that a new leader waits for, before it gives what they hold to others.

Each has some time to come back. Where many come back at once that may be too short for the last of them,
though nothing is wrong with any: as long as some still arrive, those that are missing may be on their way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from coordinator.defects import Defects

_QUIET: Final = 1 / 2
"""Of the time that each has: when nobody has come back for so long, those that are missing will not."""
_EACH_S: Final = 0.001
"""What one more agent adds to the time of all: the cores that serve them are shared."""


class Returning:
    """Waits for agents for `grace_s`, a little longer if they are many, and for as long as they keep
    arriving, but no longer than `limit_s`. Then `lose` is told each that is missing, and the epoch of its
    last session."""

    def __init__(
        self,
        lose: Callable[[str, int], None],
        defects: Defects,
        *,
        grace_s: float,
        limit_s: float,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """It tells the time by `loop`, the running one unless given."""
        self._lose = lose
        self._defects = defects
        self._loop = loop or asyncio.get_running_loop()
        self._grace_s = grace_s
        self._limit_s = limit_s
        self._missing: dict[str, int] = {}
        self._began_s = self._arrived_s = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def begin(self, agents: Mapping[str, int]) -> None:
        """Wait for these agents, which have a session of this epoch."""
        self._missing = dict(agents)
        if self._missing:
            self._began_s = self._arrived_s = self._loop.time()
            least_s = min(self._grace_s + _EACH_S * len(agents), max(self._grace_s, self._limit_s))
            self._handle = self._loop.call_at(self._began_s + least_s, self._look)

    def connected(self, agent: str, epoch: int) -> None:
        """The agent has a session of this epoch, be it a new one or that of before."""
        if self._missing.get(agent, epoch) != epoch:
            del self._missing[agent]
            self._arrived_s = self._loop.time()

    def stop(self) -> None:
        """Wait no longer, and lose none."""
        if self._handle is not None:
            self._handle.cancel()

    def _look(self) -> None:
        over_s = min(self._arrived_s + _QUIET * self._grace_s, self._began_s + self._limit_s)
        if self._missing and self._loop.time() < over_s:
            self._handle = self._loop.call_at(over_s, self._look)
            return
        missing, self._missing = self._missing, {}
        with self._defects.vital("returning"):
            for agent, epoch in missing.items():
                self._lose(agent, epoch)
