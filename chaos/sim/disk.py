"""A machine's disk: engines in memory that forget in a crash what was not synced, and their faults.

A write is there at once and durable when a sync that began after it has ended. A crash keeps a random part
of what was not synced, from the front, as a write-ahead log does whose last record may be torn. A damaged
record is found when it is read, by the checksum that RocksDB keeps of every block.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from coordinator.errors import LogCorrupt, StorageFault
from coordinator.storage.engine import Batch, Engine

LOG_FOLDER: Final = "log"
PUT, DELETE, DELETE_RANGE = range(3)
Operation = tuple[int, str, bytes, bytes]


class MemoryBatch:
    """Operations in order: (what, family, key, value or end)."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def put(self, family: str, key: bytes, value: bytes) -> None:
        self.operations.append((PUT, family, key, value))

    def delete(self, family: str, key: bytes) -> None:
        self.operations.append((DELETE, family, key, b""))

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        self.operations.append((DELETE_RANGE, family, start, end))


class Family:
    """Pairs in key order."""

    def __init__(self) -> None:
        self.pairs: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []

    def carry_out(self, what: int, key: bytes, value: bytes) -> None:
        """One operation of a batch."""
        if what == PUT:
            if key not in self.pairs:
                insort(self.keys, key)
            self.pairs[key] = value
        elif what == DELETE:
            if self.pairs.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
        else:
            first, last = bisect_left(self.keys, key), bisect_left(self.keys, value)
            for doomed in self.keys[first:last]:
                del self.pairs[doomed]
            del self.keys[first:last]

    def copy(self) -> Family:
        """The same pairs, apart from these."""
        other = Family()
        other.pairs, other.keys = dict(self.pairs), list(self.keys)
        return other

    def walk(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Pairs from `start` up to but without `end`, as they are now."""
        last = len(self.keys) if end is None else bisect_left(self.keys, end)
        for key in self.keys[bisect_left(self.keys, start) : last]:
            if key in self.pairs:
                yield key, self.pairs[key]


class MemoryView:
    """A consistent reading: a copy."""

    def __init__(self, families: dict[str, Family]) -> None:
        self._families = {name: family.copy() for name, family in families.items()}

    def items(
        self, family: str, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._families[family].walk(start, end)

    def close(self) -> None:
        self._families = {}


class DiskFaults:
    """What is wrong with a disk now. A sync takes `sync_s` at the median, times `slowness`."""

    def __init__(self, sync_s: float) -> None:
        self.sync_s = sync_s
        self.slowness = 1.0
        self.sync_fails = False
        self.full = False


class Store:
    """What of one engine is on the disk, whichever process has it open."""

    def __init__(self, name: str, families: Sequence[str]) -> None:
        self.name = name
        self.families = {family: Family() for family in families}
        self.unsynced: list[list[Operation]] = []
        self.durable = {family: Family() for family in families}
        self.damaged: set[tuple[str, bytes]] = set()

    def sync(self, batches: int) -> None:
        """The first so many unsynced batches are durable."""
        for operations in self.unsynced[:batches]:
            for what, family, key, value in operations:
                self.durable[family].carry_out(what, key, value)
        del self.unsynced[:batches]

    def crash(self, rng: random.Random) -> bool:
        """Lose what was not synced but for a random part from the front; whether anything was lost."""
        count = len(self.unsynced)
        kept = rng.choice((0, count, rng.randint(0, count)))
        self.sync(kept)
        lost = bool(self.unsynced)
        self.unsynced.clear()
        self.families = {name: family.copy() for name, family in self.durable.items()}
        return lost


class SimEngine:
    """An Engine on a Store."""

    def __init__(self, store: Store, faults: DiskFaults) -> None:
        self._store = store
        self._faults = faults

    def batch(self) -> MemoryBatch:
        return MemoryBatch()

    def write(self, batch: Batch) -> None:
        assert isinstance(batch, MemoryBatch)
        if self._faults.full:
            raise self._fault("write", "no space left on device")
        for what, family, key, value in batch.operations:
            self._store.families[family].carry_out(what, key, value)
            self._store.damaged.discard((family, key))
        self._store.unsynced.append(batch.operations)

    def sync(self) -> None:
        if self._faults.sync_fails:
            raise self._fault("sync", "input/output error")
        self._store.sync(len(self._store.unsynced))

    def flush(self) -> None:
        if self._faults.full:
            raise self._fault("flush", "no space left on device")
        self.sync()

    def get(self, family: str, key: bytes) -> bytes | None:
        if (family, key) in self._store.damaged:
            raise self._corruption(family, key)
        return self._store.families[family].pairs.get(key)

    def items(
        self, family: str, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._store.families[family].walk(start, end):
            if (family, key) in self._store.damaged:
                raise self._corruption(family, key)
            yield key, value

    def last(self, family: str) -> tuple[bytes, bytes] | None:
        content = self._store.families[family]
        return (content.keys[-1], content.pairs[content.keys[-1]]) if content.keys else None

    def view(self) -> MemoryView:
        return MemoryView(self._store.families)

    def close(self) -> None:
        """Nothing is held open."""

    def _fault(self, what: str, why: str) -> StorageFault:
        return StorageFault(f"{what} of {self._store.name} failed: {why}", operation=what)

    def _corruption(self, family: str, key: bytes) -> LogCorrupt:
        return LogCorrupt(f"{self._store.name} is damaged at {family}/{key.hex()}")


class Disk:
    """What a machine keeps over the lives of its processes: the log, and the folders of states."""

    def __init__(self, name: str, rng: random.Random, *, sync_s: float) -> None:
        self.name = name
        self.rng = rng
        self.faults = DiskFaults(sync_s)
        self.happened: Counter[str] = Counter()
        self._stores: dict[str, Store] = {}
        self.current: str | None = None
        """The folder of the present state."""

    def open(self, folder: str, families: Sequence[str]) -> Engine:
        """The engine in a folder, which is made if need be."""
        if folder not in self._stores:
            self._stores[folder] = Store(f"{self.name}/{folder}", families)
        return SimEngine(self._stores[folder], self.faults)

    def crash(self) -> None:
        """The power fails."""
        for store in self._stores.values():
            if store.crash(self.rng):
                self.happened["unsynced_lost"] += 1

    @property
    def has_log(self) -> bool:
        """Whether a node has ever run on it."""
        return LOG_FOLDER in self._stores

    def durable(self, folder: str) -> dict[str, Family]:
        """What a crash would leave of a folder's engine at the least."""
        return self._stores[folder].durable

    def wipe(self) -> None:
        """Another disk, which is empty, is in its place."""
        self._stores.clear()
        self.current = None

    def flip_a_bit(self) -> str:
        """Damage one durable record; returns where, "" if there is none."""
        records = [
            (store, family, key)
            for store in self._stores.values()
            for family, content in store.durable.items()
            for key in content.keys
        ]
        if not records:
            return ""
        store, family, key = self.rng.choice(records)
        store.damaged.add((family, key))
        return f"{store.name}/{family}/{key.hex()}"

    def home(self) -> SimHome:
        """Where the states are."""
        return SimHome(self)

    def folders(self) -> list[str]:
        """Of states."""
        return sorted(folder for folder in self._stores if folder != LOG_FOLDER)

    def remove(self, folder: str) -> None:
        """Delete a folder, if it is there."""
        self._stores.pop(folder, None)


class SimHome:
    """A StateHome on a Disk."""

    def __init__(self, disk: Disk) -> None:
        self.name = disk.name
        self._disk = disk

    def current(self) -> str | None:
        return self._disk.current

    def make_current(self, folder: str) -> None:
        disk = self._disk
        if disk.faults.full or disk.faults.sync_fails:
            raise StorageFault(f"cannot name {folder} the state in {self.name}: input/output error")
        disk.current = folder

    def open(self, folder: str, families: Sequence[str]) -> Engine:
        return self._disk.open(folder, families)

    def folders(self) -> list[str]:
        return self._disk.folders()

    def remove(self, folder: str) -> None:
        self._disk.remove(folder)
