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
    """A Worker of one process. What is under way when the process dies may have been done, or not. Work that
    would take less than `brief_s` may be done at once, and holds the process up."""

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
        scheduler = self._process.scheduler
        took_s = self._drawn_s()
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

    def run_if_brief(self, work: Work) -> bool:
        if not self._brief_s or self._under_way:
            return False
        took_s = self._drawn_s()
        if took_s >= self._brief_s:
            return False
        work()
        self._process.stall(took_s)
        return True

    async def close(self) -> None:
        await self._idle.wait()

    def _drawn_s(self) -> float:
        return self._rng.lognormvariate(0.0, _SPREAD) * self._faults.sync_s * self._faults.slowness

    def _done(self, done: Done, raised: list[Exception]) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()
        done(raised[0] if raised else None)
