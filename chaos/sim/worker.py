"""A worker's thread, as the simulator has it: the work is done at some moment while it is under way."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from chaos.sim.disk import DiskFaults
from chaos.sim.host_loop import HostLoop
from coordinator.consensus.worker import Done, Work

_SPREAD: Final = 0.5


class SimWorker:
    """A Worker of one process. What is under way when the process dies may have been done, or not. A process
    that waits stands still, for `brief_s` at the most."""

    def __init__(
        self, process: HostLoop, faults: DiskFaults, rng: random.Random, brief_s: float = 0.0
    ) -> None:
        self._process = process
        self._faults = faults
        self._rng = rng
        self._brief_s = brief_s
        self._free_at_s = 0.0
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def run(self, work: Work, done: Done) -> None:
        self._begin(work, done, self._drawn_s())

    def run_and_wait(self, work: Work, done: Done) -> bool:
        took_s = self._drawn_s()
        waits = self._brief_s > 0 and not self._under_way
        if waits:
            self._process.stall(min(took_s, self._brief_s))
        if waits and took_s < self._brief_s:
            work()
            return True
        self._begin(work, done, took_s)
        return False

    async def close(self) -> None:
        await self._idle.wait()

    def _begin(self, work: Work, done: Done, took_s: float) -> None:
        scheduler = self._process.scheduler
        begin_s = max(scheduler.now, self._free_at_s)
        self._free_at_s = begin_s + took_s
        self._under_way += 1
        self._idle.clear()
        raised: list[Exception] = []

        def happen() -> None:
            if self._process.ended:
                return
            try:
                work()
            except Exception as error:
                raised.append(error)

        def finish() -> None:
            self._process.post(self._done, done, raised)

        scheduler.at(begin_s + took_s * self._rng.random(), happen)
        scheduler.at(self._free_at_s, finish)

    def _drawn_s(self) -> float:
        return self._rng.lognormvariate(0.0, _SPREAD) * self._faults.sync_s * self._faults.slowness

    def _done(self, done: Done, raised: list[Exception]) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()
        done(raised[0] if raised else None)
