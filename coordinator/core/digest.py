"""The rolling digest: one hash over every write since the beginning. Two nodes with the same applied index
must show the same one."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16
EMPTY: Final = bytes(DIGEST_BYTES)


class RecentDigests:
    """The digests after the last `size` entries; memory in proportion to `size`."""

    def __init__(self, size: int, index: int, digest: bytes) -> None:
        """`digest` is that after the entry `index`; those before are not known."""
        self._ring = [EMPTY] * size
        self.restart(index, digest)

    def restart(self, index: int, digest: bytes) -> None:
        """The state was replaced by one that ends at `index`."""
        self._first = self._last = index
        self._ring[index % len(self._ring)] = digest

    def add(self, digest: bytes) -> None:
        """The entry after the last has been applied."""
        self._last += 1
        self._ring[self._last % len(self._ring)] = digest

    def at(self, index: int) -> bytes | None:
        """The digest after the entry `index`; None if it is not, or no longer, known."""
        known = self._first <= index <= self._last and index > self._last - len(self._ring)
        return self._ring[index % len(self._ring)] if known else None


def roll(digest: bytes, index: int, writes: bytes) -> bytes:
    """The digest after the entry at `index`, given the one before and its writes in an encoding that tells
    any two lists apart. 16 bytes of BLAKE2b (RFC 7693)."""
    return blake2b(digest + index.to_bytes(8, "big") + writes, digest_size=DIGEST_BYTES).digest()
