"""The event loop of one simulated process, on the world's virtual time.

It does what asyncio's own loops do, one iteration after another: move the timers that are due behind the
callbacks that are ready, run those that were ready when the iteration began. There is nothing to select
on: messages are posted. An iteration takes a little virtual time, so that processes interleave.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, TypeVar, TypeVarTuple

from chaos.sim.scheduler import ACTION, WHEN, Event, Scheduler, cancel

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")

_ITERATION_S: Final = 20e-6
_CALLBACK_S: Final = 10e-6
"""What an iteration takes, and each callback in it, on average."""

_EXECUTOR_S: Final = 0.003
"""The longest that work in a thread takes."""

_PRUNE_AT: Final = 2_000


class SerialTask(asyncio.Task[Any]):
    """A task whose place in a set depends on its number, not on its address: sets of tasks are walked."""

    def __init__(self, coro: Any, serial: int, **options: Any) -> None:
        self._serial = serial
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._serial


class SerialFuture(asyncio.Future[Any]):
    """The same for futures."""

    def __init__(self, serial: int, loop: asyncio.AbstractEventLoop) -> None:
        self._serial = serial
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._serial


class HostLoop(asyncio.BaseEventLoop):
    """One life of one process. `rate` is how fast its monotonic clock goes; `on_error` is told of errors
    that nobody took.

    A process that was killed keeps all that it held, so that no coroutine of it is closed and runs its
    `finally` in a world where it is dead.
    """

    def __init__(
        self,
        name: str,
        scheduler: Scheduler,
        rng: random.Random,
        *,
        rate: float,
        on_error: Callable[[str, BaseException | None], None],
    ) -> None:
        self.ended = False
        self._running = False
        super().__init__()
        self.name = name
        self.scheduler = scheduler
        self.rng = rng
        self.fuse: int | None = None
        """So many callbacks from now the process dies, if set."""
        self.on_fuse: Callable[[], None] = self.end
        self._on_error = on_error
        self._rate = rate
        self._began_s = scheduler.now
        self._clock_began_s = rng.uniform(10.0, 1e5)
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._serials = count(1)
        self._wake: Event | None = None
        self._busy_until_s = 0.0
        self._tasks: list[SerialTask] = []

    # --- what the world does to it --------------------------------------------------------------------------

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Have a callback run in the process; nothing happens if it is dead."""
        if not self.ended:
            self._ready.append(asyncio.Handle(callback, args, self))
            if not self._running:
                self._arm()

    def stall(self, seconds: float) -> None:
        """Nothing runs in the process for this long: it is stopped, or something blocks its loop."""
        self._busy_until_s = max(self._busy_until_s, self.scheduler.now + seconds)
        self._rearm()

    def resume(self) -> None:
        """Whatever held it up is over."""
        self._busy_until_s = self.scheduler.now
        self._rearm()

    def end(self) -> None:
        """Kill it where it stands, between two callbacks."""
        self.ended = True
        self.fuse = None
        if self._wake is not None:
            cancel(self._wake)

    # --- asyncio's side -------------------------------------------------------------------------------------

    def time(self) -> float:
        """Seconds of the process's monotonic clock."""
        return self._clock_began_s + (self.scheduler.now - self._began_s) * self._rate

    def call_soon(
        self,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """Run in the next iteration."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._running:
            self._arm()
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """The same: there are no threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run so many seconds of this clock from now."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run at that time of this clock."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._serials), handle))
        if not self._running:
            self._arm()
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """A future with a number."""
        return SerialFuture(next(self._serials), self)

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[_T]:
        """A task with a number."""
        task = SerialTask(coro, next(self._serials), loop=self, name=name, context=context)
        self._tasks.append(task)
        if len(self._tasks) > _PRUNE_AT:
            self._tasks = [one for one in self._tasks if not one.done()]
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        """Work in a thread: it happens a little later, in this one."""
        future = self.create_future()
        self.call_later(self.rng.uniform(0.0, _EXECUTOR_S), self._run_work, future, func, args)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Pass on an error that nobody took."""
        if not self.ended:
            self._on_error(f"{self.name}: {context.get('message')}", context.get("exception"))

    def is_running(self) -> bool:
        """Whether one of its callbacks is being run."""
        return self._running

    def is_closed(self) -> bool:
        """Whether the process is dead."""
        return self.ended

    get_debug = staticmethod(bool)
    """Never: every handle asks, and is told so without code of ours."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked by asyncio's own handles."""

    # --- inside ---------------------------------------------------------------------------------------------

    def _run_work(self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if future.done():
            return
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)

    def _arm(self) -> None:
        """Wake up for the first thing there is to do, if that is sooner than what is planned."""
        if self.ended:
            return
        due = max(self._busy_until_s, self.scheduler.now)
        if not self._ready:
            timers = self._timers
            while timers and timers[0][2].cancelled():
                heappop(timers)
            if not timers:
                return
            due = max(due, self._began_s + (timers[0][0] - self._clock_began_s) / self._rate)
        wake = self._wake
        if wake is not None and wake[ACTION] is not None:
            if wake[WHEN] <= due:
                return
            cancel(wake)
        self._wake = self.scheduler.at(due, self._iterate)

    def _rearm(self) -> None:
        """Wake up when there is something to do, and not before; an iteration ends with that anyway."""
        if self._running:
            return
        if self._wake is not None:
            cancel(self._wake)
            self._wake = None
        self._arm()

    def _iterate(self) -> None:
        self._wake = None
        now = self.scheduler.now
        if now < self._busy_until_s:
            self._arm()
            return
        ready, timers = self._ready, self._timers
        if timers:
            # A hair's breadth for what rounding takes from a timer.
            due = self.time() + 1e-9
            while timers and timers[0][0] <= due:
                handle = heappop(timers)[2]
                if not handle.cancelled():
                    ready.append(handle)
        count_ready = len(ready)
        self._running = True
        _set_running_loop(self)
        try:
            self._run_ready(count_ready)
        finally:
            _set_running_loop(None)
            self._running = False
        if not self.ended:
            until_s = now + (_ITERATION_S + _CALLBACK_S * count_ready) * (0.5 + self.rng.random())
            if until_s > self._busy_until_s:
                self._busy_until_s = until_s
            self._arm()

    def _run_ready(self, how_many: int) -> None:
        ready = self._ready
        for _ in range(how_many):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            if self.fuse is not None:
                self.fuse -= 1
                if self.fuse < 0:
                    ready.appendleft(handle)
                    self.on_fuse()
                    return
            handle._run()
            if self.ended:
                return
