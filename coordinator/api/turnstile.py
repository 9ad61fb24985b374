"""Sharing the turns of the event loop with whatever else wants to run.

All that is ready when a turn begins runs before the loop looks at a socket or a timer again. A thousand
streams with something to send each would make a turn of hundreds of milliseconds, in which a leader hears of
no acknowledgement and sends no heartbeat.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turnstile:
    """Lets at most `most` through in a turn of the running loop, and the others in the turns that follow, in
    the order in which they came."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._passed = 0
        """In this turn."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Return in a turn in which there is room for one more."""
        if self._passed < self._most:
            self._count()
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(admitted)
        await admitted

    def _count(self) -> None:
        if not self._passed:
            asyncio.get_running_loop().call_soon(self._begin_turn)
        self._passed += 1

    def _begin_turn(self) -> None:
        self._passed = 0
        while self._waiting and self._passed < self._most:
            admitted = self._waiting.popleft()
            # Whoever has been cancelled needs no room.
            if not admitted.done():
                self._count()
                admitted.set_result(None)
