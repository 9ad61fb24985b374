"""Clients of the key-value space, each of which does one thing after another and notes what it hears."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from agent_sdk import AsyncClient, QuorumflowError
from chaos.checking.history import History, Operation, read_files, to_file
from chaos.checking.linearizability import Judgement, judge
from chaos.checking.models import QueueModel, RegisterModel
from chaos.checking.workloads import QUEUE, REGISTERS, QueueWorkload, RegisterWorkload

_TIMEOUT_S: Final = 5.0
"""Of one call with all its repetitions; what has had no answer then is unknown."""
_STOP_S: Final = 30.0


class _Workload(Protocol):
    async def step(self) -> None:
        """One operation."""

    async def finish(self) -> None:
        """Look at what is left: what was acknowledged must be there."""


class KeyClients:
    """`registers` and `queues` clients in a thread of its own, until `stop`. They share few keys, whose names
    begin with `name`, and their history is in `file`."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        registers: int,
        queues: int,
        pause_s: float,
        name: str,
        file: Path,
        seed: int,
    ) -> None:
        self._endpoints = endpoints
        self._registers = registers
        self._queues = queues
        self._pause_s = pause_s
        self._register_keys = [f"{name}{key}" for key in REGISTERS]
        self._queue_key = f"{name}{QUEUE}"
        self._file = file
        self._seed = seed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="keys", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Do nothing more; returns when everything under way has its answer or is given up."""
        self._stopping.set()
        self._thread.join(_STOP_S)

    def operations(self) -> list[Operation]:
        """All that was done."""
        return read_files([self._file])

    def judgements(self) -> list[Judgement]:
        """What was found about each key, once they have stopped."""
        done = self.operations()
        queue = [one for one in done if one.key == self._queue_key]
        registers = [one for one in done if one.key != self._queue_key]
        return [*judge(registers, RegisterModel()), *judge(queue, QueueModel())]

    async def _run(self) -> None:
        with self._file.open("w", encoding="utf-8") as file:
            history = History(time.monotonic, to_file(file))
            async with asyncio.TaskGroup() as clients:
                for number in range(self._registers + self._queues):
                    clients.create_task(self._client(history, number))
        await self._forget()

    async def _client(self, history: History, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")  # noqa: S311 - a drill
        async with AsyncClient(self._endpoints, timeout_s=_TIMEOUT_S) as client:
            workload: _Workload
            if number < self._registers:
                workload = RegisterWorkload(client.kv, history, f"r{number}", rng, self._register_keys)
            else:
                workload = QueueWorkload(client.kv, history, f"q{number}", rng, self._queue_key)
            while not self._stopping.is_set():
                await workload.step()
                await asyncio.sleep(rng.uniform(0, 2 * self._pause_s))
            await workload.finish()

    async def _forget(self) -> None:
        """Leave no keys behind, as far as that can be done: others may live in the cluster."""
        async with AsyncClient(self._endpoints, timeout_s=_TIMEOUT_S) as client:
            for key in (*self._register_keys, self._queue_key):
                try:
                    await client.kv.delete(key)
                except QuorumflowError:
                    return
