"""The log, the term and the vote, on an Engine.

Entries lie in the family "log" under their index; the family "vote" holds the format version, the term
with the vote, and the *base*: the index and term of the last entry that compaction or a snapshot took
away, with the configuration in force there. Every record carries a CRC-32 of its content and its place.
Term and vote are synced before `set_vote` returns. Entries gather in memory, so that a leader can send them
before it writes them (Ongaro's thesis, section 10.2.1). They are written, all at once, when a sync begins,
and are durable when it has ended; the caller runs it: `begin_sync`, the engine's `sync` in a thread,
`finish_sync`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from coordinator.consensus import records
from coordinator.consensus.configurations import Configurations
from coordinator.consensus.membership import Configuration, Membership, founding, from_payload
from coordinator.consensus.messages import Entry, EntryKind
from coordinator.consensus.records import REMEDY, VOTE
from coordinator.consensus.sizes import SizeRuns
from coordinator.consensus.terms import TermRuns
from coordinator.errors import LogCorrupt, UnknownFormat
from coordinator.storage.engine import Batch, Engine

LOG: Final = "log"
FAMILIES: Final = (LOG, VOTE)
"""The column families that the engine must have."""

FORMAT: Final = 2
FIRST_INDEX: Final = 1
"""Every log begins with an empty entry of term 0, which is never stored: it is the first base."""

_INDEX: Final = struct.Struct(">Q")
_HEAD: Final = struct.Struct(">QB")
_PLACED_HEAD: Final = struct.Struct(">QQB")
_CRC: Final = struct.Struct(">I")
_FORMAT_KEY: Final = b"format"
_VOTE_KEY: Final = b"vote"
_BASE_KEY: Final = b"base"
_EXPECTED_KEY: Final = b"expected base"


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


class Base(msgspec.Struct, frozen=True, array_like=True):
    """Where a log begins: after the entry at `position`, with that configuration in force."""

    position: Position
    configuration: Configuration


class Journal:
    """The log of one node. Not safe for use by several threads; only the engine's `sync` may run beside
    it."""

    def __init__(self, engine: Engine, *, founders: Membership, tail_entries: int, tail_bytes: int) -> None:
        """Open the log that `engine` holds, or begin an empty one whose configuration is `founders`, which
        otherwise does not count. Keeps the newest entries in memory, up to two bounds.

        Raises:
            UnknownFormat: a newer program wrote it.
            LogCorrupt: it is not what was written.
        """
        self._engine = engine
        self._gathered = engine.batch()
        """What is still to be written, in order, before"""
        self._unencoded: list[tuple[int, Entry]] = []
        """these entries, by their index: they are sent first, and encoded as they are written."""
        self._gathers = False
        self._tail_entries = tail_entries
        self._tail_bytes = tail_bytes
        self._generation = 0
        if not self._has_format():
            self._create(founders)
        self._vote = records.read(engine, _VOTE_KEY, VoteRecord)
        base = records.read(engine, _BASE_KEY, Base)
        self._base = base.position
        self._configurations = Configurations(base.configuration)
        self._configuration_durable = True
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
    def last_index(self) -> int:
        """The index of the newest entry, or of the base of an empty log."""
        return self._last_index

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

    @property
    def configuration(self) -> Configuration:
        """The newest configuration, committed or not: the one in force."""
        return self._configurations.newest

    @property
    def configuration_durable(self) -> bool:
        """Whether a crash would bring back the very same configuration."""
        return self._configuration_durable

    def configuration_at(self, index: int) -> Configuration:
        """The configuration in force at an entry that the log holds, or at its base."""
        return self._configurations.at(index)

    @property
    def founded(self) -> bool:
        """Whether the log began with a configuration, or with a state that has one: not as that of a node
        which waits to be added."""
        return self._configurations.oldest.index > 0

    def ever_named(self, member_id: str, incarnation: str) -> bool:
        """Whether a configuration that the log still holds binds the member to that incarnation."""
        return self._configurations.ever_named(member_id, incarnation)

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
        records.put(self._batch(), _VOTE_KEY, vote)
        self._write()
        self._engine.sync()
        self._vote = vote
        self._durable_index = self._last_index
        self._configuration_durable = True

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries after the last; they are not written yet."""
        self._replace_from(self._last_index + 1, entries)

    def replace_from(self, index: int, entries: Sequence[Entry]) -> None:
        """Forget the entries from `index` on and put `entries` there, in one step that is not written yet."""
        if index <= self._base.index:
            raise LogCorrupt(
                f"entry {index} cannot be replaced: the log begins after entry {self._base.index}",
                index=index,
            )
        self._replace_from(index, entries)

    def compact_to(self, index: int) -> None:
        """Forget the entries up to and with `index`, which is the new base."""
        base = Base(Position(index, self._terms.at(index)), self._configurations.at(index))
        self._batch().delete_range(LOG, _INDEX.pack(0), _INDEX.pack(index + 1))
        records.put(self._batch(), _BASE_KEY, base)
        self._write()
        self._base = base.position
        self._configurations.compact_to(index)
        self._terms.compact_to(index)
        self._sizes.compact_to(index)
        self._shrink_tail(self._last_index - index, self._tail_bytes)

    def expect_base(self, base: Position, configuration: Configuration) -> None:
        """A snapshot of the state at `base`, where `configuration` is in force, is about to be installed:
        `reset` will know it, also after a crash in between. Durable on return."""
        records.put(self._batch(), _EXPECTED_KEY, Base(base, configuration))
        self._write()
        self._engine.sync()

    def reset(self, base: Position) -> None:
        """Forget every entry: the state at `base` takes their place, with the configuration that
        `expect_base` has named, or else the one that the log has there. Durable on return."""
        expected = records.find(self._engine, _EXPECTED_KEY, Base)
        configuration = (
            expected.configuration
            if expected is not None and expected.position == base
            else self._configurations.at(base.index)
        )
        self._batch().delete_range(LOG, _INDEX.pack(0), _INDEX.pack(self._last_index + 1))
        records.put(self._batch(), _BASE_KEY, Base(base, configuration))
        self._write()
        self._engine.sync()
        self._generation += 1
        self._base = base
        self._configurations = Configurations(configuration)
        self._configuration_durable = True
        self._terms = TermRuns(base.index, base.term)
        self._sizes = SizeRuns()
        self._tail.clear()
        self._tail_size = 0
        self._last_index = self._durable_index = base.index

    def write(self) -> None:
        """Write what has gathered, which survives the end of the process then, and not that of the machine.
        Raises StorageFault."""
        if self._gathers:
            self._write()

    def begin_sync(self) -> SyncTicket:
        """To be called before a sync: write what is to be written; returns what the sync will cover. Raises
        StorageFault."""
        self.write()
        return SyncTicket(self._generation, self._last_index)

    def sync(self) -> None:
        """Make what is written durable. Blocking; may run in a thread. Raises StorageFault."""
        self._engine.sync()

    def finish_sync(self, ticket: SyncTicket) -> None:
        """The sync has ended. Indexes that were truncated and written again meanwhile need another one."""
        if ticket.generation == self._generation:
            self._durable_index = max(self._durable_index, ticket.index)
            if ticket.index >= self.configuration.index:
                self._configuration_durable = True

    # --- inside ---------------------------------------------------------------------------------------------

    def _replace_from(self, index: int, entries: Sequence[Entry]) -> None:
        dropped = self._last_index - index + 1
        if dropped:
            self._batch().delete_range(LOG, _INDEX.pack(index), _INDEX.pack(self._last_index + 1))
            self._forget_from(index)
        self._unencoded.extend(enumerate(entries, index))
        self._gathers = True
        for position, entry in enumerate(entries, index):
            self._terms.extend(position, entry.term)
            self._sizes.extend(position, len(entry.payload))
            self._tail_size += len(entry.payload)
            if entry.kind is EntryKind.CONFIGURATION:
                self._configure(position, entry)
                self._configuration_durable = False
        self._tail.extend(entries)
        self._last_index += len(entries)
        if len(self._tail) > self._tail_entries or self._tail_size > self._tail_bytes:
            # A quarter at once, since taking from the front of a list moves all the rest.
            self._shrink_tail(self._tail_entries * 3 // 4, self._tail_bytes * 3 // 4)

    def _batch(self) -> Batch:
        """What has gathered, to be added to."""
        for index, entry in self._unencoded:
            self._gathered.put(LOG, _INDEX.pack(index), _encode(index, entry))
        self._unencoded.clear()
        return self._gathered

    def _write(self) -> None:
        batch = self._batch()
        self._gathered, self._gathers = self._engine.batch(), False
        self._engine.write(batch)

    def _forget_from(self, index: int) -> None:
        self._generation += 1
        self._terms.truncate_from(index)
        self._sizes.truncate_from(index)
        if index <= self.configuration.index:
            self._configurations.truncate_from(index)
            self._configuration_durable = False
        kept = max(0, len(self._tail) - (self._last_index - index + 1))
        self._tail_size -= sum(len(entry.payload) for entry in self._tail[kept:])
        del self._tail[kept:]
        self._last_index = index - 1
        self._durable_index = min(self._durable_index, self._last_index)

    def _configure(self, index: int, entry: Entry) -> None:
        self._configurations.add(Configuration(index, entry.term, from_payload(entry.payload, index)))

    def _shrink_tail(self, entries: int, size: int) -> None:
        drop = 0
        while len(self._tail) - drop > entries or (self._tail_size > size and drop < len(self._tail)):
            self._tail_size -= len(self._tail[drop].payload)
            drop += 1
        del self._tail[:drop]

    def _read_stored(self, first: int, last: int, size: int) -> list[Entry]:
        self.write()
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
                raise records.unreadable(_FORMAT_KEY, "it is missing, yet the log is not empty")
            return False
        found = records.read(self._engine, _FORMAT_KEY, int)
        if found != FORMAT:
            raise UnknownFormat(
                f"the log has format {found}, this program knows {FORMAT}: run the program that wrote it, or "
                "a newer one",
                format=found,
            )
        return True

    def _create(self, founders: Membership) -> None:
        batch = self._engine.batch()
        records.put(batch, _FORMAT_KEY, FORMAT)
        records.put(batch, _VOTE_KEY, VoteRecord(0, None))
        records.put(batch, _BASE_KEY, Base(Position(FIRST_INDEX, 0), founding(founders)))
        self._engine.write(batch)
        self._engine.sync()

    def _load(self) -> None:
        for key, value in self._engine.items(LOG):
            index = self._last_index + 1
            entry = _decode(index, key, value)
            if not self._terms.last <= entry.term <= self.term:
                raise LogCorrupt(
                    f"entry {index} of the log has term {entry.term} after term {self._terms.last}, and the "
                    f"node is in term {self.term}. {REMEDY}",
                    index=index,
                )
            self._terms.extend(index, entry.term)
            self._sizes.extend(index, len(entry.payload))
            if entry.kind is EntryKind.CONFIGURATION:
                self._configure(index, entry)
            self._tail.append(entry)
            self._tail_size += len(entry.payload)
            self._last_index = index
            if len(self._tail) > 2 * self._tail_entries:
                self._shrink_tail(self._tail_entries, self._tail_bytes)
        self._shrink_tail(self._tail_entries, self._tail_bytes)


def _encode(index: int, entry: Entry) -> bytes:
    head = _PLACED_HEAD.pack(index, entry.term, entry.kind)
    crc = zlib.crc32(entry.payload, zlib.crc32(head))
    return _CRC.pack(crc) + head[_INDEX.size :] + entry.payload


def _decode(index: int, key: bytes, value: bytes) -> Entry:
    if key != _INDEX.pack(index):
        raise _gap(index, int.from_bytes(key, "big"))
    body = value[_CRC.size :]
    if len(body) < _HEAD.size or value[: _CRC.size] != _CRC.pack(zlib.crc32(body, zlib.crc32(key))):
        raise LogCorrupt(f"entry {index} of the log does not match its checksum. {REMEDY}", index=index)
    term, kind = _HEAD.unpack_from(body)
    try:
        return Entry(term, EntryKind(kind), body[_HEAD.size :])
    except ValueError as error:
        raise UnknownFormat(
            f"entry {index} of the log is of kind {kind}, which this program does not know: upgrade it",
            index=index,
            kind=kind,
        ) from error


def _gap(expected: int, found: int) -> LogCorrupt:
    return LogCorrupt(
        f"the log should go on with entry {expected} and does with {found}. {REMEDY}", index=expected
    )
