"""Whether this node belongs to the cluster, and whom it lets in: the gate that its links ask."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.consensus.admission import Credentials, Refusal, objection
from coordinator.consensus.membership import Membership
from coordinator.consensus.seam import SyncObjSeam
from coordinator.errors import Removed


class Belonging:
    """Implements `admission.Gate`. `met` holds the incarnation of each node that a link was made with."""

    def __init__(
        self,
        node: SyncObjSeam,
        incarnation: str,
        fail: Callable[[Exception], None],
        wake: Callable[[], None],
    ) -> None:
        """`fail` stops the node, `wake` asks for a tick."""
        self.met = {node.me: incarnation}
        self.has_led = False
        self._node = node
        self._incarnation = incarnation
        self._fail = fail
        self._wake = wake

    @property
    def credentials(self) -> Credentials:
        """As `admission.Gate.credentials`."""
        return Credentials(self._node.me, self._incarnation, self._node.configuration.place)

    def judge(self, peer: Credentials) -> Refusal | None:
        """As `admission.Gate.judge`. Whoever has no place in the cluster himself does not know better than
        others: his log may end before they were added."""
        refusal = self._objection(peer)
        if refusal is not None:
            return refusal._replace(final=refusal.final and self.speaks)
        if self.met.get(peer.node) != peer.incarnation:
            self.met[peer.node] = peer.incarnation
            self._wake()
        return None

    def keeps(self, peer: Credentials) -> bool:
        """As `admission.Gate.keeps`: not that of a member which has been replaced since, though it may be
        the same node; whoever is there is met afresh."""
        member = self._node.configuration.membership.get(peer.node)
        replaced = member is not None and self.met.get(peer.node) != peer.incarnation
        return not replaced and self._objection(peer) is None

    def refused(self, peer: str, refusal: Refusal) -> None:
        """As `admission.Gate.refused`: one who knows better than this node ends its part."""
        member = self._node.configuration.membership.get(self._node.me)
        believed = member is not None and member.incarnation in ("", self._incarnation)
        if refusal.final and (believed or self._was_member()):
            self._fail(self._removed(f"{peer} says: {refusal.reason}"))

    @property
    def speaks(self) -> bool:
        """Whether this folder may speak for the member that the node is: that of a founder, or one that the
        log has bound to it. Another may be that of a voter, wiped, whose votes are forgotten."""
        node = self._node
        member = node.configuration.membership.get(node.me)
        if member is not None and member.incarnation not in ("", self._incarnation):
            return False
        return node.journal.founded or self._was_member()

    def reconfigured(self, former: Membership) -> None:
        """The node goes by another configuration: those who were replaced have not been met. Nor has one that
        is not bound yet and that it did not know for a member: its log may have come from before that one was
        replaced, and whom it met then may be the folder that was lost."""
        present = self._node.configuration.membership
        for node_id in list(self.met):
            member, was_member = present.get(node_id), former.get(node_id) is not None
            unknown = member is not None and not member.incarnation and not was_member
            replaced = was_member and not present.continues(former, node_id)
            if replaced or (unknown and node_id != self._node.me):
                del self.met[node_id]

    def check(self) -> None:
        """Raises Removed once this node does not belong to the cluster any more."""
        node = self._node
        if not node.belongs and node.configuration_committed and self._was_member():
            raise self._removed(
                f"it was removed by entry {node.configuration.index} of the log. To have it back, begin with "
                f"an empty data folder and join=true, and `coordctl member add {node.me}`"
            )

    def _objection(self, peer: Credentials) -> Refusal | None:
        """A configuration that is not committed may yet be undone, by a leader that it leaves out, and
        one that removes the leader is committed by that leader: until then both count, it and the one
        before (Ongaro's thesis, section 4.2.2). But one that knows no folder of a member yet does not speak
        for another than the one that the newest binds: a node that restarts does not know what is committed,
        and would take a wiped member for what it was."""
        node, committed = self._node, self._node.configuration_committed
        refusal = objection(node.configuration, committed=committed, peer=peer)
        if refusal is None or committed:
            return refusal
        former = node.journal.configuration_at(node.commit_index)
        then, now = former.membership.get(peer.node), node.configuration.membership.get(peer.node)
        if then is not None and now is not None and not then.incarnation:
            return refusal
        return objection(former, committed=False, peer=peer)

    def _was_member(self) -> bool:
        """Whether the log, or this process, knows that this very data folder was a member. One that is being
        added reads old configurations, in which it is not yet, or was another folder."""
        return self.has_led or self._node.journal.ever_named(self._node.me, self._incarnation)

    def _removed(self, why: str) -> Removed:
        me = self._node.me
        return Removed(f"{me} does not belong to the cluster any more, and stops: {why}", node=me)
