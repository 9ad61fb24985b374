"""Blocking work beside the event loop: one thread that syncs, or flushes, while the loop goes on. Work that
is known to be brief may be done at once instead."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

Work = Callable[[], None]
Done = Callable[[Exception | None], None]

_WEIGHT: Final = 1 / 8
"""Of the newest duration in the average."""
_REST: Final = 2
"""After brief work the event loop is left alone for so many times as long as the work took."""


class Worker(Protocol):
    """Does one piece of blocking work at a time, in the order given."""

    def run(self, work: Work, done: Done) -> None:
        """Do `work` elsewhere, then call `done` on the event loop with what it raised, or None."""

    def run_if_brief(self, work: Work) -> bool:
        """Do `work` here and now if it can be expected to be brief; returns whether it was done. Raises what
        the work raises."""

    async def close(self) -> None:
        """Wait for what is under way; it takes no more work."""


class ThreadWorker:
    """A Worker with one thread.

    To hand work to a thread and hear of its end takes as long as a quick disk's sync, and longer while the
    machine is busy. So work that has lately taken less than `brief_s` on average counts as brief; one long
    stall, and the next ones are left to the thread until the average has come down again. So is whatever
    would make the event loop wait for more than a third of its time.
    """

    def __init__(
        self, name: str, brief_s: float = 0.0, *, now: Callable[[], float] = time.perf_counter
    ) -> None:
        """Nothing is brief if `brief_s` is 0. `now` gives seconds."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._brief_s = brief_s
        self._now = now
        self._average_s = 2 * brief_s
        self._rests_until_s = -math.inf
        self._under_way = 0

    def run(self, work: Work, done: Done) -> None:
        loop = asyncio.get_running_loop()

        def job() -> None:
            error: Exception | None = None
            began_s = self._now()
            try:
                work()
            except Exception as raised:
                error = raised
            loop.call_soon_threadsafe(ended, error, self._now() - began_s)

        def ended(error: Exception | None, took_s: float) -> None:
            self._under_way -= 1
            self._took(took_s)
            done(error)

        self._under_way += 1
        self._executor.submit(job)

    def run_if_brief(self, work: Work) -> bool:
        began_s = self._now()
        if self._under_way or self._average_s >= self._brief_s or began_s < self._rests_until_s:
            return False
        work()
        ended_s = self._now()
        self._took(ended_s - began_s)
        self._rests_until_s = ended_s + _REST * (ended_s - began_s)
        return True

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)

    def _took(self, took_s: float) -> None:
        self._average_s += (took_s - self._average_s) * _WEIGHT
