"""Carrying a snapshot from a leader to a follower, in numbered chunks with checksums, a small window and a
bounded pace.

What is not acknowledged is kept by the sender, and sent again after a pause or a lost connection; the
follower says where it stands, so a transfer goes on from there. The last chunk counts as acknowledged only
once the snapshot is installed: sent again, it asks how things stand.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from itertools import count
from typing import Final, NamedTuple

from coordinator.consensus.journal import Position
from coordinator.consensus.membership import Configuration
from coordinator.consensus.messages import SnapshotAck, SnapshotChunk, Verdict
from coordinator.consensus.port import Role, SnapshotMeta, SnapshotReader, SnapshotWriter
from coordinator.consensus.seam import SyncObjSeam
from coordinator.consensus.settings import RaftSettings
from coordinator.consensus.worker import Worker
from coordinator.errors import CoordinatorError, StateCorrupt

_PACE_SLACK_S: Final = 0.002
"""Timers are late by about as much; the pace makes up for it."""


class _Piece(NamedTuple):
    number: int
    data: bytes
    last: bool


class SnapshotSender:
    """The leader's side of one transfer. Times are seconds of the node's clock."""

    def __init__(
        self,
        reader: SnapshotReader,
        transfer: int,
        configuration: Configuration,
        settings: RaftSettings,
        now: float,
    ) -> None:
        """`configuration` is the one in force at the reader's index."""
        self._configuration = configuration
        self.meta = reader.meta
        self.transfer = transfer
        self._reader = reader
        self._settings = settings
        self._began_s = self._heard_s = self._moved_s = now
        self._due_s = now - _PACE_SLACK_S
        self._pieces = _pieces(reader.chunks())
        self._exhausted = False
        self._unacknowledged: deque[_Piece] = deque()
        self._sent = 0
        """How many of those have been sent since the transfer was begun or taken up again."""

    def overdue(self, now: float) -> bool:
        """Whether it has taken too long, or the follower has been silent for too long."""
        return (
            now - self._began_s > self._settings.snapshot_life_s
            or now - self._heard_s > self._settings.snapshot_stall_s
        )

    def chunk(self, term: int, now: float) -> SnapshotChunk | None:
        """The next chunk, if one may leave now."""
        if self._sent and now - self._moved_s > self._settings.snapshot_resend_s:
            self.resume(now)
        if now < self._due_s or not self._has_next():
            return None
        piece = self._unacknowledged[self._sent]
        crc = zlib.crc32(piece.data)
        configuration = self._configuration if piece.last else None
        return SnapshotChunk(
            term, self.transfer, piece.number, self.meta, crc, piece.last, piece.data, configuration
        )

    def chunk_sent(self, now: float) -> None:
        """It has left; go on to the one after."""
        size = len(self._unacknowledged[self._sent].data)
        self._sent += 1
        self._due_s = max(self._due_s, now - _PACE_SLACK_S) + size / self._settings.snapshot_bytes_per_s

    def chunk_refused(self, now: float) -> None:
        """There was no room for it: offer it again a little later."""
        self._due_s = now + self._settings.heartbeat_s

    def next_due_s(self) -> float:
        """When the next chunk may leave; infinite if it first takes an acknowledgement."""
        full = len(self._unacknowledged) >= self._settings.snapshot_window_chunks
        waits = self._sent == len(self._unacknowledged) and (full or self._exhausted)
        return math.inf if waits else self._due_s

    def acknowledged(self, expected: int, now: float) -> None:
        """The follower has every chunk below `expected`."""
        self._heard_s = now
        while self._unacknowledged and self._unacknowledged[0].number < expected:
            self._unacknowledged.popleft()
            self._sent = max(0, self._sent - 1)
            self._moved_s = now

    def resume(self, now: float) -> None:
        """What is not acknowledged may be lost: send it again."""
        self._sent = 0
        self._moved_s = now

    def close(self) -> None:
        """The transfer is over."""
        self._unacknowledged.clear()
        self._let_go()

    def _has_next(self) -> bool:
        if self._sent < len(self._unacknowledged):
            return True
        if self._exhausted or len(self._unacknowledged) >= self._settings.snapshot_window_chunks:
            return False
        piece = next(self._pieces)
        self._unacknowledged.append(piece)
        if piece.last:
            self._let_go()
        return True

    def _let_go(self) -> None:
        """Nothing more will be read: what the reader pins can go."""
        if not self._exhausted:
            self._exhausted = True
            self._pieces.close()
            self._reader.close()


def _pieces(chunks: Iterator[bytes]) -> Generator[_Piece]:
    present = next(chunks)
    for number in count():
        following = next(chunks, None)
        yield _Piece(number, present, following is None)
        if following is None:
            return
        present = following


class SnapshotReceiver:
    """The follower's side: takes one transfer at a time, and installs only what is newer than the state and
    verifies.

    A snapshot that has arrived whole is prepared by a worker, and installed whoever leads by then, since it
    holds nothing but what is committed.
    """

    def __init__(
        self,
        node: SyncObjSeam,
        worker: Worker,
        finish: Callable[[Callable[[], None]], None],
        installed: Callable[[SnapshotMeta], None],
    ) -> None:
        """`finish` runs a step on the event loop as one of the node's own events, in which `installed` is
        told that the state is the snapshot's now."""
        self._node = node
        self._worker = worker
        self._finish = finish
        self._installed = installed
        self._writer: SnapshotWriter | None = None
        self._source = _Source("", 0, 0)
        self._expected = 0
        self._preparing = False
        self._stopped = False

    def receive(self, leader: str, chunk: SnapshotChunk) -> None:
        """Take a chunk, and answer what has become of the snapshot so far."""
        source = _Source(leader, chunk.term, chunk.transfer)
        try:
            verdict = self._take(source, chunk)
        except StateCorrupt:
            self.abort()
            verdict = Verdict.REFUSED
        self._answer(source, verdict)

    def abort(self) -> None:
        """Forget what has arrived of a transfer that will not be finished."""
        if self._preparing:
            return
        self._expected = 0
        if self._writer is not None:
            self._discard(self._writer)
            self._writer = None

    def stop(self) -> None:
        """The node takes no further part."""
        self.abort()
        self._stopped = True

    def _take(self, source: _Source, chunk: SnapshotChunk) -> Verdict:
        if chunk.meta.index <= self._node.replica.applied.index:
            # The state must never go back: entries after the snapshot were applied, and acknowledged.
            if not source.is_before(self._source):
                self.abort()
            return Verdict.KNOWN
        if self._preparing:
            return Verdict.RECEIVED
        given_up = source == self._source and self._writer is None
        if given_up or source.is_before(self._source):
            # The leader counts on chunks that are here no more: it must begin another transfer.
            return Verdict.MISSING
        if source != self._source:
            if chunk.number:
                return Verdict.MISSING
            self.abort()
            self._source = source
        if chunk.number == self._expected:
            self._write(chunk)
        return Verdict.RECEIVED

    def _write(self, chunk: SnapshotChunk) -> None:
        if zlib.crc32(chunk.data) != chunk.crc:
            raise StateCorrupt(f"chunk {chunk.number} of the snapshot at {chunk.meta.index} arrived damaged")
        if self._writer is None:
            self._writer = self._node.replica.write_snapshot(chunk.meta)
        self._writer.write(chunk.data)
        if not chunk.last:
            self._expected += 1
            return
        if chunk.configuration is None:
            raise StateCorrupt(f"the snapshot at {chunk.meta.index} does not say who belongs to the cluster")
        writer, arrived = self._writer, _Arrived(self._source, chunk.meta, chunk.configuration)
        self._preparing = True
        self._worker.run(writer.prepare, lambda error: self._prepared(writer, arrived, error))

    def _prepared(self, writer: SnapshotWriter, arrived: _Arrived, error: Exception | None) -> None:
        if self._stopped:
            # The disk may be why the node has stopped. What is left goes at its next start.
            with suppress(CoordinatorError):
                writer.discard()
            return
        self._finish(lambda: self._install(writer, arrived, error))

    def _install(self, writer: SnapshotWriter, arrived: _Arrived, error: Exception | None) -> None:
        meta = arrived.meta
        self._preparing = False
        self._writer = None
        self._expected = 0
        verdict = Verdict.KNOWN
        if isinstance(error, StateCorrupt):
            verdict = Verdict.REFUSED
        elif error is not None:
            raise error
        elif meta.index > self._node.replica.applied.index and self._node.role is not Role.LEADER:
            self._node.journal.expect_base(Position(meta.index, meta.term), arrived.configuration)
            writer.install()
            self._node.counters["snapshots_installed"] += 1
            self._installed(meta)
            verdict = Verdict.INSTALLED
        self._discard(writer)
        self._answer(arrived.source, verdict)

    def _discard(self, writer: SnapshotWriter) -> None:
        def discarded(error: Exception | None) -> None:
            if error is not None:
                self._finish(lambda: _raise(error))

        self._worker.run(writer.discard, discarded)

    def _answer(self, source: _Source, verdict: Verdict) -> None:
        expected = self._expected if source == self._source else 0
        applied = self._node.replica.applied
        self._node.send(source.leader, SnapshotAck(source.term, source.transfer, expected, verdict, applied))


class _Source(NamedTuple):
    """Which transfer a chunk belongs to."""

    leader: str
    term: int
    transfer: int

    def is_before(self, other: _Source) -> bool:
        """Whether it was begun earlier: a term has one leader, who counts its transfers."""
        return (self.term, self.transfer) < (other.term, other.transfer)


class _Arrived(NamedTuple):
    """A snapshot that is whole."""

    source: _Source
    meta: SnapshotMeta
    configuration: Configuration


def _raise(error: Exception) -> None:
    raise error
