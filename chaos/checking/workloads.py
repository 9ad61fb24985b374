"""What clients do to the key-value space while it is being harmed, noted in a history as they do it.

The same work for the simulator and for drills: against any object with the methods of `AsyncClient.kv`,
drawn from a source of chance that is given. One call of `step` is one operation; who calls decides how
often, and for how long. Every outcome that is not certain is noted as unknown: a client that repeats a
write hears of its last try alone.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Final, Protocol

from agent_sdk import KvItem
from agent_sdk.errors import QuorumflowError, StaleVersion
from chaos.checking.history import History, Pending
from chaos.checking.models import STALE

REGISTERS: Final = ("register/a", "register/b", "register/c")
"""Few keys, so that clients meet."""
QUEUE: Final = "queue/a"
LONGEST_QUEUE: Final = 20
"""Values in a queue, above which clients only take out."""
TRIES: Final = 8
"""Reads and compare-and-sets that one operation on a queue may take."""


class KeyValue(Protocol):
    """The methods of `AsyncClient.kv` that the workloads use."""

    async def put(self, key: str, value: bytes, *, expect: int | None = None) -> KvItem:
        """Give a key a value."""

    async def get(self, key: str) -> KvItem | None:
        """What is at a key."""

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        """Remove a key."""


class RegisterWorkload:
    """Reads, writes, deletes, and compares-and-sets keys; judged by `models.RegisterModel`. `process`
    tells this client from every other one of the history, those before a restart too: its values begin
    with it."""

    def __init__(
        self,
        kv: KeyValue,
        history: History,
        process: str,
        rng: random.Random,
        keys: Sequence[str] = REGISTERS,
    ) -> None:
        self._kv = kv
        self._history = history
        self._process = process
        self._rng = rng
        self._keys = keys
        self._numbers = count(1)
        self._seen = dict.fromkeys(keys, 0)
        """The last version that this client knew of each key; 0 where it found none."""

    async def step(self) -> None:
        """One operation. Whatever the space answers is noted, and raises nothing."""
        key = self._rng.choice(self._keys)
        kind = self._rng.choices(("get", "put", "swap", "delete", "remove"), (8, 4, 6, 1, 1))[0]
        expect = self._seen[key] if kind in ("swap", "remove") else None
        if kind == "get":
            await self._get(key)
        elif kind in ("put", "swap"):
            await self._put(key, expect)
        else:
            await self._delete(key, expect)

    async def finish(self) -> None:
        """Read every key once more: what was acknowledged must be there."""
        for key in self._keys:
            await self._get(key)

    async def _get(self, key: str) -> None:
        pending = self._history.invoke(self._process, "get", key)
        try:
            item = await self._kv.get(key)
        except QuorumflowError:
            pending.fail()
        else:
            self._seen[key] = item.version if item else 0
            pending.ok((item.value.decode(), item.version) if item else None)

    async def _put(self, key: str, expect: int | None) -> None:
        value = f"{self._process}.{next(self._numbers)}"
        pending = self._history.invoke(self._process, "put", key, value, expect)
        try:
            item = await self._kv.put(key, value.encode(), expect=expect)
        except StaleVersion as stale:
            self._seen[key] = stale.current
            pending.ok((STALE, stale.current))
        except QuorumflowError:
            pending.unknown()
        else:
            self._seen[key] = item.version
            pending.ok(item.version)

    async def _delete(self, key: str, expect: int | None) -> None:
        pending = self._history.invoke(self._process, "delete", key, expect)
        try:
            there = await self._kv.delete(key, expect=expect)
        except StaleVersion as stale:
            self._seen[key] = stale.current
            pending.ok((STALE, stale.current))
        except QuorumflowError:
            pending.unknown()
        else:
            self._seen[key] = 0
            pending.ok(there)


class QueueWorkload:
    """Puts values into a queue that is one key's value and takes them out, each by a read and a
    compare-and-set; judged by `models.QueueModel`. `process` is as in `RegisterWorkload`."""

    def __init__(
        self, kv: KeyValue, history: History, process: str, rng: random.Random, key: str = QUEUE
    ) -> None:
        self._kv = kv
        self._history = history
        self._process = process
        self._rng = rng
        self._key = key
        self._numbers = count(1)
        self._length = 0

    async def step(self) -> None:
        """One operation. Whatever the space answers is noted, and raises nothing."""
        if self._length < LONGEST_QUEUE and self._rng.random() < 0.5:
            await self._enqueue(f"{self._process}.{next(self._numbers)}")
        else:
            await self._dequeue()

    async def finish(self) -> None:
        """Take out what is left: what was acknowledged must be there."""
        for _ in range(LONGEST_QUEUE):
            await self._dequeue()
            if not self._length:
                return

    async def _enqueue(self, value: str) -> None:
        pending = self._history.invoke(self._process, "enqueue", self._key, value)
        await self._repeat(pending, partial(self._try_to_enqueue, pending, value))

    async def _dequeue(self) -> None:
        pending = self._history.invoke(self._process, "dequeue", self._key)
        await self._repeat(pending, partial(self._try_to_dequeue, pending))

    async def _repeat(
        self, pending: Pending, attempt: Callable[[Sequence[str], int], Awaitable[None]]
    ) -> None:
        """Read and try until nobody has come in between."""
        for _ in range(TRIES):
            try:
                values, version = await self._read()
            except QuorumflowError:
                break
            with suppress(StaleVersion):
                return await attempt(values, version)
        return pending.fail()

    async def _try_to_enqueue(
        self, pending: Pending, value: str, values: Sequence[str], version: int
    ) -> None:
        try:
            pending.ok(await self._swap([*values, value], version))
        except StaleVersion:
            raise
        except QuorumflowError:
            pending.unknown()

    async def _try_to_dequeue(self, pending: Pending, values: Sequence[str], version: int) -> None:
        try:
            if not values:
                pending.ok((None, version))
            else:
                pending.ok((values[0], await self._swap(values[1:], version)))
        except StaleVersion:
            raise
        except QuorumflowError:
            pending.unknown((values[0], None))

    async def _read(self) -> tuple[list[str], int]:
        item = await self._kv.get(self._key)
        values = item.value.decode().split() if item else []
        self._length = len(values)
        return values, item.version if item else 0

    async def _swap(self, values: Sequence[str], version: int) -> int:
        item = await self._kv.put(self._key, " ".join(values).encode(), expect=version)
        return item.version
