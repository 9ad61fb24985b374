"""What of the cluster is lost for good, and how much more it can lose."""

from __future__ import annotations

from coordinator.consensus.membership import Membership


class Losses:
    """Nodes by their ids. Whoever is about to harm a disk or to remove a node asks first: beyond what a
    majority can make good, nothing could be promised."""

    def __init__(self) -> None:
        self.damaged: set[str] = set()
        """Their disks are damaged or gone: they must not be started again with them."""
        self.wiped: dict[str, str] = {}
        """They have lost their disks, run with empty ones, and are not members with them yet; with the
        incarnations of their former data folders."""
        self.agents: set[str] = set()
        """Agents that never come back."""
        self.leaving: set[str] = set()
        """Their removal was asked for, and comes about sooner or later."""
        self.moving: set[str] = set()
        """They listen where the others do not look for them yet."""

    def learn(self, membership: Membership) -> None:
        """This is the membership now: whoever is not bound to the folder that it lost is whole again."""
        for node_id, folder in list(self.wiped.items()):
            member = membership.get(node_id)
            if member is None or member.incarnation != folder:
                del self.wiped[node_id]

    def bears(self, membership: Membership, *, lost: str = "", leaving: str = "") -> bool:
        """Whether most voters stay whole when this one is lost too, or leaves, whatever becomes of the
        removals under way. A lost learner counts as well: it may be promoted at any moment. `membership` may
        be an older one, as long as it has all that were lost: who was removed since is leaving, and who was
        added makes it better."""
        out = self.damaged | self.wiped.keys() | self.moving | {lost}
        gone = {member.id for member in membership} & out
        left = {voter.id for voter in membership.voters} - ((self.leaving | {leaving}) - gone)
        return 2 * len(gone) < len(left)
