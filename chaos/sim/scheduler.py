"""Virtual time: what is to happen, in order. Nothing here waits; time is whenever the next thing happens."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

Action = Callable[[], None]

Event = list[Any]
"""Something to happen: when, its number, the action, or None if it was cancelled. A world has hundreds of
thousands, and lists are made and compared without any code of ours."""

WHEN: Final = 0
ACTION: Final = 2


def cancel(event: Event) -> None:
    """Let it not happen."""
    event[ACTION] = None


class Scheduler:
    """Seconds since the world began, and a queue of events. What falls on the same moment happens in the
    order in which it was asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._queue: list[Event] = []
        self._order = count()

    def at(self, when: float, action: Action) -> Event:
        """Have `action` happen at `when`, or now if that is past."""
        if when < self.now:
            when = self.now
        event = [when, next(self._order), action]
        heappush(self._queue, event)
        return event

    def after(self, delay: float, action: Action) -> Event:
        """Have `action` happen so many seconds from now."""
        return self.at(self.now + delay, action)

    def run(self, until: float) -> None:
        """Let everything happen up to and with that moment."""
        queue = self._queue
        while queue and queue[0][WHEN] <= until:
            when, _, action = heappop(queue)
            if action is not None:
                self.now = when
                self.steps += 1
                action()
        self.now = until
