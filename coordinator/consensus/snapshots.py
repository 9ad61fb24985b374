"""Carrying a snapshot from a leader to a follower, in numbered chunks with checksums and a small window."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from coordinator.consensus.messages import SnapshotAck, SnapshotChunk, Verdict
from coordinator.consensus.port import Replica, SnapshotMeta, SnapshotReader, SnapshotWriter
from coordinator.errors import StateCorrupt


class SnapshotSender:
    """The leader's side of one transfer. A chunk that could not be sent is offered again."""

    def __init__(self, reader: SnapshotReader, transfer: int, *, window: int, now: float) -> None:
        self.meta = reader.meta
        self.transfer = transfer
        self.moved_s = now
        """When the follower last acknowledged something new."""
        self._reader = reader
        self._window = window
        self._chunks: Iterator[bytes] = reader.chunks()
        self._next: bytes | None = next(self._chunks, b"")
        self._after: bytes | None = next(self._chunks, None)
        self._sent = 0
        self._acknowledged = 0

    def chunk(self, term: int) -> SnapshotChunk | None:
        """The next chunk; None while the window is full and when all are sent."""
        if self._next is None or self._sent - self._acknowledged >= self._window:
            return None
        last = self._after is None
        crc = zlib.crc32(self._next)
        return SnapshotChunk(term, self.transfer, self._sent, self.meta, crc, last, self._next)

    def chunk_sent(self) -> None:
        """It has left; go on to the one after."""
        self._sent += 1
        self._next, self._after = self._after, next(self._chunks, None)

    def acknowledged(self, expected: int, now: float) -> None:
        """The follower has every chunk below `expected`."""
        if self._acknowledged < expected <= self._sent:
            self._acknowledged = expected
            self.moved_s = now

    def close(self) -> None:
        """The transfer is over."""
        self._reader.close()


class SnapshotReceiver:
    """The follower's side: takes one transfer at a time, and installs only what is newer than the state
    and verifies."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._writer: SnapshotWriter | None = None
        self._transfer = ("", 0, 0)
        self._expected = 0

    def receive(self, leader: str, chunk: SnapshotChunk) -> SnapshotAck:
        """Take a chunk; the answer says what became of it. After INSTALLED the replica's state is the
        snapshot's."""
        transfer = (leader, chunk.term, chunk.transfer)
        if transfer != self._transfer:
            self.abort()
            self._transfer = transfer
        verdict = self._take(chunk)
        return SnapshotAck(chunk.term, chunk.transfer, self._expected, verdict, self._replica.applied)

    def abort(self) -> None:
        """Forget what has arrived of a transfer that will not be finished."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
        self._expected = 0

    def _take(self, chunk: SnapshotChunk) -> Verdict:
        if chunk.meta.index <= self._replica.applied.index:
            # The state must never go back: entries after the snapshot were applied, and acknowledged.
            self.abort()
            return Verdict.KNOWN
        if chunk.number != self._expected:
            return Verdict.RECEIVED
        try:
            self._write(chunk)
            if chunk.last:
                self._install(chunk.meta)
        except StateCorrupt:
            self.abort()
            return Verdict.REFUSED
        return Verdict.INSTALLED if chunk.last else Verdict.RECEIVED

    def _write(self, chunk: SnapshotChunk) -> None:
        if zlib.crc32(chunk.data) != chunk.crc:
            raise StateCorrupt(f"chunk {chunk.number} of the snapshot at {chunk.meta.index} arrived damaged")
        if self._writer is None:
            self._writer = self._replica.write_snapshot(chunk.meta)
        self._writer.write(chunk.data)
        self._expected += 1

    def _install(self, meta: SnapshotMeta) -> None:
        assert self._writer is not None
        self._writer.install()
        self._writer = None
        if self._replica.applied != meta:
            raise StateCorrupt(
                f"after the snapshot at {meta.index} the state says it is at {self._replica.applied.index}",
                index=meta.index,
            )
