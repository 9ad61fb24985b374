"""Virtual time: what is to happen, in order. Nothing here waits; time is whenever the next thing happens."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

Action = Callable[[], None]


class Event:
    """Something to happen at a moment, unless it is cancelled before."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Action) -> None:
        self.when = when
        self.action: Action | None = action

    def cancel(self) -> None:
        """Let it not happen."""
        self.action = None


class Scheduler:
    """Seconds since the world began, and a queue of events. What falls on the same moment happens in the
    order in which it was asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._queue: list[tuple[float, int, Event]] = []
        self._order = count()

    def at(self, when: float, action: Action) -> Event:
        """Have `action` happen at `when`, or now if that is past."""
        if when < self.now:
            when = self.now
        event = Event(when, action)
        heapq.heappush(self._queue, (when, next(self._order), event))
        return event

    def after(self, delay: float, action: Action) -> Event:
        """Have `action` happen so many seconds from now."""
        return self.at(self.now + delay, action)

    def run(self, until: float) -> None:
        """Let everything happen up to and with that moment."""
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= until:
            when, _, event = pop(queue)
            action = event.action
            if action is not None:
                self.now = when
                self.steps += 1
                action()
        self.now = until
