"""What of the cluster is lost for good, and how much more it can lose."""

from __future__ import annotations

from collections import Counter

from coordinator.consensus.membership import Membership


class Losses:
    """Nodes by their ids. Whoever is about to harm a disk or to remove a node asks first: beyond what a
    majority can make good, nothing could be promised."""

    def __init__(self) -> None:
        self.damaged: set[str] = set()
        """Their disks are damaged or gone: they must not be started again with them."""
        self.wiped: set[str] = set()
        """They have lost their disks, run with empty ones, and are not members with them yet."""
        self.leaving: Counter[str] = Counter()
        """Removals of these are under way, and may come about or not."""

    def bears(self, membership: Membership, *, lost: str = "", leaving: str = "") -> bool:
        """Whether most voters stay whole when this one is lost too, or leaves, whatever becomes of the
        removals under way. A lost learner counts as well: it may be promoted at any moment."""
        gone = {member.id for member in membership} & (self.damaged | self.wiped | {lost})
        left = {voter.id for voter in membership.voters} - ({*self.leaving, leaving} - gone)
        return 2 * len(gone) < len(left)
