"""The rolling digest: one hash over every write since the beginning. Two nodes with the same applied index
must show the same one."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16
EMPTY: Final = bytes(DIGEST_BYTES)


def roll(digest: bytes, index: int, parts: Iterable[bytes]) -> bytes:
    """The digest after the entry at `index` whose encoded writes are `parts`, given the one before. 16
    bytes of BLAKE2b (RFC 7693); lengths are hashed too, so that no two lists of parts look alike."""
    state = blake2b(digest, digest_size=DIGEST_BYTES)
    state.update(index.to_bytes(8, "big"))
    for part in parts:
        state.update(len(part).to_bytes(4, "big"))
        state.update(part)
    return state.digest()
