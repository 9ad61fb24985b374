"""Sealed records: msgpack behind a CRC-32 over the record's key and content, in the family "vote" of the
log's engine."""

from __future__ import annotations

import struct
import zlib
from typing import Final, TypeVar

import msgspec

from coordinator.errors import LogCorrupt
from coordinator.storage.engine import Batch, Engine

VOTE: Final = "vote"
"""The column family that holds them."""

REMEDY: Final = (
    "Do not serve from it: a node that has forgotten its vote or its entries can undo what others rely on. "
    "Remove this node's folder and let it join anew (`coordctl member replace`), or restore it."
)

_CRC: Final = struct.Struct(">I")
_T = TypeVar("_T")


def put(batch: Batch, key: bytes, record: object) -> None:
    """Add the record to a batch."""
    body = msgspec.msgpack.encode(record)
    batch.put(VOTE, key, _CRC.pack(zlib.crc32(body, zlib.crc32(key))) + body)


def find(engine: Engine, key: bytes, kind: type[_T]) -> _T | None:
    """The record, or None if there is none. Raises LogCorrupt."""
    stored = engine.get(VOTE, key)
    if stored is None:
        return None
    body = stored[_CRC.size :]
    if stored[: _CRC.size] != _CRC.pack(zlib.crc32(body, zlib.crc32(key))):
        raise unreadable(key, "it does not match its checksum")
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise unreadable(key, str(error)) from error


def read(engine: Engine, key: bytes, kind: type[_T]) -> _T:
    """The record. Raises LogCorrupt."""
    found = find(engine, key, kind)
    if found is None:
        raise unreadable(key, "it is missing")
    return found


def unreadable(key: bytes, why: str) -> LogCorrupt:
    """The error of a record that is not what was written."""
    return LogCorrupt(
        f"the record {key.decode()!r} of the log cannot be read: {why}. {REMEDY}", record=key.decode()
    )
