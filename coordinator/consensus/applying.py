"""Handing committed entries to the state machine, in order and once each."""

from __future__ import annotations

import math
from collections.abc import Callable

from coordinator.consensus.messages import EntryKind
from coordinator.consensus.port import Committed
from coordinator.consensus.seam import SyncObjSeam
from coordinator.errors import ApplyFailed, Fatal


class Applying:
    """A leader applies what is committed at once, since somebody waits for it. A follower does so at leisure:
    one run for all that was committed within `follower_apply_s`, which takes it less than many small ones."""

    def __init__(self, node: SyncObjSeam, done: Callable[[Committed], None]) -> None:
        """`done` is told the entry that was applied last."""
        self._node = node
        self._done = done
        self._due_s = math.inf

    @property
    def due_s(self) -> float:
        """When a follower will apply what it has put off, in the seconds of the node's clock."""
        return self._due_s

    def proceed(self, now: float, *, at_once: bool) -> bool:
        """Apply the next run of committed entries if it is due; returns whether there are more. While the
        configuration is not durable, none is: a state that is ahead of the log would not know it.

        Raises:
            ApplyFailed: the state may now differ from the others'.
        """
        node = self._node
        waiting = node.commit_index - node.applied_index
        if waiting <= 0 or not node.journal.configuration_durable:
            self._due_s = math.inf
            return False
        if not at_once and waiting < node.settings.apply_entries:
            self._due_s = min(self._due_s, now + node.settings.follower_apply_s)
            if now < self._due_s:
                return False
        self._due_s = math.inf
        self._apply(min(waiting, node.settings.apply_entries))
        return node.applied_index < node.commit_index

    def _apply(self, count: int) -> None:
        """Once, whatever comes of it."""
        node = self._node
        first = node.applied_index + 1
        entries = node.journal.read(first, entries=count, size=node.settings.apply_bytes)
        run = [
            Committed(index, entry.term, entry.payload if entry.kind is EntryKind.COMMAND else b"")
            for index, entry in enumerate(entries, first)
        ]
        last = node.applied_index = run[-1].index
        # Others may have committed what is not written here yet. A process that dies must not leave a state
        # that is ahead of its log.
        node.journal.write()
        try:
            node.replica.apply(run)
        except Fatal:
            raise
        except Exception as error:
            raise ApplyFailed(
                f"applying entries {first} to {last} failed: {error!r}. The node stops, since "
                "its state may now differ from the others'; report the error, and start the node with a "
                "program that is mended.",
                first=first,
                last=last,
            ) from error
        self._done(run[-1])
