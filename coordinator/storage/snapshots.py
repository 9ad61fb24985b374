"""The state at one applied index as a run of checksummed chunks, and back.

A chunk is a msgpack list of (family, key, value), at most about `CHUNK_BYTES` long. The last one is a
trailer with the number of records and the checksum of all chunks before it, so that a snapshot that was
cut short or altered is never installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import msgspec

from coordinator.core.position import SnapshotMeta
from coordinator.errors import StateCorrupt
from coordinator.storage.layout import FAMILIES, FORMAT
from coordinator.storage.state_store import StateStore

CHUNK_BYTES: Final = 256 << 10
"""Size from which a chunk is closed; one record may exceed it."""

_RECORD_OVERHEAD: Final = 16


class Records(msgspec.Struct, tag=1, array_like=True):
    """A chunk of content."""

    records: list[tuple[str, bytes, bytes]]


class Trailer(msgspec.Struct, tag=2, array_like=True):
    """The last chunk."""

    format: int
    count: int
    checksum: bytes


_decode = msgspec.msgpack.Decoder(Records | Trailer).decode
_encode = msgspec.msgpack.Encoder().encode


class StateReader:
    """consensus.port.SnapshotReader over a consistent view of the store."""

    def __init__(self, store: StateStore) -> None:
        self.meta = store.applied
        self._view = store.view()

    def chunks(self) -> Iterator[bytes]:
        """The content, then the trailer."""
        checksum, count = blake2b(digest_size=32), 0
        for records in self._groups():
            chunk = _encode(Records(records))
            checksum.update(chunk)
            count += len(records)
            yield chunk
        yield _encode(Trailer(FORMAT, count, checksum.digest()))

    def close(self) -> None:
        """Let go of the view."""
        self._view.close()

    def _groups(self) -> Iterator[list[tuple[str, bytes, bytes]]]:
        group: list[tuple[str, bytes, bytes]] = []
        size = 0
        for family in FAMILIES:
            for key, value in self._view.items(family):
                group.append((family, key, value))
                size += len(key) + len(value) + _RECORD_OVERHEAD
                if size >= CHUNK_BYTES:
                    yield group
                    group, size = [], 0
        if group:
            yield group


class StateWriter:
    """Receives chunks into a folder of its own; `finish` verifies them and returns what `StateStore.adopt`
    takes."""

    def __init__(self, store: StateStore, meta: SnapshotMeta) -> None:
        self._store = store
        self._meta = meta
        self._folder, self._engine = store.incoming(meta.index)
        self._checksum = blake2b(digest_size=32)
        self._count = 0
        self._trailer: Trailer | None = None

    def write(self, chunk: bytes) -> None:
        """Take the next chunk. Raises StateCorrupt if it is not one, or comes after the last."""
        try:
            content = _decode(chunk)
        except msgspec.MsgspecError as error:
            raise StateCorrupt(
                f"a chunk of the snapshot at {self._meta.index} cannot be read: {error}"
            ) from error
        if self._trailer is not None:
            raise StateCorrupt(f"a chunk of the snapshot at {self._meta.index} follows its last one")
        if isinstance(content, Trailer):
            self._trailer = content
            return
        self._checksum.update(chunk)
        self._count += len(content.records)
        batch = self._engine.batch()
        for family, key, value in content.records:
            if family not in FAMILIES:
                raise StateCorrupt(
                    f"the snapshot at {self._meta.index} has a record of an unknown family {family!r}"
                )
            batch.put(family, key, value)
        self._engine.write(batch)

    def install(self) -> None:
        """Verify the whole and put it in place of the state. Raises StateCorrupt, and changes nothing, if
        it does not verify."""
        expected = Trailer(FORMAT, self._count, self._checksum.digest())
        if self._trailer != expected:
            raise StateCorrupt(
                f"the snapshot at {self._meta.index} does not verify: {self._count} records, {self._trailer}",
                index=self._meta.index,
            )
        self._store.adopt(self._folder, self._engine, self._meta)

    def abort(self) -> None:
        """Forget what was received."""
        self._store.discard(self._folder, self._engine)
