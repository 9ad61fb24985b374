"""When ends are told: at once, or together with those that follow.

Each message costs both sides more than what it carries. What is queued on an agent is mostly brief, so that
more ends are right behind the first: it waits for them, for the blink of an eye. While the coordinator has
ends of this agent to answer for, nobody gains by hearing of one more alone, and it waits as small segments do
in TCP (Nagle, RFC 896): until an answer comes, there are many, the queue is empty, or a moment has passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agent_sdk._ledger import Ledger

FIRST_S: Final = 0.001
"""The first end waits no longer for those behind it,"""
GATHER_S: Final = 0.005
"""nor any for the answer to those before it,"""
ENOUGH: Final = 64
"""and none waits where so many are to be told."""


class Gathering:
    """`queued` says how many attempts wait for a slot; `tell` has what the ledger holds told. Belongs to the
    running loop."""

    def __init__(self, ledger: Ledger, queued: Callable[[], int], tell: Callable[[], None]) -> None:
        self._ledger = ledger
        self._queued = queued
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._waits = False

    def ended(self) -> None:
        """An attempt has come to its end."""
        ledger = self._ledger
        if not self._queued() or ledger.untold >= ENOUGH:
            self._tell()
        elif not self._waits:
            self._waits = True
            self._loop.call_later(GATHER_S if ledger.unanswered else FIRST_S, self._waited)

    def answered(self) -> None:
        """The coordinator has acknowledged ends."""
        if self._ledger.untold:
            self._tell()

    def _waited(self) -> None:
        self._waits = False
        self.answered()
