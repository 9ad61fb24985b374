"""Making the log durable, one sync at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable

from coordinator.consensus.journal import SyncTicket
from coordinator.consensus.seam import SyncObjSeam
from coordinator.consensus.worker import Worker

log = logging.getLogger(__name__)


class LogSync:
    """Syncs what has been written: at once if the disk is quick and the entry is alone on its way, else
    beside the event loop, so that what comes meanwhile gathers for the next sync."""

    def __init__(
        self, node: SyncObjSeam, syncer: Worker, finish: Callable[[Callable[[], None]], None]
    ) -> None:
        """`finish` runs a step on the event loop as one of the node's own events."""
        self._node = node
        self._syncer = syncer
        self._finish = finish
        self._under_way = False
        self._began_s = 0.0

    def begin(self) -> bool:
        """Sync if there is something to sync and no other is under way; returns whether it is over already.
        Raises StorageFault."""
        journal = self._node.journal
        if self._under_way or journal.durable_index == journal.last_index:
            return False
        self._began_s = self._node.now()
        ticket = journal.begin_sync()
        alone = journal.last_index - self._node.commit_index <= 1

        def ended(error: Exception | None) -> None:
            self._finish(lambda: self._end(ticket, error))

        if not alone:
            self._syncer.run(journal.sync, ended)
        elif self._syncer.run_and_wait(journal.sync, ended):
            self._synced(ticket)
            return True
        self._under_way = True
        return False

    def _end(self, ticket: SyncTicket, error: Exception | None) -> None:
        self._under_way = False
        if error is not None:
            raise error
        self._synced(ticket)

    def _synced(self, ticket: SyncTicket) -> None:
        node = self._node
        node.journal.finish_sync(ticket)
        node.counters["syncs"] += 1
        took_s = node.now() - self._began_s
        node.stages["sync"].took(took_s)
        if took_s >= node.settings.slow_sync_s:
            node.counters["slow_syncs"] += 1
            log.warning(
                "a sync of the log took %.3f s (setting slow_sync_s is %.3f): the disk is slow, or shared; "
                "commits wait for it where the majority needs this node",
                took_s,
                node.settings.slow_sync_s,
            )
