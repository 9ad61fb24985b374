"""An event loop in a thread of its own, for code that has none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from agent_sdk.errors import WrongState

Value = TypeVar("Value")


class LoopThread:
    """Runs coroutines for other threads. The thread is a daemon: a program that forgets to close can still
    end."""

    def __init__(self, name: str) -> None:
        self._loop = _new_event_loop()
        # Reentrant: the garbage collector may end an iterator while its own thread hands something over.
        self._lock = threading.RLock()
        self._open = True
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        # Whoever waits for one of these in another thread must not wait for ever.
        unfinished = asyncio.all_tasks(self._loop)
        for task in unfinished:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*unfinished, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Value]) -> Value:
        """The coroutine's value, or what it raises; cancelled if the caller is interrupted. Raises
        WrongState after `stop`, and when `stop` comes while it waits."""
        future = self._begin(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise WrongState("the client was closed meanwhile") from None
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[Value]) -> Iterator[Value]:
        """The items one by one, each fetched when it is asked for."""
        try:
            while True:
                try:
                    yield self.run(_next(items))
                except StopAsyncIteration:
                    return
        finally:
            # Not waited for: the garbage collector may end this iterator, even in the loop's own thread.
            if isinstance(items, AsyncGenerator):
                with contextlib.suppress(WrongState):
                    self._begin(_close(items))

    @property
    def alive(self) -> bool:
        """Whether it takes work."""
        return self._open

    def stop(self) -> None:
        """End the thread; it takes no work after that."""
        with self._lock:
            if self._open:
                self._open = False
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _begin(self, work: Coroutine[Any, Any, Value]) -> concurrent.futures.Future[Value]:
        """Hand the coroutine over. What is handed over before `stop` is begun before the loop ends, and so
        has its end too. Raises WrongState."""
        with self._lock:
            if self._open:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise WrongState("the client has been closed")


async def _next(items: AsyncIterator[Value]) -> Value:
    return await anext(items)


async def _close(items: AsyncGenerator[Any, None]) -> None:
    await items.aclose()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where there is one: not on Windows. Imported here, as programs that need no loop start
    sooner without it."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        return asyncio.new_event_loop()
    return new_event_loop()
