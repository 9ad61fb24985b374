"""The file that a backup is: the state at one applied index, as the chunks of a snapshot between a header and
an end.

After eight bytes of `MAGIC` come frames: the length of the body, its CRC-32, one letter for its kind, the
body. A header, chunks as `snapshots` makes them, an end with counts and with the checksum of every byte
before it. Whatever is cut short, altered or longer than that is refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator
from hashlib import blake2b
from typing import BinaryIO, Final, NamedTuple, TypeVar

import msgspec

from coordinator.core.position import SnapshotMeta
from coordinator.errors import StateCorrupt, UnreadableBackup
from coordinator.storage.engine import Engine
from coordinator.storage.snapshots import ChunkIntake

MAGIC: Final = b"qf-state"
FORMAT: Final = 1
MAX_FRAME_BYTES: Final = 1 << 20

_HEAD: Final = struct.Struct(">IIc")
_HEADER: Final = b"h"
_CHUNK: Final = b"c"
_END: Final = b"e"

_encode = msgspec.msgpack.Encoder().encode
_T = TypeVar("_T")


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What the backup is of. `product` is the version that wrote it; `applied` is the point of recovery, with
    the digest of the state there; `time_ms` is the cluster's own time at that entry, and `taken_ms` the
    node's wall clock when the backup began, both Unix time in milliseconds."""

    format: int
    product: str
    cluster: str
    node: str
    applied: SnapshotMeta
    time_ms: int
    taken_ms: int


class End(msgspec.Struct, frozen=True, array_like=True):
    """The last frame; `checksum` is BLAKE2b (RFC 7693) of 32 bytes."""

    chunks: int
    checksum: bytes


class Summary(NamedTuple):
    """A backup that was read to its end and verified."""

    header: Header
    chunks: int
    records: int
    size: int


def encode(header: Header, chunks: Iterator[bytes]) -> Generator[bytes]:
    """The file in pieces, one a chunk."""
    checksum, count = blake2b(digest_size=32), 0
    begin = MAGIC + _frame(_HEADER, _encode(header))
    checksum.update(begin)
    yield begin
    for chunk in chunks:
        piece = _frame(_CHUNK, chunk)
        checksum.update(piece)
        count += 1
        yield piece
    yield _frame(_END, _encode(End(count, checksum.digest())))


def verify(file: BinaryIO) -> Summary:
    """Read a whole backup. Raises UnreadableBackup, with what is wrong and where."""
    return _read(file, None)


def unpack(file: BinaryIO, engine: Engine) -> Summary:
    """`verify`, and write its records to `engine`, which is of no use if this raises. Raises
    UnreadableBackup, StorageFault."""
    return _read(file, engine)


def read_header(file: BinaryIO) -> Header:
    """What a backup says of itself; the rest of it is not looked at. Raises UnreadableBackup."""
    return _Reader(file).header


def _read(file: BinaryIO, engine: Engine | None) -> Summary:
    reader = _Reader(file)
    intake = ChunkIntake(reader.header.applied, engine)
    chunks = 0
    try:
        for chunk in reader.chunks():
            intake.write(chunk)
            chunks += 1
        intake.verify()
    except StateCorrupt as error:
        raise UnreadableBackup(f"the backup is damaged: {error.message}") from error
    return Summary(reader.header, chunks, intake.count, reader.size)


class _Reader:
    """Frames from a file, checked one by one and as a whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._checksum = blake2b(digest_size=32)
        self.size = 0
        if self._take(len(MAGIC)) != MAGIC:
            raise UnreadableBackup("this is no backup: it does not begin as one does")
        kind, body = self._frame()
        if kind != _HEADER:
            raise self._damaged("the first frame is no header")
        self.header = self._checked_header(body)

    def chunks(self) -> Iterator[bytes]:
        """Every chunk, in order."""
        count = 0
        while True:
            so_far = self._checksum.digest()
            kind, body = self._frame()
            if kind != _CHUNK:
                break
            count += 1
            yield body
        if kind != _END or self._decode(body, End) != End(count, so_far):
            raise self._damaged(f"what it says of its {count} chunks at the end is not so")
        if self._file.read(1):
            raise self._damaged("something follows its end")

    def _checked_header(self, body: bytes) -> Header:
        # The format comes first, and stays there: a later one may have other fields.
        found = self._decode(body, list)[:1]
        if found != [FORMAT]:
            raise UnreadableBackup(
                f"the backup has format {found}, this program knows {FORMAT}: use the version that made it, "
                "or a newer one",
                known=FORMAT,
            )
        return self._decode(body, Header)

    def _frame(self) -> tuple[bytes, bytes]:
        length, crc, kind = _HEAD.unpack(self._take(_HEAD.size))
        if length > MAX_FRAME_BYTES:
            raise self._damaged(f"a frame of {length} bytes, where {MAX_FRAME_BYTES} are allowed")
        body = self._take(length)
        if zlib.crc32(body, zlib.crc32(kind)) != crc:
            raise self._damaged("a frame does not match its checksum")
        return kind, body

    def _take(self, length: int) -> bytes:
        found = self._file.read(length)
        self.size += len(found)
        if len(found) < length:
            raise self._damaged("it is cut short")
        self._checksum.update(found)
        return found

    def _decode(self, body: bytes, kind: type[_T]) -> _T:
        try:
            return msgspec.msgpack.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, what: str) -> UnreadableBackup:
        return UnreadableBackup(
            f"the backup is damaged at byte {self.size}: {what}; use another one", offset=self.size
        )


def _frame(kind: bytes, body: bytes) -> bytes:
    return _HEAD.pack(len(body), zlib.crc32(body, zlib.crc32(kind)), kind) + body
