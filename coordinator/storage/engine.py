"""An ordered key-value engine with column families, batches and an explicit sync: RocksDB behind a small
port.

Writes go to the write-ahead log unsynced and are durable after `sync`. `rocksdict` holds the GIL in
`write` (4-5 us for a small batch) and releases it in `flush_wal(True)`, so writes belong on the event
loop and the sync in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from rocksdict import ColumnFamily, DBRecoveryMode, Env, Options, Rdict, RdictIter, ReadOptions, WriteBatch

from coordinator.errors import Fatal, LogCorrupt, StartFailed, StateCorrupt, StorageFault

_BYTES_PER_SYNC: Final = 1 << 20
_BACKGROUND_BYTES_PER_S: Final = 128 << 20
"""What flushes and compactions of one engine may write. Flushes go first: writes wait for them."""
_REFILL_US: Final = 20_000
_FAIRNESS: Final = 10


_POINTER: Final = "CURRENT"
"""The file of RocksDB that names its table of contents; the last to be made."""


class Batch(Protocol):
    """Operations that take effect together or not at all."""

    def put(self, family: str, key: bytes, value: bytes) -> None:
        """Set `key` to `value`."""

    def delete(self, family: str, key: bytes) -> None:
        """Remove `key` if it is there."""

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        """Remove every key from `start` up to but without `end`."""


class View(Protocol):
    """A consistent reading of all families at one moment; close it soon, since it pins old data."""

    def items(
        self, family: str, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs in key order from `start` up to but without `end`."""

    def close(self) -> None:
        """Let go of the data that it pins."""


class Engine(Protocol):
    """What the journal and the state store need of a disk. Raises StorageFault when the disk fails."""

    def batch(self) -> Batch:
        """A new, empty batch."""

    def write(self, batch: Batch) -> None:
        """Apply the batch atomically; not durable before `sync`."""

    def sync(self) -> None:
        """Make everything written so far durable. Blocking; may run in a thread beside writes."""

    def flush(self) -> None:
        """Write what is in memory to table files, so that the write-ahead log can go. Blocks, like `sync`."""

    def get(self, family: str, key: bytes) -> bytes | None:
        """The value of `key`."""

    def items(
        self, family: str, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs in key order from `start` up to but without `end`."""

    def last(self, family: str) -> tuple[bytes, bytes] | None:
        """The pair with the highest key."""

    def view(self) -> View:
        """A consistent reading as of now."""

    def close(self) -> None:
        """Close the files. Raises StorageFault if what was written last could not be."""


class RocksBatch:
    """A Batch on rocksdict's WriteBatch."""

    def __init__(self, handles: dict[str, ColumnFamily]) -> None:
        self.raw = WriteBatch(raw_mode=True)
        self._handles = handles

    def put(self, family: str, key: bytes, value: bytes) -> None:
        self.raw.put(key, value, self._handles[family])

    def delete(self, family: str, key: bytes) -> None:
        self.raw.delete(key, self._handles[family])

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        self.raw.delete_range(start, end, self._handles[family])


class RocksView:
    """A View on one iterator per family, all made together while nothing writes.

    An iterator of RocksDB sees the database as it was when it was made. A rocksdict snapshot (0.3.29)
    does not: it honours its moment in `get`, while its iterators see later writes too.
    """

    def __init__(self, families: dict[str, Rdict], fault: Callable[[str, Exception], Fatal]) -> None:
        """`fault` makes an error of the tree from one of RocksDB."""
        self._cursors = {name: family.iter() for name, family in families.items()}
        self._fault = fault

    def items(
        self, family: str, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        try:
            for key, value in _walk(self._cursors[family], start):
                if end is not None and key >= end:
                    return
                yield key, value
        except Exception as error:
            raise self._fault("scan", error) from error

    def close(self) -> None:
        self._cursors.clear()


class RocksEngine:
    """The Engine of a real node. One process at a time may hold a folder open."""

    def __init__(
        self,
        path: Path,
        families: Sequence[str],
        *,
        damage: type[LogCorrupt | StateCorrupt] = LogCorrupt,
        replayed: bool = False,
        write_buffer_bytes: int = 8 << 20,
    ) -> None:
        """Open or create the database in `path`. `replayed`: what a crash takes from its end is written
        again by the caller, so that it goes on from the last moment at which nothing before was missing.

        Raises:
            StartFailed: the folder cannot be made, or another process holds it.
            The class `damage`: the files are damaged in a place that a torn last write does not explain; so
                does every later read that meets damage.
        """
        self.path = path
        self._damage = damage
        options = _options(write_buffer_bytes, replayed)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not (path / _POINTER).exists() and any(path.glob("*.sst")):
                # RocksDB would take it for a new folder, and clear it.
                raise self._damaged(f"{_POINTER} is missing")
            self._db = Rdict(
                str(path),
                options,
                column_families={name: _options(write_buffer_bytes, replayed) for name in families},
            )
        except OSError as error:
            raise StartFailed(
                f"cannot make the data folder {path}: {error.strerror}; choose another data_dir",
                path=path,
            ) from error
        except Fatal:
            raise
        except Exception as error:
            raise self._opening_error(error) from error
        self._families = {name: self._db.get_column_family(name) for name in families}
        self._handles = {name: self._db.get_column_family_handle(name) for name in families}

    def batch(self) -> RocksBatch:
        return RocksBatch(self._handles)

    def write(self, batch: Batch) -> None:
        assert isinstance(batch, RocksBatch)
        try:
            self._db.write(batch.raw)
        except Exception as error:
            raise self._fault("write", error) from error

    def sync(self) -> None:
        try:
            self._db.flush_wal(True)
        except Exception as error:
            raise self._fault("sync", error) from error

    def flush(self) -> None:
        try:
            for family in self._families.values():
                family.flush(True)
        except Exception as error:
            raise self._fault("flush", error) from error

    def get(self, family: str, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._families[family].get(key)
        except Exception as error:
            raise self._fault("read", error) from error
        return value

    def items(
        self, family: str, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from _walk(self._families[family].iter(_bounds(end)), start)
        except Exception as error:
            raise self._fault("scan", error) from error

    def last(self, family: str) -> tuple[bytes, bytes] | None:
        try:
            iterator = self._families[family].iter()
            iterator.seek_to_last()
            iterator.status()
        except Exception as error:
            raise self._fault("read", error) from error
        return (iterator.key(), iterator.value()) if iterator.valid() else None

    def view(self) -> RocksView:
        return RocksView(self._families, self._fault)

    def close(self) -> None:
        self._families.clear()
        self._handles.clear()
        try:
            self._db.close()
        except Exception as error:
            raise self._fault("closing", error) from error

    def _fault(self, what: str, error: Exception) -> Fatal:
        if isinstance(error, Fatal):
            return error
        if "Corruption" in str(error):
            return self._damaged(str(error))
        return StorageFault(
            f"{what} of {self.path} failed: {error}; the node stops, since what it holds may not be on disk. "
            "Free space or replace the disk, then start it again.",
            path=self.path,
            operation=what,
        )

    def _opening_error(self, error: Exception) -> StartFailed | Fatal:
        text, path = str(error), self.path
        if "Corruption" in text:
            return self._damaged(text)
        if "lock" in text.lower():
            return StartFailed(
                f"{path} is held by another process; stop it or choose another data_dir", path=path
            )
        if not os.access(path, os.W_OK):
            return StartFailed(
                f"{path} is not writable; mend its rights or choose another data_dir", path=path
            )
        return StartFailed(f"cannot open {path}: {text}", path=path)

    def _damaged(self, text: str) -> Fatal:
        return self._damage(
            f"{self.path} is damaged: {text}. Do not serve from it: let the node rejoin with an "
            "empty folder.",
            path=self.path,
        )


def _options(write_buffer_bytes: int, replayed: bool) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    # A torn last record is what a crash leaves; damage anywhere else must not be mistaken for the end of
    # the log. Where nothing is synced, a crash may also take the end of one file and leave the next, and
    # the end is before the gap.
    options.set_wal_recovery_mode(
        DBRecoveryMode.point_in_time() if replayed else DBRecoveryMode.tolerate_corrupted_tail_records()
    )
    options.set_paranoid_checks(True)
    options.set_write_buffer_size(write_buffer_bytes)
    # A family that is written to rarely would keep every file of the write-ahead log from being deleted.
    options.set_max_total_wal_size(2 * write_buffer_bytes)
    options.set_max_background_jobs(2)
    # Flushes and compactions give way to the event loop, and reach the disk bit by bit: a sync of the log
    # would have to wait for all that they had piled up.
    options.set_env(_background())
    options.set_bytes_per_sync(_BYTES_PER_SYNC)
    options.set_ratelimiter(_BACKGROUND_BYTES_PER_S, _REFILL_US, _FAIRNESS)
    options.set_keep_log_file_num(2)
    return options


def _background() -> Env:
    """RocksDB's threads, shared by all engines of the process."""
    env = Env()
    env.lower_thread_pool_cpu_priority()
    env.lower_high_priority_thread_pool_cpu_priority()
    return env


def _bounds(end: bytes | None) -> ReadOptions:
    options = ReadOptions()
    if end is not None:
        options.set_iterate_upper_bound(end)
    return options


def _walk(cursor: RdictIter, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    cursor.seek(start)
    while cursor.valid():
        yield cursor.key(), cursor.value()
        cursor.next()
    cursor.status()
