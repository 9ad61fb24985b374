"""Defects in work that nobody waits for, so that nobody would hear of them: each is logged with its traceback
and counted.

What goes on by turns loses the turn, and no more. What cannot go on, since it would lose what is in memory
alone, ends the term instead: whoever leads next finds everything in the replicated state. So does Consul with
a leader that cannot take over (`leaderLoop` in agent/consul/leader.go); etcd ends the process. A fault for
which a node must stop is no defect: it stops, whoever met it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self

import structlog

from coordinator.errors import Fatal

CALLBACK: Final = "callback"
"""What a defect is counted under that came out of a callback or a task which is no loop of its own."""

_log = structlog.get_logger(__name__)


class Defects:
    """Of a node, or with `within` of one of its terms. `counts` has them by the work that they befell; `told`
    hears of each, and `stop` of what the node must stop for."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.told: Callable[[str, BaseException | None], None] = _ignore
        self.stop: Callable[[Fatal], None] = _ignore
        self._node = self
        self._lose: Callable[[], None] = _ignore

    def within(self, lose: Callable[[], None]) -> Defects:
        """The same, for work that `lose` puts an end to where it cannot go on."""
        made = Defects()
        made.counts, made._node, made._lose = self.counts, self._node, lose
        return made

    def turn(self, work: str) -> Turn:
        """Around one turn of what goes on with the next."""
        return Turn(self, work, self._survive)

    def vital(self, work: str) -> Turn:
        """Around what must not be left half done."""
        return Turn(self, work, self._lose)

    def begin(self, work: str, run: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that ends when it is cancelled or has done all that it had to; without it the work cannot go
        on."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.take(work, error)
                self._lose()

        task = asyncio.get_running_loop().create_task(run, name=work)
        task.add_done_callback(ended)
        return task

    def lose(self, work: str, why: str) -> None:
        """The work cannot go on, though each of its turns was survived."""
        _log.error("a defect that does not pass", work=work, why=why)
        self._lose()

    def take(self, work: str, error: BaseException) -> None:
        """What befell the work: stop the node, if it must, or else note it."""
        if isinstance(error, Fatal):
            self._node.stop(error)
        else:
            self.note(work, error)

    def note(self, work: str, error: BaseException | None, what: str = "a defect") -> None:
        """Log and count one."""
        self.counts[work] += 1
        _log.error(what, work=work, count=self.counts[work], error=repr(error), exc_info=error)
        self._node.told(work, error)

    def unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The event loop's exception handler: what no code has taken."""
        del loop
        self.note(CALLBACK, context.get("exception"), context["message"])

    def _survive(self) -> None:
        """The next turn makes up for this one."""


class Turn:
    """Lets no defect out of its block, but takes no cancellation for one. `failed` says whether there was
    one."""

    def __init__(self, defects: Defects, work: str, then: Callable[[], None]) -> None:
        self.failed = False
        self._defects = defects
        self._work = work
        self._then = then

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.failed = True
        self._defects.take(self._work, error)
        self._then()
        return True


def _ignore(*_: object) -> None:
    """Nobody listens."""
