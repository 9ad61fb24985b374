"""Frames on a connection: a length, a CRC-32 and a msgpack body. A frame that is too long is refused by
its length alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Annotated, Final

import msgspec

from coordinator.consensus.membership import Address, Name
from coordinator.consensus.messages import Message, Natural

PROTOCOL_VERSION: Final = 3
MAX_HANDSHAKE_BYTES: Final = 4096

_HEAD: Final = struct.Struct(">II")
_TLS_RECORDS: Final = (b"\x15\x03", b"\x16\x03")
"""How a TLS alert and a TLS handshake begin."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first frame of a connection: who calls, and whom it believes to have reached. `incarnation` and
    `place` are those of `admission.Credentials`, `raft` is where the caller can be called back. What
    follows `target` came with version 2."""

    version: int
    cluster: Name
    node: Name
    target: Name
    incarnation: Name = ""
    place: tuple[Natural, Natural] = (0, 0)
    raft: Address = ""


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The answer of a node that agrees; messages may follow, from the caller alone."""

    incarnation: Name = ""
    place: tuple[Natural, Natural] = (0, 0)


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The answer of one that does not, before it closes the connection; see `admission.Refusal`."""

    reason: Annotated[str, msgspec.Meta(max_length=1024)]
    final: bool = False


class FrameError(Exception):
    """What arrived is no frame, or no message: the connection is of no further use."""


_encode = msgspec.msgpack.Encoder().encode
_decode_message: Callable[[bytes], Message] = msgspec.msgpack.Decoder(Message).decode
_decode_handshake: Callable[[bytes], Hello | Welcome | Refused] = msgspec.msgpack.Decoder(
    Hello | Welcome | Refused
).decode


def frame(content: Message | Hello | Welcome | Refused) -> bytes:
    """The bytes that carry it."""
    body = _encode(content)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def message(body: bytes) -> Message:
    """The message in a frame's body. Raises FrameError."""
    try:
        return _decode_message(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FrameError(f"not a message: {error}") from error


def handshake(body: bytes) -> Hello | Welcome | Refused:
    """The handshake in a frame's body. Raises FrameError."""
    try:
        return _decode_handshake(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FrameError(f"not a handshake: {error}") from error


class FrameReader:
    """Cuts a stream of bytes into bodies. Holds no more than one frame of at most `limit` bytes and what
    came with it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies of the frames that `data` completes. Raises FrameError."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= _HEAD.size:
                length, crc = _HEAD.unpack_from(self._buffer, start)
                if length > self.limit:
                    tls = bytes(self._buffer[start : start + 2]) in _TLS_RECORDS
                    raise FrameError(
                        "it speaks TLS, and this node does not: tls.mode must be the same on all nodes"
                        if tls
                        else f"a frame of {length} bytes, where {self.limit} are allowed"
                    )
                end = start + _HEAD.size + length
                if len(self._buffer) < end:
                    break
                body = bytes(memoryview(self._buffer)[start + _HEAD.size : end])
                start = end
                if zlib.crc32(body) != crc:
                    raise FrameError("a frame that does not match its checksum")
                yield body
        finally:
            del self._buffer[:start]
