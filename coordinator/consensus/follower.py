"""A follower's log: what to keep of what the leader sends, and what to answer (Raft, section 5.3)."""

from __future__ import annotations

from coordinator.consensus.journal import Position
from coordinator.consensus.messages import AppendEntries, AppendRefusal, AppendReply
from coordinator.consensus.seam import SyncObjSeam
from coordinator.errors import LogCorrupt


class Follower:
    """Follows one leader at a time. Answers to entries wait for their sync, and only the last of a round
    is sent."""

    def __init__(self, node: SyncObjSeam) -> None:
        self._node = node
        self.begin()

    def begin(self) -> None:
        """A new term: nothing is known of its leader's log."""
        self._leader = ""
        self._seq = 0
        self._matched = 0
        """Up to here this log equals the leader's."""
        self._told = self._node.journal.durable_index
        """No need to say again what is not new."""
        self._owed = False
        self._at_once = False

    def append(self, leader: str, message: AppendEntries) -> None:
        """Take what is new in a message of this term's leader."""
        node = self._node
        self._leader = leader
        self._seq = max(self._seq, message.seq)
        if not self._holds(Position(message.prev_index, message.prev_term)):
            node.send(leader, self._refusal(message))
            return
        self._keep_new(message)
        reached = message.prev_index + len(message.entries)
        # What is committed is in every later leader's log, so it matches whatever the message covers.
        self._matched = max(self._matched, reached, node.commit_index)
        node.commit_to(min(message.commit, reached))
        self._owed = True
        self._at_once = self._at_once or not message.entries

    def matched_up_to(self, index: int) -> None:
        """A snapshot of the leader's state at `index` was installed."""
        self._matched = max(self._matched, index)

    def answer(self) -> None:
        """Acknowledge what has become durable, once for all that arrived in this round."""
        node = self._node
        match = min(self._matched, node.journal.durable_index)
        if not self._owed or not (self._at_once or match > self._told or match == self._matched):
            return
        node.send(self._leader, AppendReply(node.term, self._seq, match, node.replica.applied, node.abstains))
        self._told = match
        self._at_once = False
        self._owed = match < self._matched

    def _holds(self, prev: Position) -> bool:
        """Whether the entry before the leader's is here. What lies before the base was committed, hence is
        the same there."""
        journal = self._node.journal
        if prev.index < journal.base.index or journal.term_at(prev.index) == prev.term:
            return True
        if prev.index <= self._node.commit_index:
            raise self._contradiction(prev.index)
        return False

    def _keep_new(self, message: AppendEntries) -> None:
        """Skip what the log has already, cut it only where it truly differs, append the rest. An entry
        that is held with the same term is the same entry: a message that is older than others must not
        take theirs away."""
        journal = self._node.journal
        index = message.prev_index + 1
        skipped = max(0, journal.base.index - message.prev_index)
        while skipped < len(message.entries) and (
            journal.term_at(index + skipped) == message.entries[skipped].term
        ):
            skipped += 1
        fresh = message.entries[skipped:]
        if not fresh:
            return
        index += skipped
        if index <= self._node.commit_index:
            raise self._contradiction(index)
        journal.replace_from(index, fresh)

    def _refusal(self, message: AppendEntries) -> AppendRefusal:
        """Name the terms of what is here in that place: with them the leader finds the true conflict in one
        round trip. What is committed matches, so that only its last entry is of interest."""
        node = self._node
        last = min(message.prev_index, node.journal.last_index)
        runs = node.journal.runs(node.commit_index, last, node.settings.max_refusal_runs)
        return AppendRefusal(node.term, message.seq, message.prev_index, last, runs, node.replica.applied)

    def _contradiction(self, index: int) -> LogCorrupt:
        node = self._node
        return LogCorrupt(
            f"the leader {self._leader} of term {node.term} has another entry {index} than this node, where "
            f"{node.commit_index} is committed: one of the two has lost or changed its log. Stop serving, "
            "compare both, replace the one that is wrong.",
            index=index,
            leader=self._leader,
        )
