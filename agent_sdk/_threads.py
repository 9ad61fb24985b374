"""A bounded pool of daemon threads.

The standard library's pool is joined when the interpreter ends: one handler that ignores its cancellation
would keep an agent from leaving. A daemon thread is given up instead, and the coordinator gives its attempt
to another agent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

Value = TypeVar("Value")


class DaemonPool:
    """At most `size` threads, started when they are first needed. More than that stay if `size` is lowered.
    `submit` is for one thread alone."""

    def __init__(self, size: int, name: str) -> None:
        self.size = size
        self._name = name
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, work: Callable[[], Value]) -> Future[Value]:
        """Run `work` in a thread; waits in a queue while all are busy."""
        future: Future[Value] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        if not self._idle.acquire(blocking=False) and self._started < self.size:
            self._started += 1
            threading.Thread(target=self._serve, name=f"{self._name}-{self._started}", daemon=True).start()
        self._work.put(run)
        return future

    def close(self) -> None:
        """Let idle threads end; busy ones end after their work."""
        for _ in range(self._started):
            self._work.put(None)

    def _serve(self) -> None:
        while (run := self._work.get()) is not None:
            run()
            self._idle.release()
