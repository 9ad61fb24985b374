"""The log, the term and the vote, on an Engine.

Entries lie in the family "log" under their index; the family "vote" holds the format version, the term
with the vote, and the *base*: the index and term of the last entry that compaction or a snapshot took
away. Every record carries a CRC-32 of its content and its place. Term and vote are synced before
`set_vote` returns. Entries are written at once and become durable when a sync that began after them ends;
the caller runs it: `begin_sync`, the engine's `sync` in a thread, `finish_sync`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from coordinator.consensus.messages import Entry, EntryKind
from coordinator.consensus.sizes import SizeRuns
from coordinator.consensus.terms import TermRuns
from coordinator.errors import LogCorrupt, UnknownFormat
from coordinator.storage.engine import Batch, Engine

LOG: Final = "log"
VOTE: Final = "vote"
FAMILIES: Final = (LOG, VOTE)
"""The column families that the engine must have."""

FORMAT: Final = 1
FIRST_INDEX: Final = 1
"""Every log begins with an empty entry of term 0, which is never stored: it is the first base."""

_T = TypeVar("_T")

_INDEX: Final = struct.Struct(">Q")
_HEAD: Final = struct.Struct(">QB")
_PLACED_HEAD: Final = struct.Struct(">QQB")
_CRC: Final = struct.Struct(">I")
_FORMAT_KEY: Final = b"format"
_VOTE_KEY: Final = b"vote"
_BASE_KEY: Final = b"base"


class Position(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A place in the log: two logs that have the same entry there are the same up to it."""

    index: int
    term: int


class SyncTicket(msgspec.Struct, frozen=True, gc=False):
    """What a sync will have made durable when it ends, unless the log was truncated meanwhile."""

    generation: int
    index: int


class VoteRecord(msgspec.Struct, frozen=True, array_like=True):
    """The term that the node is in, and whom it voted for in it."""

    term: int
    voted_for: str | None


class Journal:
    """The log of one node. Not safe for use by several threads; only the engine's `sync` may run beside
    it."""

    def __init__(self, engine: Engine, *, tail_entries: int, tail_bytes: int) -> None:
        """Open the log that `engine` holds, or begin an empty one. Keeps the newest entries in memory, up
        to two bounds.

        Raises:
            UnknownFormat: a newer program wrote it.
            LogCorrupt: it is not what was written.
        """
        self._engine = engine
        self._tail_entries = tail_entries
        self._tail_bytes = tail_bytes
        self._generation = 0
        if not self._has_format():
            self._create()
        self._vote = self._read(_VOTE_KEY, VoteRecord)
        self._base = self._read(_BASE_KEY, Position)
        self._terms = TermRuns(self._base.index, self._base.term)
        self._sizes = SizeRuns()
        self._tail: list[Entry] = []
        self._tail_size = 0
        self._last_index = self._base.index
        self._load()
        # What the last process wrote and did not sync may still be in the system's memory alone.
        engine.sync()
        self._durable_index = self._last_index

    @property
    def term(self) -> int:
        """The node's term."""
        return self._vote.term

    @property
    def voted_for(self) -> str | None:
        """Whom the node voted for in `term`."""
        return self._vote.voted_for

    @property
    def base(self) -> Position:
        """The last entry that is no longer held; the first one held follows it."""
        return self._base

    @property
    def last(self) -> Position:
        """The newest entry, or the base of an empty log."""
        return Position(self._last_index, self._terms.last)

    @property
    def durable_index(self) -> int:
        """Every entry up to it survives a crash."""
        return self._durable_index

    @property
    def size_bytes(self) -> int:
        """Payloads of the entries held, to within `sizes.RUN_BYTES` or an entry's size."""
        return self._sizes.total

    def index_before(self, size: int) -> int:
        """An index behind which about the last `size` bytes of payload lie; 0 if there are no more."""
        return self._sizes.index_before(size)

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; None if it is neither held nor the base."""
        return self._terms.at(index) if self._base.index <= index <= self._last_index else None

    def runs(self, first: int, last: int, limit: int) -> list[tuple[int, int]]:
        """The entries from `first` to `last`, which are held, as runs of one term: the first index and the
        term of each; the newest `limit` alone if there are more."""
        return self._terms.runs(first, last, limit)

    def last_up_to_term(self, term: int, index: int) -> int:
        """The highest index, not above `index`, of an entry whose term is not above `term`."""
        return self._terms.last_up_to(term, index)

    def read(self, first: int, *, entries: int, size: int) -> list[Entry]:
        """Entries from `first` on: at most `entries`, of at most `size` bytes together, but at least one
        if there is one.

        Raises:
            LogCorrupt: an entry is not what was written.
        """
        last = min(first + entries - 1, self._last_index)
        tail_first = self._last_index - len(self._tail) + 1
        if first >= tail_first:
            found: Sequence[Entry] = self._tail[first - tail_first : last - tail_first + 1]
        else:
            found = self._read_stored(first, last, size)
        taken = 0
        for count, entry in enumerate(found):
            taken += len(entry.payload)
            if taken > size and count:
                return list(found[:count])
        return list(found)

    def set_vote(self, term: int, voted_for: str | None) -> None:
        """Record term and vote, durable on return, as is then everything written before."""
        vote = VoteRecord(term, voted_for)
        batch = self._engine.batch()
        batch.put(VOTE, _VOTE_KEY, _seal(_VOTE_KEY, vote))
        self._engine.write(batch)
        self._engine.sync()
        self._vote = vote
        self._durable_index = self._last_index

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries after the last; they are not durable yet."""
        self._replace_from(self._last_index + 1, entries)

    def replace_from(self, index: int, entries: Sequence[Entry]) -> None:
        """Forget the entries from `index` on and put `entries` there, in one step."""
        if index <= self._base.index:
            raise LogCorrupt(
                f"entry {index} cannot be replaced: the log begins after entry {self._base.index}",
                index=index,
            )
        self._replace_from(index, entries)

    def compact_to(self, index: int) -> None:
        """Forget the entries up to and with `index`, which is the new base."""
        base = Position(index, self._terms.at(index))
        batch = self._engine.batch()
        batch.delete_range(LOG, _INDEX.pack(0), _INDEX.pack(index + 1))
        self._put_base(batch, base)
        self._engine.write(batch)
        self._base = base
        self._terms.compact_to(index)
        self._sizes.compact_to(index)
        self._shrink_tail(self._last_index - index, self._tail_bytes)

    def reset(self, base: Position) -> None:
        """Forget every entry: a snapshot of the state at `base` takes their place. Durable on return."""
        batch = self._engine.batch()
        batch.delete_range(LOG, _INDEX.pack(0), _INDEX.pack(self._last_index + 1))
        self._put_base(batch, base)
        self._engine.write(batch)
        self._engine.sync()
        self._generation += 1
        self._base = base
        self._terms = TermRuns(base.index, base.term)
        self._sizes = SizeRuns()
        self._tail.clear()
        self._tail_size = 0
        self._last_index = self._durable_index = base.index

    def begin_sync(self) -> SyncTicket:
        """To be called before a sync: what it will cover."""
        return SyncTicket(self._generation, self._last_index)

    def sync(self) -> None:
        """Make what is written durable. Blocking; may run in a thread. Raises StorageFault."""
        self._engine.sync()

    def finish_sync(self, ticket: SyncTicket) -> None:
        """The sync has ended. Indexes that were truncated and written again meanwhile need another one."""
        if ticket.generation == self._generation:
            self._durable_index = max(self._durable_index, ticket.index)

    # --- inside ---------------------------------------------------------------------------------------------

    def _replace_from(self, index: int, entries: Sequence[Entry]) -> None:
        batch = self._engine.batch()
        dropped = self._last_index - index + 1
        if dropped:
            batch.delete_range(LOG, _INDEX.pack(index), _INDEX.pack(self._last_index + 1))
        for position, entry in enumerate(entries, index):
            batch.put(LOG, _INDEX.pack(position), _encode(position, entry))
        self._engine.write(batch)
        if dropped:
            self._forget_from(index)
        for position, entry in enumerate(entries, index):
            self._terms.extend(position, entry.term)
            self._sizes.extend(position, len(entry.payload))
            self._tail_size += len(entry.payload)
        self._tail.extend(entries)
        self._last_index += len(entries)
        if len(self._tail) > self._tail_entries or self._tail_size > self._tail_bytes:
            # A quarter at once, since taking from the front of a list moves all the rest.
            self._shrink_tail(self._tail_entries * 3 // 4, self._tail_bytes * 3 // 4)

    def _forget_from(self, index: int) -> None:
        self._generation += 1
        self._terms.truncate_from(index)
        self._sizes.truncate_from(index)
        kept = max(0, len(self._tail) - (self._last_index - index + 1))
        self._tail_size -= sum(len(entry.payload) for entry in self._tail[kept:])
        del self._tail[kept:]
        self._last_index = index - 1
        self._durable_index = min(self._durable_index, self._last_index)

    def _shrink_tail(self, entries: int, size: int) -> None:
        drop = 0
        while len(self._tail) - drop > entries or (self._tail_size > size and drop < len(self._tail)):
            self._tail_size -= len(self._tail[drop].payload)
            drop += 1
        del self._tail[:drop]

    def _read_stored(self, first: int, last: int, size: int) -> list[Entry]:
        found: list[Entry] = []
        taken = 0
        for key, value in self._engine.items(LOG, _INDEX.pack(first), _INDEX.pack(last + 1)):
            found.append(_decode(first + len(found), key, value))
            taken += len(found[-1].payload)
            if taken > size:
                break
        if not found and first <= last:
            raise _gap(first, last)
        return found

    def _has_format(self) -> bool:
        if self._engine.get(VOTE, _FORMAT_KEY) is None:
            if self._engine.last(VOTE) is not None or self._engine.last(LOG) is not None:
                raise _unreadable(_FORMAT_KEY, "it is missing, yet the log is not empty")
            return False
        found = self._read(_FORMAT_KEY, int)
        if found != FORMAT:
            raise UnknownFormat(
                f"the log has format {found}, this program knows {FORMAT}: run the program that wrote it, or "
                "a newer one",
                format=found,
            )
        return True

    def _create(self) -> None:
        batch = self._engine.batch()
        batch.put(VOTE, _FORMAT_KEY, _seal(_FORMAT_KEY, FORMAT))
        batch.put(VOTE, _VOTE_KEY, _seal(_VOTE_KEY, VoteRecord(0, None)))
        self._put_base(batch, Position(FIRST_INDEX, 0))
        self._engine.write(batch)
        self._engine.sync()

    def _put_base(self, batch: Batch, base: Position) -> None:
        batch.put(VOTE, _BASE_KEY, _seal(_BASE_KEY, base))

    def _read(self, key: bytes, kind: type[_T]) -> _T:
        stored = self._engine.get(VOTE, key)
        if stored is None:
            raise _unreadable(key, "it is missing")
        return _unseal(key, stored, kind)

    def _load(self) -> None:
        for key, value in self._engine.items(LOG):
            index = self._last_index + 1
            entry = _decode(index, key, value)
            if not self._terms.last <= entry.term <= self.term:
                raise LogCorrupt(
                    f"entry {index} of the log has term {entry.term} after term {self._terms.last}, and the "
                    f"node is in term {self.term}. {_REMEDY}",
                    index=index,
                )
            self._terms.extend(index, entry.term)
            self._sizes.extend(index, len(entry.payload))
            self._tail.append(entry)
            self._tail_size += len(entry.payload)
            self._last_index = index
            if len(self._tail) > 2 * self._tail_entries:
                self._shrink_tail(self._tail_entries, self._tail_bytes)
        self._shrink_tail(self._tail_entries, self._tail_bytes)


_REMEDY: Final = (
    "Do not serve from it: a node that has forgotten its vote or its entries can undo what others rely on. "
    "Remove this node's folder and let it join anew, or restore it."
)


def _encode(index: int, entry: Entry) -> bytes:
    head = _PLACED_HEAD.pack(index, entry.term, entry.kind)
    crc = zlib.crc32(entry.payload, zlib.crc32(head))
    return _CRC.pack(crc) + head[_INDEX.size :] + entry.payload


def _decode(index: int, key: bytes, value: bytes) -> Entry:
    if key != _INDEX.pack(index):
        raise _gap(index, int.from_bytes(key, "big"))
    body = value[_CRC.size :]
    if len(body) < _HEAD.size or value[: _CRC.size] != _CRC.pack(zlib.crc32(body, zlib.crc32(key))):
        raise LogCorrupt(f"entry {index} of the log does not match its checksum. {_REMEDY}", index=index)
    term, kind = _HEAD.unpack_from(body)
    try:
        return Entry(term, EntryKind(kind), body[_HEAD.size :])
    except ValueError as error:
        raise UnknownFormat(
            f"entry {index} of the log is of kind {kind}, which this program does not know: upgrade it",
            index=index,
            kind=kind,
        ) from error


def _seal(key: bytes, record: object) -> bytes:
    body = msgspec.msgpack.encode(record)
    return _CRC.pack(zlib.crc32(body, zlib.crc32(key))) + body


def _unseal(key: bytes, stored: bytes, kind: type[_T]) -> _T:
    body = stored[_CRC.size :]
    if stored[: _CRC.size] != _CRC.pack(zlib.crc32(body, zlib.crc32(key))):
        raise _unreadable(key, "it does not match its checksum")
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise _unreadable(key, str(error)) from error


def _unreadable(key: bytes, why: str) -> LogCorrupt:
    return LogCorrupt(
        f"the record {key.decode()!r} of the log cannot be read: {why}. {_REMEDY}", record=key.decode()
    )


def _gap(expected: int, found: int) -> LogCorrupt:
    return LogCorrupt(
        f"the log should go on with entry {expected} and does with {found}. {_REMEDY}", index=expected
    )
