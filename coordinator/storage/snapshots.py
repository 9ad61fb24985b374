"""The state at one applied index as a run of checksummed chunks, and back.

A chunk is a msgpack list of (family, key, value) of about `CHUNK_BYTES`. A value that does not fit goes on
in the chunks that follow, so that no chunk takes long to make, send or check. The last chunk is a trailer
with the number of records and the checksum of all chunks before it, so that a snapshot that was cut short or
altered is never installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import msgspec

from coordinator.core.position import SnapshotMeta
from coordinator.errors import StateCorrupt
from coordinator.storage.engine import Engine
from coordinator.storage.layout import FAMILIES, FORMAT
from coordinator.storage.state_store import APPLIED, StateStore, StoredState, applied_in

CHUNK_BYTES: Final = 64 << 10
"""Content of a chunk, at most."""
CHUNK_RECORDS: Final = 500
"""Records in a chunk, at most: small ones cost by their number."""

_RECORD_OVERHEAD: Final = 16

Record = tuple[str, bytes, bytes]


class Records(msgspec.Struct, tag=1, array_like=True):
    """A chunk of content. `more`: the last record's value goes on in the first record of the next chunk."""

    records: list[Record]
    more: bool = False


class Trailer(msgspec.Struct, tag=2, array_like=True):
    """The last chunk."""

    format: int
    count: int
    checksum: bytes


_decode = msgspec.msgpack.Decoder(Records | Trailer).decode
_encode = msgspec.msgpack.Encoder().encode


class StateReader:
    """consensus.port.SnapshotReader over a consistent view of the store."""

    def __init__(self, store: StoredState) -> None:
        self.meta = store.applied
        self._view = store.view()

    def chunks(self) -> Iterator[bytes]:
        """The content, then the trailer."""
        checksum, count = blake2b(digest_size=32), 0
        for content in self._groups():
            chunk = _encode(content)
            checksum.update(chunk)
            count += len(content.records) - content.more
            yield chunk
        yield _encode(Trailer(FORMAT, count, checksum.digest()))

    def close(self) -> None:
        """Let go of the view."""
        self._view.close()

    def _groups(self) -> Iterator[Records]:
        group: list[Record] = []
        room = CHUNK_BYTES
        for family, key, value in self._records():
            start = 0
            while len(value) - start > room:
                group.append((family, key, value[start : start + room]))
                start += room
                yield Records(group, more=True)
                group, room = [], CHUNK_BYTES
            group.append((family, key, value[start:]))
            room -= len(value) - start + len(key) + _RECORD_OVERHEAD
            if room <= 0 or len(group) == CHUNK_RECORDS:
                yield Records(group)
                group, room = [], CHUNK_BYTES
        if group:
            yield Records(group)

    def _records(self) -> Iterator[Record]:
        for family in FAMILIES:
            for key, value in self._view.items(family):
                yield family, key, value


class ChunkIntake:
    """Takes the chunks of one snapshot into an engine, and knows whether they were all there."""

    def __init__(self, meta: SnapshotMeta, engine: Engine | None) -> None:
        """Without an `engine` nothing is kept: the chunks are only verified."""
        self._meta = meta
        self._engine = engine
        self._checksum = blake2b(digest_size=32)
        self._begun: list[bytes] = []
        """What has arrived of a value that goes on."""
        self._trailer: Trailer | None = None
        self._applied = SnapshotMeta()
        """Where the state says that it is."""
        self.count = 0
        """Records that are complete."""

    def write(self, chunk: bytes) -> None:
        """Take the next chunk. Raises StateCorrupt if it is not one, or comes after the last."""
        try:
            content = _decode(chunk)
        except msgspec.MsgspecError as error:
            raise self._corrupt(f"a chunk cannot be read: {error}") from error
        if self._trailer is not None:
            raise self._corrupt("a chunk follows the last one")
        if isinstance(content, Trailer):
            self._trailer = content
            return
        self._checksum.update(chunk)
        self._take(content)

    def verify(self) -> None:
        """Raise StateCorrupt unless all is there, as it was sent, and is the state that it should be."""
        if self._trailer != Trailer(FORMAT, self.count, self._checksum.digest()) or self._begun:
            raise self._corrupt(f"it does not verify: {self.count} records, {self._trailer}")
        if self._applied != self._meta:
            raise self._corrupt(f"it holds the state at {self._applied.index}, or another one")

    def _take(self, content: Records) -> None:
        batch = None if self._engine is None else self._engine.batch()
        for at, (family, key, value) in enumerate(content.records, 1):
            if family not in FAMILIES:
                raise self._corrupt(f"it has a record of an unknown family {family!r}")
            self._begun.append(value)
            if content.more and at == len(content.records):
                break
            self.count += 1
            whole = b"".join(self._begun)
            self._begun.clear()
            if (family, key) == APPLIED:
                self._applied = applied_in(whole, f"the snapshot at {self._meta.index}")
            if batch is not None:
                batch.put(family, key, whole)
        if batch is not None and self._engine is not None:
            self._engine.write(batch)

    def _corrupt(self, what: str) -> StateCorrupt:
        return StateCorrupt(f"the snapshot at {self._meta.index}: {what}", index=self._meta.index)


class StateWriter:
    """Receives chunks into a folder of its own, beside the present state of `store`."""

    def __init__(self, store: StateStore, meta: SnapshotMeta) -> None:
        self._store = store
        self._meta = meta
        self._incoming = store.incoming(meta.index)
        self._chunks = ChunkIntake(meta, self._incoming.engine)
        self.write = self._chunks.write

    def seal(self) -> StoredState:
        """Verify the whole and make it durable; returns the state that it holds. Blocking; may run in a
        thread. Raises StateCorrupt, StorageFault."""
        self._chunks.verify()
        return self._store.seal(self._incoming)

    def install(self, state: StoredState) -> None:
        """Put what was sealed in place of the present state. Raises StorageFault."""
        self._incoming = self._store.adopt(self._incoming, state)

    def discard(self) -> None:
        """Remove what was received; or, once it is installed, what it replaced. Blocking; may run in a
        thread."""
        self._store.discard(self._incoming)
