"""Stand-ins for disk, thread and state machine: an engine that forgets what was not synced, a worker that
runs when told to, and a state machine that is a list."""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import msgspec

from coordinator.consensus.port import Committed, Role, SnapshotMeta, SnapshotReader, SnapshotWriter
from coordinator.errors import StateCorrupt
from coordinator.storage.engine import Batch

Operation = tuple[str, str, bytes, bytes]


class MemoryBatch:
    """Operations in order: (what, family, key, value or end)."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def put(self, family: str, key: bytes, value: bytes) -> None:
        self.operations.append(("put", family, key, value))

    def delete(self, family: str, key: bytes) -> None:
        self.operations.append(("delete", family, key, b""))

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        self.operations.append(("delete_range", family, start, end))


class MemoryView:
    """A copy."""

    def __init__(self, families: dict[str, dict[bytes, bytes]]) -> None:
        self._families = {name: dict(content) for name, content in families.items()}

    def items(
        self, family: str, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        return _walk(self._families[family], start, end)

    def close(self) -> None:
        self._families.clear()


class MemoryEngine:
    """An Engine whose unsynced writes a `crash` takes away, except for a part from the front if so asked."""

    def __init__(self, families: Sequence[str]) -> None:
        self._live: dict[str, dict[bytes, bytes]] = {name: {} for name in families}
        self._stable: dict[str, dict[bytes, bytes]] = {name: {} for name in families}
        self._unsynced: list[list[Operation]] = []
        self.fault: Exception | None = None
        """Raised by every write and sync from now on, if set."""
        self.syncs = 0
        self.on_sync: Callable[[], None] = lambda: None

    def crash(self, kept: int = 0) -> None:
        """Lose the unsynced batches but for the first `kept`."""
        for operations in self._unsynced[:kept]:
            _apply(self._stable, operations)
        self._unsynced.clear()
        self._live = {name: dict(content) for name, content in self._stable.items()}

    @property
    def unsynced(self) -> int:
        """How many batches a crash would lose."""
        return len(self._unsynced)

    def batch(self) -> MemoryBatch:
        return MemoryBatch()

    def write(self, batch: Batch) -> None:
        assert isinstance(batch, MemoryBatch)
        if self.fault is not None:
            raise self.fault
        _apply(self._live, batch.operations)
        self._unsynced.append(batch.operations)

    def sync(self) -> None:
        if self.fault is not None:
            raise self.fault
        self.syncs += 1
        self.on_sync()
        for operations in self._unsynced:
            _apply(self._stable, operations)
        self._unsynced.clear()

    def flush(self) -> None:
        self.sync()

    def get(self, family: str, key: bytes) -> bytes | None:
        return self._live[family].get(key)

    def items(
        self, family: str, start: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        return _walk(self._live[family], start, end)

    def last(self, family: str) -> tuple[bytes, bytes] | None:
        content = self._live[family]
        return max(content.items()) if content else None

    def view(self) -> MemoryView:
        return MemoryView(self._live)

    def close(self) -> None:
        """Nothing is held open."""


def _walk(content: dict[bytes, bytes], start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    for key in sorted(content):
        if key >= start and (end is None or key < end):
            yield key, content[key]


def _apply(families: dict[str, dict[bytes, bytes]], operations: Sequence[Operation]) -> None:
    for what, family, key, value in operations:
        content = families[family]
        if what == "put":
            content[key] = value
        elif what == "delete":
            content.pop(key, None)
        else:
            for doomed in [other for other in content if key <= other < value]:
                del content[doomed]


class ManualWorker:
    """A Worker whose work waits until the test lets it happen, unless all of it is `brief`."""

    def __init__(self) -> None:
        self.brief = False
        self._jobs: deque[tuple[Callable[[], None], Callable[[Exception | None], None]]] = deque()

    def run(self, work: Callable[[], None], done: Callable[[Exception | None], None]) -> None:
        self._jobs.append((work, done))

    def run_and_wait(self, work: Callable[[], None], done: Callable[[Exception | None], None]) -> bool:
        if self.brief:
            work()
        else:
            self.run(work, done)
        return self.brief

    def __len__(self) -> int:
        return len(self._jobs)

    def finish(self) -> None:
        """Do what is waiting."""
        for _ in range(len(self._jobs)):
            work, done = self._jobs.popleft()
            error: Exception | None = None
            try:
                work()
            except Exception as raised:
                error = raised
            done(error)


class ListReplica:
    """A state machine whose state is the list of the commands applied, in order, with a digest over them."""

    chunk_bytes = 64

    def __init__(self) -> None:
        self.applied = SnapshotMeta(1, 0, b"")
        self.commands: list[bytes] = []
        self.roles: list[tuple[Role, int, str | None]] = []
        self.fatal: list[Exception] = []
        self.runs: list[int] = []
        self.flushes = 0
        self.snapshots_read = 0
        self.snapshots_open = 0
        self.chunks_received = 0
        self.digests: dict[int, bytes] = {1: b""}
        self.poison: bytes | None = None
        """A command that cannot be applied."""

    def apply(self, entries: Sequence[Committed]) -> None:
        assert entries[0].index == self.applied.index + 1
        self.runs.append(len(entries))
        for entry in entries:
            if entry.payload:
                self.commands.append(entry.payload)
                if entry.payload == self.poison:
                    raise RuntimeError("this command cannot be applied")
            digest = hashlib.blake2b(self.applied.digest + entry.payload, digest_size=8).digest()
            self.applied = SnapshotMeta(entry.index, entry.term, digest)
            self.digests[entry.index] = digest
        self.changed()

    def digest_at(self, index: int) -> bytes | None:
        return self.digests.get(index)

    def installed(self) -> None:
        """A snapshot has taken the place of the state, on disk as well."""
        self.changed()

    def changed(self) -> None:
        """Something happened: for those who wait."""

    def on_role(self, role: Role, term: int, leader: str | None) -> None:
        self.roles.append((role, term, leader))
        self.changed()

    def on_fatal(self, error: Exception) -> None:
        self.fatal.append(error)
        self.changed()

    def read_snapshot(self) -> SnapshotReader:
        self.snapshots_read += 1
        self.snapshots_open += 1
        return _ListReader(self)

    def write_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        return _ListWriter(self, meta)

    def flush(self) -> None:
        self.flushes += 1


class _ListReader:
    def __init__(self, replica: ListReplica) -> None:
        self.meta = replica.applied
        self._replica = replica
        self._content = msgspec.msgpack.encode(replica.commands)

    def chunks(self) -> Iterator[bytes]:
        size = self._replica.chunk_bytes
        for start in range(0, len(self._content), size):
            yield self._content[start : start + size]

    def close(self) -> None:
        self._replica.snapshots_open -= 1


class _ListWriter:
    def __init__(self, replica: ListReplica, meta: SnapshotMeta) -> None:
        self._replica = replica
        self._meta = meta
        self._content = b""
        self._commands: list[bytes] = []

    def write(self, chunk: bytes) -> None:
        self._content += chunk
        self._replica.chunks_received += 1
        self._replica.changed()

    def prepare(self) -> None:
        try:
            self._commands = msgspec.msgpack.decode(self._content, type=list[bytes])
        except msgspec.MsgspecError as error:
            raise StateCorrupt(f"the snapshot at {self._meta.index} cannot be read: {error}") from error

    def install(self) -> None:
        self._replica.commands = self._commands
        self._replica.applied = self._meta
        self._replica.digests = {self._meta.index: self._meta.digest}
        self._replica.installed()

    def discard(self) -> None:
        self._content = b""


class FixedChance(random.Random):
    """Always the middle of a range."""

    def random(self) -> float:
        return 0.5
