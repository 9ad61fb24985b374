"""Those who wait for DAGs to end."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

Told = Callable[[int], None]
"""Called once, with the revision at which the DAG has ended, or `NOT_KNOWN`. Must not raise."""

NOT_KNOWN: Final = 0
"""In the place of a revision: the DAG has not ended in time, or this node may not know."""


class Endings:
    """Listeners by number of a DAG. Bounded by the calls, and what streams ask for, that a node takes at
    once."""

    def __init__(self) -> None:
        self._listeners: dict[int, set[_Listener]] = defaultdict(set)

    def listen(self, number: int, timeout_s: float, told: Told) -> Callable[[], None]:
        """Have `told` called when the unfinished DAG of this number has ended, or is not known to within so
        long; returns what ends that before."""
        listener = _Listener(told)
        listener.timer = asyncio.get_running_loop().call_later(timeout_s, self._give_up, number, listener)
        self._listeners[number].add(listener)
        return partial(self._leave, number, listener)

    async def wait(self, number: int, timeout_s: float) -> bool:
        """Return whether the unfinished DAG of this number has ended within so long; False also as soon as
        this node may not know."""
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def told(revision: int) -> None:
            if not ended.done():
                ended.set_result(revision)

        leave = self.listen(number, timeout_s, told)
        try:
            return await ended != NOT_KNOWN
        finally:
            leave()

    def ended(self, numbers: Iterable[int], revision: int) -> None:
        """These DAGs have ended at this revision."""
        for number in numbers:
            self._tell(number, revision)

    def interrupt(self) -> None:
        """The state is another, or this node no longer leads."""
        for number in list(self._listeners):
            self._tell(number, NOT_KNOWN)

    def _tell(self, number: int, revision: int) -> None:
        for listener in self._listeners.pop(number, ()):
            listener.tell(revision)

    def _give_up(self, number: int, listener: _Listener) -> None:
        self._discard(number, listener)
        listener.tell(NOT_KNOWN)

    def _leave(self, number: int, listener: _Listener) -> None:
        self._discard(number, listener)
        listener.cancel()

    def _discard(self, number: int, listener: _Listener) -> None:
        listeners = self._listeners.get(number)
        if listeners is not None:
            listeners.discard(listener)
            if not listeners:
                del self._listeners[number]


class _Listener:
    """Who is told, and when at the latest. It lets go of whom it has told: they may hold what ends the
    waiting, and would have to be found by the garbage collector."""

    __slots__ = ("_told", "timer")

    def __init__(self, told: Told) -> None:
        self._told: Told | None = told
        self.timer: asyncio.TimerHandle | None = None

    def tell(self, revision: int) -> None:
        told = self._told
        self.cancel()
        if told is not None:
            told(revision)

    def cancel(self) -> None:
        self._told = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
