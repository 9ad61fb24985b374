"""Blocking work beside the event loop: one thread that syncs, or flushes, while the loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

Work = Callable[[], None]
Done = Callable[[Exception | None], None]


class Worker(Protocol):
    """Does one piece of blocking work at a time, in the order given."""

    def run(self, work: Work, done: Done) -> None:
        """Do `work` elsewhere, then call `done` on the event loop with what it raised, or None."""

    async def close(self) -> None:
        """Wait for what is under way; it takes no more work."""


class ThreadWorker:
    """A Worker with one thread."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    def run(self, work: Work, done: Done) -> None:
        loop = asyncio.get_running_loop()

        def job() -> None:
            error: Exception | None = None
            try:
                work()
            except Exception as raised:
                error = raised
            loop.call_soon_threadsafe(done, error)

        self._executor.submit(job)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)
