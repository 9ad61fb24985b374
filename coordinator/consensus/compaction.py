"""Forgetting the part of the log that the durable state covers."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.consensus.seam import SyncObjSeam
from coordinator.consensus.worker import Worker


class Compaction:
    """Flushes the state in a thread of its own, then drops the entries before it but for a tail for slow
    followers."""

    def __init__(
        self,
        node: SyncObjSeam,
        flusher: Worker,
        finish: Callable[[Callable[[], None]], None],
        needed_after: Callable[[], float],
    ) -> None:
        """`finish` runs a step on the event loop as one of the node's own events; `needed_after` is the
        index behind which a follower will need the log when its snapshot has arrived."""
        self._node = node
        self._flusher = flusher
        self._finish = finish
        self._needed_after = needed_after
        self._flushing = False

    def consider(self) -> None:
        """Begin if the log is long enough and nothing is under way."""
        if self._flushing or not self._is_long(1):
            return
        index = self._last_to_go()
        spare = self._needed_after() < index and not self._is_long(2)
        if spare or index <= self._node.journal.base.index:
            return
        self._flushing = True
        self._flusher.run(
            self._node.replica.flush, lambda error: self._finish(lambda: self._flushed(index, error))
        )

    def _is_long(self, times: int) -> bool:
        """Whether the log has this many times as much as is allowed, in entries or in bytes."""
        node, settings = self._node, self._node.settings
        entries = self._covered() - node.journal.base.index
        return (
            entries > times * settings.compact_after_entries
            or node.journal.size_bytes > times * settings.compact_after_bytes
        )

    def _covered(self) -> int:
        return min(self._node.replica.applied.index, self._node.journal.durable_index)

    def _last_to_go(self) -> int:
        node, settings = self._node, self._node.settings
        by_size = node.journal.index_before(settings.keep_bytes)
        index = min(self._covered(), max(self._covered() - settings.keep_entries, by_size))
        # By the configuration before the one that removed it a node knows that it was a member, and has to
        # stop: after a restart, too.
        return index if node.belongs else min(index, node.configuration.index - 1)

    def _flushed(self, index: int, error: Exception | None) -> None:
        self._flushing = False
        if error is not None:
            raise error
        node = self._node
        if index > node.journal.base.index:
            node.journal.compact_to(index)
            node.counters["compactions"] += 1
