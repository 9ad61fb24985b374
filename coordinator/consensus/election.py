"""Standing for leadership, and voting (Raft, section 5.2 and 5.4.1; PreVote and stickiness: Ongaro's
thesis, 9.6 and 4.2.3)."""

from __future__ import annotations

import math
from collections.abc import Callable

from coordinator.consensus.ballot import Ballot
from coordinator.consensus.journal import Position
from coordinator.consensus.messages import VoteReply, VoteRequest
from coordinator.consensus.port import Abstention, Role
from coordinator.consensus.seam import SyncObjSeam


class Election:
    """One node's part in elections. `win` is called when a majority has voted for it."""

    def __init__(self, node: SyncObjSeam, win: Callable[[], None], speaks: Callable[[], bool]) -> None:
        """`win` is called when it is won; `speaks` says whether this data folder may speak for its member:
        one that was wiped reads old configurations, in which its id still votes, perhaps alone."""
        self._node = node
        self._win = win
        self._speaks = speaks
        self._ballot: Ballot | None = None
        self._request: VoteRequest | None = None
        self._leader_heard_s = -math.inf
        self._rechecked = False
        self._orphan_rounds = 0
        """How many more rounds need not wait a full timeout, since the leader is known to be gone."""
        self._passed_over = 0
        """How many deadlines have gone by without standing, since a leader was heard."""
        if node.other_voters or not node.votes:
            self.postpone()
        else:
            node.election_deadline = node.now()
            self._rechecked = True

    def postpone(self) -> None:
        """Wait a full, random election timeout from now."""
        settings = self._node.settings
        timeout = self._node.rng.uniform(settings.election_min_s, settings.election_max_s)
        self._node.election_deadline = self._node.now() + timeout
        self._rechecked = False

    def leader_heard(self) -> None:
        """The leader of this term has spoken: any election of our own is over."""
        self._leader_heard_s = self._node.now()
        self._ballot = None
        self._orphan_rounds = 0
        self._passed_over = 0
        self.postpone()

    def leader_lost(self) -> None:
        """The leader's connection has closed: stand soon, after a little jitter so that not all do so at
        once."""
        self._leader_heard_s = -math.inf
        self._orphan_rounds = self._node.settings.orphan_rounds
        self._hasten(0, 1)

    def check(self, now: float) -> None:
        """Stand for election if the deadline has passed. It is looked at twice: after a stall of the loop
        the leader's messages may have arrived without having been read."""
        if now < self._node.election_deadline:
            return
        if not self._rechecked:
            self._rechecked = True
            self._node.election_deadline = now + self._node.settings.election_recheck_s
            return
        self._node.leader = None
        if self._leaves_it_to_others():
            self._passed_over += 1
            self.postpone()
            return
        if self._node.may_stand and self._speaks():
            self.stand(pre=True)
        else:
            self.postpone()

    def stand(self, *, pre: bool, transfer: bool = False) -> None:
        """Begin a round: a PreVote, or the vote itself in a new term."""
        node = self._node
        self.postpone()
        if self._orphan_rounds:
            self._orphan_rounds -= pre
            self._hasten(1, 3)
        node.counters["prevotes_begun" if pre else "elections_begun"] += 1
        if not pre:
            node.leader = None
            node.role = Role.CANDIDATE
            node.set_vote(node.term + 1, node.me)
        last = node.journal.last
        asked = node.term + 1 if pre else node.term
        self._request = VoteRequest(asked, last.index, last.term, pre, transfer)
        self._ballot = Ballot(node.voters)
        self._ballot.record(node.me, granted=True)
        for peer in node.other_voters:
            node.send(peer, self._request)
        self._conclude()

    def connected(self, peer: str) -> None:
        """A peer can be reached again: ask it, if it has not answered in the round under way."""
        if self._ballot is not None and self._request is not None and peer in self._ballot.unanswered:
            self._node.send(peer, self._request)

    def asked(self, candidate: str, request: VoteRequest, *, speaks: bool) -> None:
        """Answer a candidate. The same request gets the same answer as often as it comes. A learner answers
        too: it may have become a voter and not know it yet. `speaks`: this folder may speak for the member
        that the node is."""
        node = self._node
        if not speaks or (not request.transfer and self._leader_is_live()):
            granted = False
        elif request.pre:
            granted = request.term > node.term and self._is_up_to_date(request)
        else:
            granted = self._vote(candidate, request)
        node.send(candidate, VoteReply(node.term, request.term, request.pre, granted))

    def answered(self, voter: str, reply: VoteReply) -> None:
        """Count an answer, if it belongs to the round under way."""
        request = self._request
        if self._ballot is None or request is None or (reply.asked, reply.pre) != (request.term, request.pre):
            return
        self._ballot.record(voter, reply.granted)
        self._conclude()

    def close(self) -> None:
        """The round under way has lost its meaning: the term has moved on."""
        self._ballot = None

    def _leaves_it_to_others(self) -> bool:
        """A nearly full disk is a reason to come last, not to leave the cluster without a leader."""
        node = self._node
        if node.abstains is Abstention.NO_SPACE:
            return self._passed_over < node.settings.abstain_rounds and bool(node.other_voters)
        return node.abstains is not Abstention.NONE and bool(node.other_voters)

    def _hasten(self, least: int, most: int) -> None:
        """Stand again within some jitters' time, if that is sooner."""
        jitter = self._node.rng.uniform(least, most) * self._node.settings.orphan_jitter_s
        self._node.election_deadline = min(self._node.election_deadline, self._node.now() + jitter)
        self._rechecked = True

    def _conclude(self) -> None:
        if self._ballot is None or self._request is None:
            return
        if self._ballot.won:
            self._ballot = None
            if self._request.pre:
                self.stand(pre=False)
            else:
                self._win()
        elif self._ballot.lost:
            self._ballot = None

    def _vote(self, candidate: str, request: VoteRequest) -> bool:
        node = self._node
        up_to_date = self._is_up_to_date(request)
        if request.term > node.term:
            node.follow(request.term, voted_for=candidate if up_to_date else None)
            if up_to_date:
                self.postpone()
        elif request.term == node.term and up_to_date and node.voted_for is None and node.leader is None:
            node.set_vote(node.term, candidate)
            self.postpone()
        return up_to_date and request.term == node.term and node.voted_for == candidate

    def _is_up_to_date(self, request: VoteRequest) -> bool:
        last: Position = self._node.journal.last
        return (request.last_term, request.last_index) >= (last.term, last.index)

    def _leader_is_live(self) -> bool:
        node = self._node
        return node.role is Role.LEADER or node.now() - self._leader_heard_s < node.settings.election_min_s
