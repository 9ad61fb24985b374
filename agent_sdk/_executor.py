"""Runs attempts: in the order of their arrival, at most `slots` at once."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from agent_sdk import _outcome
from agent_sdk._context import TaskContext
from agent_sdk._effects import EffectsFile
from agent_sdk._ledger import Attempt, Key, Ledger, Phase
from agent_sdk._reporter import Reporter
from agent_sdk._threads import DaemonPool
from quorumflow_proto.v1 import agent_pb2

logger = logging.getLogger("agent_sdk")

Handler = Callable[[TaskContext], Any] | Callable[[TaskContext], Awaitable[Any]]

ANY_TYPE: Final = "*"
ABANDON_S: Final = 1.0
"""How long an abandoned coroutine may take to go away."""


class _Bound(NamedTuple):
    call: Handler
    is_coroutine: bool


class Executor:
    """Handlers that are coroutines run in the event loop, plain functions in a pool of `slots` threads.

    A stopped attempt is told so; a coroutine that has not ended `cancel_grace_s` later is cancelled, a thread
    cannot be and keeps its slot until it ends. Belongs to the running loop.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        ledger: Ledger,
        reporter: Reporter,
        *,
        slots: int,
        queue: int,
        cancel_grace_s: float,
        effects: EffectsFile | None,
        now_ns: Callable[[], int],
    ) -> None:
        self._handlers = {kind: _Bound(call, _is_coroutine_function(call)) for kind, call in handlers.items()}
        self._ledger = ledger
        self._reporter = reporter
        self._slots = slots
        self._credit = slots + queue
        self._cancel_grace_s = cancel_grace_s
        self._effects = effects
        self._now_ns = now_ns
        self._pool = DaemonPool(slots, "quorumflow-handler")
        self._queue: OrderedDict[Key, Attempt] = OrderedDict()
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._draining = False
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def task_types(self) -> tuple[str, ...]:
        """What there are handlers for."""
        return tuple(self._handlers)

    @property
    def queued(self) -> int:
        """Attempts that wait for a slot."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Attempts that have a slot."""
        return len(self._tasks)

    def resize(self, slots: int, credit: int) -> None:
        """Run so many at once, and hold so many, from now on; what runs or waits stays."""
        self._slots = slots
        self._credit = credit
        self._pool.size = slots
        self._fill()

    def add(self, attempt: Attempt) -> None:
        """Run the attempt when its turn comes, or refuse it."""
        if self._draining:
            refusal = "the agent is shutting down"
        elif not self._has_handler(attempt):
            refusal = f"the agent has no handler for tasks of type {attempt.assignment.type!r}"
        elif self.queued + self.running >= self._credit:
            refusal = f"the agent holds {self._credit} attempts already, which is its credit"
        else:
            self._queue[attempt.key] = attempt
            self._fill()
            return
        self._ledger.end(attempt, _outcome.rejected(refusal))

    def stop(self, attempt: Attempt, reason: str) -> None:
        """End the attempt early. One that has ended already stays as it is."""
        if attempt.phase is Phase.ENDED or attempt.stopped.is_set():
            return
        attempt.stop_reason = reason or "stopped by the coordinator"
        attempt.stopped.set()
        if attempt.phase is Phase.QUEUED:
            del self._queue[attempt.key]
            self._ledger.end(attempt, _outcome.cancelled(attempt.stop_reason))
        elif self._handler(attempt).is_coroutine and attempt.key in self._tasks:
            # One that was abandoned, since the agent is leaving, has no task any more.
            asyncio.get_running_loop().call_later(self._cancel_grace_s, self._tasks[attempt.key].cancel)

    def drain(self) -> None:
        """Take nothing more, and hand back what waits."""
        self._draining = True
        while self._queue:
            _, attempt = self._queue.popitem(last=False)
            self._ledger.end(attempt, _outcome.rejected("the agent is shutting down"))

    async def abandon(self) -> None:
        """Give up what still runs, without a report: its attempts go to other agents."""
        self._draining = True
        self._queue.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=ABANDON_S)
        self._pool.close()

    def _has_handler(self, attempt: Attempt) -> bool:
        return attempt.assignment.type in self._handlers or ANY_TYPE in self._handlers

    def _handler(self, attempt: Attempt) -> _Bound:
        return self._handlers.get(attempt.assignment.type) or self._handlers[ANY_TYPE]

    def _fill(self) -> None:
        while self._queue and len(self._tasks) < self._slots:
            key, attempt = self._queue.popitem(last=False)
            self._ledger.start(attempt)
            self._tasks[key] = asyncio.get_running_loop().create_task(self._run(attempt))
        if self._tasks:
            self.idle.clear()
        else:
            self.idle.set()

    async def _run(self, attempt: Attempt) -> None:
        began_ns = self._now_ns()
        try:
            if self._effects is not None:
                self._effects.write("start", attempt)
            ended = await self._end_of(attempt)
            if self._effects is not None:
                self._effects.write("end", attempt)
        except Exception as error:
            # Of the effects' file, or a defect of our own: without an end the attempt would be held for ever.
            logger.exception("attempt %s could not be brought to its end", attempt.key)
            ended = _outcome.of_error(error, attempt.stop_reason)
        finally:
            del self._tasks[attempt.key]
            self._fill()
        ended.duration_us = (self._now_ns() - began_ns) // 1000
        self._ledger.end(attempt, ended)

    async def _end_of(self, attempt: Attempt) -> agent_pb2.Ended:
        handler, is_coroutine = self._handler(attempt)
        context = TaskContext(attempt, self._reporter)
        if not is_coroutine:
            return await asyncio.wrap_future(self._pool.submit(lambda: self._call(handler, context, attempt)))
        try:
            value = await handler(context)
        except asyncio.CancelledError as error:
            if not attempt.stopped.is_set() and _is_cancelled_from_outside():
                raise
            return _outcome.of_error(error, attempt.stop_reason)
        except (Exception, SystemExit) as error:
            return _outcome.of_error(error, attempt.stop_reason)
        return _outcome.of_value(value, self._reporter.max_result_bytes)

    def _call(self, handler: Handler, context: TaskContext, attempt: Attempt) -> agent_pb2.Ended:
        """In a thread of the pool."""
        try:
            value = handler(context)
        except BaseException as error:
            return _outcome.of_error(error, attempt.stop_reason)
        return _outcome.of_value(value, self._reporter.max_result_bytes)


def _is_coroutine_function(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
    )


def _is_cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
