"""Reads of the key-value space: from the store, where its values and its order are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coordinator.core.keyspace import KvRecord
from coordinator.core.state import State
from coordinator.storage.state_store import StateStore

PAGE_BYTES: Final = 1 << 20
"""Size from which a page is closed; its last value may exceed it."""

Item = tuple[str, KvRecord]


class KeyReads:
    """The space as it was applied on this node."""

    def __init__(self, state: Callable[[], State], store: Callable[[], StateStore]) -> None:
        self._state = state
        self._store = store

    @property
    def revision(self) -> int:
        """Every change up to this version is in the state."""
        return self._state().machine.sequence

    def get(self, key: str) -> KvRecord | None:
        """What is stored at the key."""
        return self._store().kv(key) if key in self._state().kv.entries else None

    def page(self, prefix: str, after: str, size: int) -> tuple[list[Item], str]:
        """At most `size` keys with the prefix, in the order of their bytes, that come after `after` ("": from
        the first), and the key after which the next page begins ("": there is none)."""
        first = prefix.encode()
        start = max(first, after.encode() + b"\0") if after else first
        # No byte of UTF-8 is 255.
        end = first[:-1] + bytes([first[-1] + 1]) if first else None
        items: list[Item] = []
        held = 0
        for name, record in self._store().kv_from(start, end):
            if len(items) == size or held >= PAGE_BYTES:
                return items, items[-1][0]
            items.append((name.decode(), record))
            held += len(name) + len(record.value)
        return items, ""
