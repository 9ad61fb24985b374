"""A point in the log, with the digest that proves which state belongs to it."""

from __future__ import annotations

import msgspec

from coordinator.core.digest import EMPTY


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True):
    """The state after the entry `index` of `term`; `digest` is the rolling digest there. The log begins
    at index 1."""

    index: int = 1
    term: int = 0
    digest: bytes = EMPTY
