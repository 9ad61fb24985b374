"""The key-value space: what is stored of it, and what is kept of it in memory.

Values stay on the disk: memory holds what a decision needs, which is a version and a size per key.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec


class KvRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is stored of a key. `version` is the replicated sequence number of its last change, `created` that
    of the put that found it absent: no two changes share one, so a key that was deleted and put again cannot
    be taken for its former self."""

    value: bytes
    version: int
    created: int


class KvEntry(msgspec.Struct, frozen=True, gc=False):
    """A key in memory; `size` is the bytes of key and value."""

    version: int
    created: int
    size: int


class WriterRecord(msgspec.Struct, array_like=True, gc=False):
    """A client that numbers its writes. Every write below `answered` has been answered, or is not waited for
    any more; `replies` are those from there on, encoded, by number. Forgotten once `expires_ms` is past;
    `used` orders writers by their last write."""

    writer: str
    used: int = 0
    expires_ms: int = 0
    answered: int = 1
    replies: dict[int, bytes] = {}


class KeySpace:
    """Keys, and the clients that write them."""

    __slots__ = ("bytes", "entries", "writers")

    def __init__(self) -> None:
        self.entries: dict[str, KvEntry] = {}
        self.bytes = 0
        """The sizes of all entries."""
        self.writers: OrderedDict[str, WriterRecord] = OrderedDict()
        """In the order of their last write."""

    def set(self, key: str, entry: KvEntry | None) -> None:
        """Make `entry` what is known of the key; None removes it."""
        before = self.entries.pop(key, None) if entry is None else self.entries.get(key)
        if before is not None:
            self.bytes -= before.size
        if entry is not None:
            self.entries[key] = entry
            self.bytes += entry.size
