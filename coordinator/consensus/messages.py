"""What nodes say to each other. Every message carries its sender's term, and every answer names the message
that it answers.

The wire form is msgpack: each struct is an array that begins with its tag. Decoding checks every type and
range, so that bytes from the network become one of these structs or an error, and never code.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

import msgspec

from coordinator.consensus.membership import Configuration
from coordinator.consensus.port import Abstention, SnapshotMeta

Natural = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""A term, an index, a sequence number: what RocksDB keys and msgpack both hold."""


class EntryKind(IntEnum):
    """COMMAND entries are the state machine's; EMPTY ones open a term (Raft, section 8) and carry no
    payload; a CONFIGURATION carries the whole membership."""

    COMMAND = 1
    EMPTY = 2
    CONFIGURATION = 3


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry of the log. Its index follows from its place."""

    term: Natural
    kind: EntryKind
    payload: bytes


class VoteRequest(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Asks for a vote in `term`. `pre`: only asks whether it would be given, and changes nothing (Ongaro's
    thesis, 9.6); `transfer`: the leader itself wants this election, so a live leader is no reason to
    refuse."""

    term: Natural
    last_index: Natural
    last_term: Natural
    pre: bool
    transfer: bool


class VoteReply(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The answer to a VoteRequest for the term `asked`; `term` is the voter's own, so that a refused
    candidate catches up."""

    term: Natural
    asked: Natural
    pre: bool
    granted: bool


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Entries that follow (`prev_index`, `prev_term`), or none as a heartbeat. `seq` numbers the leader's
    rounds of sending."""

    term: Natural
    seq: Natural
    prev_index: Natural
    prev_term: Natural
    commit: Natural
    entries: list[Entry]


class AppendReply(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The log up to `match` equals the leader's and is durable here. `seq` is the latest round that was
    heard."""

    term: Natural
    seq: Natural
    match: Natural
    applied: SnapshotMeta
    abstains: Abstention = Abstention.NONE


class AppendRefusal(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """There is no entry (`prev_index`, the leader's term there) in this log. What it has up to there ends
    at `last_index`, and consists of `runs`: the first index and the term of each run of entries of one
    term, in order. Only the newest runs are named, and none that ends where all is committed."""

    term: Natural
    seq: Natural
    prev_index: Natural
    last_index: Natural
    runs: list[tuple[Natural, Natural]]
    applied: SnapshotMeta


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Piece `number` (from 0) of the snapshot `meta`, with the CRC-32 of `data`. `transfer` tells one sending
    from the next. The last piece carries the configuration in force at `meta`, which is the log's and not
    the state machine's."""

    term: Natural
    transfer: Natural
    number: Natural
    meta: SnapshotMeta
    crc: Natural
    last: bool
    data: bytes
    configuration: Configuration | None = None


class Verdict(IntEnum):
    """What became of a snapshot. RECEIVED: it is on its way, or being installed; KNOWN: the state here is at
    least as new, so nothing was done; REFUSED: it did not verify; MISSING: its beginning is not here."""

    RECEIVED = 1
    INSTALLED = 2
    KNOWN = 3
    REFUSED = 4
    MISSING = 5


class SnapshotAck(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Every chunk below `expected` has arrived."""

    term: Natural
    transfer: Natural
    expected: Natural
    verdict: Verdict
    applied: SnapshotMeta


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The leader asks the receiver to stand for election at once (Ongaro's thesis, 3.10)."""

    term: Natural


class Divergence(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """The leader's state after the entry `different` has another `digest` than the receiver's, and most
    nodes are with the leader, or as many: the receiver must stop. `equal` is the last entry after which
    the two were seen equal, 0 if none."""

    term: Natural
    equal: Natural
    different: Natural
    digest: bytes


Message = (
    VoteRequest
    | VoteReply
    | AppendEntries
    | AppendReply
    | AppendRefusal
    | SnapshotChunk
    | SnapshotAck
    | TimeoutNow
    | Divergence
)
