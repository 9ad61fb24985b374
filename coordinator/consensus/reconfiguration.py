"""A leader's changes of the membership: which may be begun now, and those that it makes by itself.

One change at a time, none before the leader has committed an entry of its own term (Ongaro's correction of
the single-server change, raft-dev, 2015), and none that would leave no majority that is known to live.
"""

from __future__ import annotations

import math

from coordinator.consensus.ballot import majority
from coordinator.consensus.changes import Change, Promote, Replace, bound, changed
from coordinator.consensus.leadership import Leadership
from coordinator.consensus.membership import Member, Membership
from coordinator.consensus.seam import SyncObjSeam
from coordinator.errors import CoordinatorError, Unavailable, WrongState

_RETRY_MS = 100


class Reconfiguration:
    """The changes of one leader in one term. `met` holds the incarnation of each node that a link was made
    with, by id."""

    def __init__(self, node: SyncObjSeam, leadership: Leadership, met: dict[str, str]) -> None:
        self._node = node
        self._leadership = leadership
        self._met = met
        self._all_bound: tuple[Membership, dict[str, str]] | None = None
        """Members, and whom this node has met, of whom it is known that there is nobody left to bind."""
        self._leaves_until_s = math.inf
        """When a leader that is no member any more has tried for long enough to hand over."""

    def request(self, change: Change) -> int:
        """Begin a change; returns the index at which it is, once that is committed, carried out.

        Raises:
            Unavailable: another change or a transfer is under way, or the term has only begun.
            WrongState: it must not be made now.
            NotFound, AlreadyExists, LimitExceeded: as `changes.changed`.
        """
        self._refuse_while_busy()
        node, present = self._node, self._node.configuration.membership
        if isinstance(change, Replace) and change.dead == change.new.id and present.is_voter(change.dead):
            self._refuse_living(change.dead)
        following = self._changed(present, change)
        if following is present:
            return node.configuration.index
        if isinstance(change, Promote):
            self._refuse_laggard(following, change.id)
        self._refuse_without_majority(following)
        return self._leadership.configure(following)

    def advance(self, now: float) -> None:
        """Do what is due: bind members to the data folders that were met, promote who has caught up, and hand
        over if this node is no member any more."""
        node = self._node
        if self._busy():
            return
        if not node.votes:
            self._leave(now)
            return
        membership = node.configuration.membership
        following = self._bound(membership)
        if following is membership:
            following = self._promoted(membership)
        if following is not membership:
            self._leadership.configure(following)

    @property
    def over_s(self) -> float:
        """When a leader that has been removed steps down, though nobody has taken over."""
        return self._leaves_until_s

    def _leave(self, now: float) -> None:
        if self._leaves_until_s == math.inf:
            self._leaves_until_s = now + self._node.settings.transfer_timeout_s
        if self._leadership.handover.target is None:
            try:
                self._leadership.handover.begin(None)
            except WrongState:
                # Nobody is connected now; whoever is later gets it, or there is an election.
                return

    def _bound(self, membership: Membership) -> Membership:
        """A node that has met nobody need not be told from another folder."""
        if self._all_bound == (membership, self._met):
            return membership
        alone = all(self._node.me == node_id for node_id in self._met)
        following = membership if alone else bound(membership, self._met)
        if following is membership:
            self._all_bound = (membership, dict(self._met))
        return following

    def _promoted(self, membership: Membership) -> Membership:
        for learner in membership.learners:
            if not learner.promote:
                continue
            following = self._changed(membership, Promote(learner.id))
            try:
                self._refuse_laggard(following, learner.id)
                self._refuse_without_majority(following)
            except CoordinatorError:
                # It is looked at again when something is heard.
                continue
            return following
        return membership

    def _changed(self, membership: Membership, change: Change) -> Membership:
        node = self._node
        at = node.term, node.journal.last_index + 1
        return changed(membership, change, limit=node.settings.max_members, at=at)

    def _busy(self) -> str:
        node, leadership = self._node, self._leadership
        if node.commit_index < leadership.opening_index:
            return "the leader's term has only begun"
        if not node.configuration_committed:
            return f"the change at entry {node.configuration.index} is not committed yet"
        if leadership.handover.target is not None:
            return f"leadership is being handed to {leadership.handover.target}"
        return ""

    def _refuse_while_busy(self) -> None:
        busy = self._busy()
        if busy:
            raise Unavailable(
                f"the membership cannot be changed now: {busy}; retry in a moment", retry_after_ms=_RETRY_MS
            )

    def _refuse_laggard(self, following: Membership, member_id: str) -> None:
        setting, limit = "raft.promote_max_lag_entries", self._node.settings.promote_max_lag_entries
        member = following.get(member_id)
        if not isinstance(member, Member) or not member.incarnation or not self._lives(member_id):
            raise WrongState(
                f"{member_id!r} cannot vote yet: the leader has not heard from it; start it, with join=true "
                "and an empty data folder, and see that it can be reached",
                node=member_id,
            )
        lag, named_at = self._leadership.lag(member_id), self._node.configuration.index
        # Without the entry that names its folder, it would not know that it may vote.
        if lag > min(limit, self._node.journal.last.index - named_at):
            raise WrongState(
                f"{member_id!r} cannot vote yet: it lacks {lag} entries; it must have entry {named_at}, "
                f"which names it, and lack at most {limit} (setting {setting}); wait until it has caught up, "
                f"or let it be promoted then by itself: `coordctl member add {member_id} ... --promote`",
                node=member_id,
                setting=setting,
                limit=limit,
                value=lag,
            )

    def _refuse_living(self, member_id: str) -> None:
        """Who has just died cannot be told from who was replaced already: doing nothing would be wrong for
        the one, and replacing it for the other."""
        if self._lives(member_id):
            raise WrongState(
                f"{member_id!r} lives: it was heard within {self._node.settings.election_max_s} s. If it has "
                "just died, repeat this in a moment; `coordctl member list` tells whether it is replaced "
                "already",
                node=member_id,
            )

    def _refuse_without_majority(self, following: Membership) -> None:
        """Whoever decides afterwards must live now: else this change might be the last."""
        if following.voters == self._node.configuration.membership.voters:
            return
        silent = [voter.id for voter in following.voters if not self._lives(voter.id)]
        needed = majority(len(following.voters))
        if len(following.voters) - len(silent) < needed:
            raise WrongState(
                f"of the {len(following.voters)} voters that would be left, {', '.join(silent)} "
                f"{'has' if len(silent) == 1 else 'have'} not been heard within "
                f"{self._node.settings.election_max_s} s, and {needed} must live; bring them back first",
                silent=",".join(silent),
                needed=needed,
            )

    def _lives(self, member_id: str) -> bool:
        return member_id == self._node.me or self._leadership.hears(member_id)
