"""A machine: a name on the network, a wall clock, and at most one process, which may die while the machine
and its disk live on."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any, Final

from chaos.sim.host_loop import HostLoop
from chaos.sim.scheduler import Scheduler
from chaos.sim.trace import Trace

EPOCH_MS: Final = 1_700_000_000_000
"""Unix time at which every world begins."""

_CLOCK_ERROR: Final = 0.002
"""By how much a monotonic clock is too fast or too slow at the most."""


class Machine:
    """`on_error` is told of errors that no code of the process took."""

    def __init__(
        self,
        name: str,
        scheduler: Scheduler,
        rng: random.Random,
        trace: Trace,
        on_error: Callable[[str, BaseException | None], None],
    ) -> None:
        self.name = name
        self.scheduler = scheduler
        self.rng = rng
        self.trace = trace
        self.clock_offset_ms = 0
        self.process: HostLoop | None = None
        self.lives = 0
        self.on_death: list[Callable[[HostLoop, bool], None]] = []
        """Told of each process that ends, and whether nobody else could notice."""
        self._on_error = on_error
        self._dead: list[HostLoop] = []

    def wall_ms(self) -> int:
        """Unix time in milliseconds, as this machine believes."""
        return EPOCH_MS + int(self.scheduler.now * 1000) + self.clock_offset_ms

    def boot(self, main: Callable[[], Coroutine[Any, Any, None]]) -> HostLoop:
        """Start a process that runs `main`, and ends with it."""
        assert self.process is None
        self.lives += 1
        process = HostLoop(
            self.name,
            self.scheduler,
            random.Random(self.rng.random()),
            rate=1.0 + self.rng.uniform(-_CLOCK_ERROR, _CLOCK_ERROR),
            on_error=self._on_error,
        )
        self.process = process
        self.trace.note(self.name, f"boots, life {self.lives}")
        process.post(self._begin, process, main)
        return process

    def crash(self, *, silent: bool = False) -> None:
        """Kill the process. `silent`: as when the power fails, so that no connection is closed."""
        process, self.process = self.process, None
        if process is None:
            return
        process.end()
        self._dead.append(process)
        self.trace.note(self.name, "loses its power" if silent else "dies")
        for told in self.on_death:
            told(process, silent)

    def _begin(self, process: HostLoop, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        process.create_task(main()).add_done_callback(lambda done: self._ended(process, done))

    def _ended(self, process: HostLoop, done: Any) -> None:
        if not done.cancelled() and done.exception() is not None:
            self._on_error(f"{self.name}: its main ended", done.exception())
        if self.process is process:
            self.crash()
