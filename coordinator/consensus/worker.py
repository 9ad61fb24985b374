"""Blocking work beside the event loop: one thread that syncs, or flushes, while the loop goes on. The loop
may wait for what is brief: to hear of its end would cost more."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final, Protocol

Work = Callable[[], None]
Done = Callable[[Exception | None], None]

_WEIGHT: Final = 1 / 8
"""Of the newest duration in the average."""
_REST: Final = 2
"""After it has waited the event loop is left alone for so many times as long as the work took."""


class Worker(Protocol):
    """Does one piece of blocking work at a time, in the order given."""

    def run(self, work: Work, done: Done) -> None:
        """Do `work` elsewhere, then call `done` on the event loop with what it raised, or None."""

    def run_and_wait(self, work: Work, done: Done) -> bool:
        """The same, but wait for a moment if the work can be expected to be brief. True if it has ended
        then: `done` is not called, and what the work has raised is raised here."""

    async def close(self) -> None:
        """Wait for what is under way; it takes no more work."""


class ThreadWorker:
    """A Worker with one thread.

    To be called back by a thread takes as long as a quick disk's sync, and longer while the machine is busy.
    So work that has lately taken less than `brief_s` on average is waited for: for no longer than that, and
    for no more than a third of the event loop's time.
    """

    def __init__(
        self, name: str, brief_s: float = 0.0, *, now: Callable[[], float] = time.perf_counter
    ) -> None:
        """Nothing is brief if `brief_s` is 0. `now` gives seconds."""
        self._name = name
        self._brief_s = brief_s
        self._now = now
        self._average_s = 2 * brief_s
        self._rests_until_s = -math.inf
        self._under_way = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: Thread | None = None

    def run(self, work: Work, done: Done) -> None:
        self._begin(_Job(work, done, waited_for=False))

    def run_and_wait(self, work: Work, done: Done) -> bool:
        brief = self._average_s < self._brief_s and self._now() >= self._rests_until_s
        job = _Job(work, done, waited_for=brief and not self._under_way)
        self._begin(job)
        if not job.has_ended(self._brief_s):
            return False
        self._end(job)
        self._rests_until_s = self._now() + _REST * job.took_s
        if job.error is not None:
            raise job.error
        return True

    async def close(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _begin(self, job: _Job) -> None:
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = Thread(target=self._serve, args=(loop,), name=self._name, daemon=True)
            self._thread.start()
        self._under_way += 1
        self._jobs.put(job)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.do(self._now):
                loop.call_soon_threadsafe(self._call_back, job)

    def _call_back(self, job: _Job) -> None:
        self._end(job)
        job.done(job.error)

    def _end(self, job: _Job) -> None:
        self._under_way -= 1
        self._average_s += (job.took_s - self._average_s) * _WEIGHT


class _Job:
    """Work in the thread's hands. Whoever waits for it may give up while the thread ends it: which of the two
    comes first settles how the end is reported."""

    def __init__(self, work: Work, done: Done, *, waited_for: bool) -> None:
        self.done = done
        self.error: Exception | None = None
        self.took_s = 0.0
        self._work = work
        self._waited_for = waited_for
        self._settled, self._over = Lock(), Lock()
        self._over.acquire()

    def has_ended(self, patience_s: float) -> bool:
        """Wait so long, if anybody is to wait at all. If it has not ended then, nobody waits any more."""
        if not self._waited_for:
            return False
        if self._over.acquire(timeout=patience_s):
            return True
        if self._settled.acquire(blocking=False):
            return False
        return self._over.acquire()

    def do(self, now: Callable[[], float]) -> bool:
        """In the thread: returns whether somebody has waited for the end and knows of it."""
        began_s = now()
        try:
            self._work()
        except Exception as error:
            self.error = error
        self.took_s = now() - began_s
        waits = self._waited_for and self._settled.acquire(blocking=False)
        if waits:
            self._over.release()
        return waits
