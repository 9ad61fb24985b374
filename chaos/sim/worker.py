"""A worker's thread, as the simulator has it: the work is done at some moment while it is under way."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from chaos.sim.disk import DiskFaults
from chaos.sim.host_loop import HostLoop
from coordinator.consensus.worker import Done, Work

_SYNC_S: Final = 0.0006
_SPREAD: Final = 0.5


class SimWorker:
    """A Worker of one process. What is under way when the process dies may have been done, or not."""

    def __init__(self, process: HostLoop, faults: DiskFaults, rng: random.Random) -> None:
        self._process = process
        self._faults = faults
        self._rng = rng
        self._free_at_s = 0.0
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def run(self, work: Work, done: Done) -> None:
        scheduler = self._process.scheduler
        took_s = self._rng.lognormvariate(0.0, _SPREAD) * _SYNC_S * self._faults.slowness
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
        del work
        return False

    async def close(self) -> None:
        await self._idle.wait()

    def _done(self, done: Done, raised: list[Exception]) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()
        done(raised[0] if raised else None)
