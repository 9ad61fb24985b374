"""Forgetting the part of the log that the durable state covers."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.consensus.seam import SyncObjSeam
from coordinator.consensus.worker import Worker


class Compaction:
    """Flushes the state in a thread of its own, then drops the entries before it but for a tail for slow
    followers."""

    def __init__(
        self, node: SyncObjSeam, flusher: Worker, finish: Callable[[Callable[[], None]], None]
    ) -> None:
        """`finish` runs a step on the event loop as one of the node's own events."""
        self._node = node
        self._flusher = flusher
        self._finish = finish
        self._flushing = False

    def consider(self) -> None:
        """Begin if the log is long enough and nothing is under way."""
        node = self._node
        covered = min(node.applied_index, node.journal.durable_index)
        if self._flushing or covered - node.journal.base.index <= node.settings.compact_after_entries:
            return
        self._flushing = True
        self._flusher.run(
            node.replica.flush, lambda error: self._finish(lambda: self._flushed(covered, error))
        )

    def _flushed(self, covered: int, error: Exception | None) -> None:
        self._flushing = False
        if error is not None:
            raise error
        node = self._node
        index = covered - node.settings.keep_entries
        if index > node.journal.base.index:
            node.journal.compact_to(index)
            node.counters["compactions"] += 1
