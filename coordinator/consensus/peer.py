"""A follower as its leader knows it."""

from __future__ import annotations

import math
from typing import Final

from coordinator.consensus.port import Abstention, SnapshotMeta
from coordinator.consensus.progress import Progress
from coordinator.consensus.snapshots import SnapshotSender

NOTHING_APPLIED: Final = SnapshotMeta(0, 0, b"")


class Peer:
    """What a leader knows of it. Times are seconds of the node's clock."""

    def __init__(self, progress: Progress, now: float, first_seq: int) -> None:
        self.progress = progress
        self.first_seq = first_seq
        """What answers an earlier round is of another member that had this id."""
        self.heard_s = now
        self.spoke = False
        """Whether it has answered in this term at all."""
        self.tried_s = -math.inf
        """When something was last sent, or could not be."""
        self.sent_seq = 0
        self.heard_seq = 0
        self.told_commit = 0
        self.applied = NOTHING_APPLIED
        self.abstains = Abstention.NONE
        self.verdict_sent_s = -math.inf
        self.snapshot: SnapshotSender | None = None
        self.follows_snapshot = False
        """Whether it has got a snapshot over this connection, and goes on from there."""
        self.no_snapshot_before_s = -math.inf

    def heard(self, now: float, applied: SnapshotMeta, seq: int = 0) -> None:
        """It has answered in this term."""
        self.heard_s = now
        self.spoke = True
        self.applied = applied
        self.heard_seq = max(self.heard_seq, seq)

    @property
    def needs_after(self) -> float:
        """The log behind this index is worth keeping for it; infinite if it is on its own. For one that takes
        so long to catch up with a snapshot that it would need the next, there would be no end."""
        if self.snapshot is not None:
            return self.snapshot.meta.index
        return self.progress.match if self.follows_snapshot else math.inf

    def interrupted(self) -> None:
        """The connection was lost or made anew: what was in flight may be gone."""
        self.follows_snapshot = False
        self.progress.interrupted()

    def drop_snapshot(self, *, installed: bool) -> None:
        """The transfer under way has ended, one way or the other."""
        if self.snapshot is not None:
            self.follows_snapshot = installed
            self.snapshot.close()
            self.snapshot = None
        self.progress.end_snapshot(installed=installed)
