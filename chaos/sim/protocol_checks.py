"""What must hold of the messages between nodes, and of the disks behind them: a broken rule is seen where it
is broken, long before a client could suffer for it.

A vote is given once a term and is on the disk by then; what a follower acknowledges is on its disk, and stays
there while its leader leads, and is what the leader has in that place; what is committed is on the disks of a
majority; a leader counts what followers have said in its own term, and commits by counting only what is of
its own term (Raft, sections 5.2 to 5.4).
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from chaos.sim.disk import LOG_FOLDER, Disk, Family
from chaos.sim.membership_checks import MembershipChecks
from coordinator.consensus.identity import Identity
from coordinator.consensus.journal import LOG, Base, Journal, VoteRecord
from coordinator.consensus.messages import (
    AppendEntries,
    AppendReply,
    Message,
    SnapshotAck,
    Verdict,
    VoteReply,
)
from coordinator.consensus.port import PeerStatus
from coordinator.consensus.records import VOTE

_INDEX: Final = struct.Struct(">Q")
_CRC_BYTES: Final = 4
_TERM: Final = struct.Struct(">Q")


class DurableLog:
    """What a disk would give back of the log if the power failed now."""

    def __init__(self, families: Mapping[str, Family]) -> None:
        self._entries = families[LOG]
        self._records = families[VOTE].pairs

    @property
    def vote(self) -> VoteRecord:
        """The recorded term and vote."""
        return msgspec.msgpack.decode(self._records[b"vote"][_CRC_BYTES:], type=VoteRecord)

    @property
    def incarnation(self) -> str:
        """Of the data folder."""
        return msgspec.msgpack.decode(self._records[b"identity"][_CRC_BYTES:], type=Identity).incarnation

    def term_at(self, index: int) -> int | None:
        """The term of its entry at `index`; None if it has none there."""
        stored = self._entries.pairs.get(_INDEX.pack(index))
        return None if stored is None else int(_TERM.unpack_from(stored, _CRC_BYTES)[0])

    def covers(self, index: int) -> bool:
        """Whether it begins after `index`, with what came of that entry."""
        if b"base" not in self._records:
            return False
        base = msgspec.msgpack.decode(self._records[b"base"][_CRC_BYTES:], type=Base).position
        return base.index >= index

    def holds(self, index: int, term: int) -> bool:
        """Whether it has the entry, or something that covers it."""
        found = self.term_at(index)
        return self.covers(index) if found is None else found == term


class Leader(NamedTuple):
    """Of one term: the commit index with which it began to lead, and its log."""

    began: int
    journal: Journal


class ProtocolChecks:
    """Fed with everything that nodes send and apply. `broken` is told of each rule that is broken."""

    def __init__(self, disks: Mapping[str, Disk], broken: Callable[[str], None]) -> None:
        self.membership = MembershipChecks(broken)
        self._disks = disks
        self._broken = broken
        self._votes: dict[tuple[str, int], str] = {}
        self._acknowledged: dict[str, tuple[int, int]] = {}
        """Each follower's last term and the highest index that it acknowledged in it."""
        self._said: dict[tuple[str, int], int] = {}
        """The highest index that a follower said to have, by follower and term."""
        self._wiped: defaultdict[str, list[DurableLog]] = defaultdict(list)
        self._leaders: dict[tuple[str, int], Leader] = {}
        """By node and term."""

    def sent(self, source: str, target: str, message: Message, journal: Journal) -> None:
        """A node with this log has handed a message to its links."""
        if isinstance(message, AppendEntries):
            self._commit(source, message)
            self.membership.sent(source, message, journal)
        elif isinstance(message, AppendReply):
            self._acknowledgement(source, message, journal)
            self._same_as_leader(source, target, message)
        elif isinstance(message, SnapshotAck):
            if message.verdict in (Verdict.INSTALLED, Verdict.KNOWN):
                self._says(source, message.term, message.applied.index)
        elif isinstance(message, VoteReply):
            self._vote(source, target, message)

    def wiped(self, node: str) -> None:
        """A node is about to lose its disk, and with it what it acknowledged. Some of that may be on its way
        to a leader which will count it."""
        self._acknowledged.pop(node, None)
        if self._disks[node].has_log:
            self._wiped[node].append(self._log(node))

    def begins_to_lead(self, me: str, term: int, commit: int, journal: Journal) -> None:
        """A node has been elected, at that commit index."""
        self._leaders[me, term] = Leader(commit, journal)

    def believes(self, leader: str, term: int, peers: Iterable[PeerStatus]) -> None:
        """What a leader holds for true of the others."""
        for peer in peers:
            said = self._said.get((peer.id, term), 0)
            if peer.match_index > said:
                self._broken(
                    f"{leader} counts on {peer.id} to hold {peer.match_index}, which has acknowledged {said} "
                    f"in term {term}"
                )

    def committed(self, index: int, term: int, journal: Journal) -> None:
        """Somebody with this log has applied the entry, for the first time."""
        electorates = self.membership.may_decide(index, journal)
        holders = {node for node in set().union(*electorates) if self._holds(node, index, term)}
        if not any(2 * len(holders & voters) > len(voters) for voters in electorates):
            self._broken(
                f"entry {index} of term {term} is applied, and on the disks of {sorted(holders)} alone"
            )

    def _commit(self, source: str, message: AppendEntries) -> None:
        """A leader commits by counting only what is of its own term."""
        leader = self._leaders.get((source, message.term))
        if leader is not None and message.commit > leader.began:
            found = leader.journal.term_at(message.commit)
            if found not in (None, message.term):
                self._broken(
                    f"{source} leads term {message.term} and has committed {message.commit} of term {found} "
                    "by counting"
                )

    def _vote(self, voter: str, candidate: str, reply: VoteReply) -> None:
        if not reply.granted or reply.pre:
            return
        if self._votes.setdefault((voter, reply.asked), candidate) != candidate:
            former = self._votes[voter, reply.asked]
            self._broken(f"{voter} voted for {former} and for {candidate} in term {reply.asked}")
        self.membership.speaks(voter, self._log(voter).incarnation, reply.term)
        recorded = self._log(voter).vote
        if (recorded.term, recorded.voted_for) != (reply.asked, candidate):
            self._broken(f"{voter} votes for {candidate} in {reply.asked}, and has {recorded} on its disk")

    def _acknowledgement(self, follower: str, reply: AppendReply, journal: Journal) -> None:
        log = self._log(follower)
        self.membership.speaks(follower, log.incarnation, reply.term)
        term, match = self._acknowledged.get(follower, (0, 0))
        if term == reply.term and journal.last.index < match:
            self._broken(f"{follower} has dropped entry {match}, which it acknowledged in term {term}")
        if reply.match and log.term_at(reply.match) is None and not log.covers(reply.match):
            self._broken(f"{follower} acknowledges entry {reply.match}, which is not on its disk")
        self._acknowledged[follower] = (reply.term, max(reply.match, match if term == reply.term else 0))
        self._says(follower, reply.term, reply.match)

    def _says(self, follower: str, term: int, index: int) -> None:
        self._said[follower, term] = max(index, self._said.get((follower, term), 0))

    def _same_as_leader(self, follower: str, target: str, reply: AppendReply) -> None:
        """What a follower acknowledges is what its leader has in that place, while that still leads."""
        leader = self._leaders.get((target, reply.term))
        if leader is None or leader.journal.term != reply.term or not reply.match:
            return
        ours, theirs = self._log(follower).term_at(reply.match), leader.journal.term_at(reply.match)
        if reply.match > leader.journal.last.index or (None not in (ours, theirs) and ours != theirs):
            self._broken(
                f"{follower} acknowledges entry {reply.match} of term {ours}, where its leader {target} has "
                f"{leader.journal.last.index} entries, and there one of term {theirs}"
            )

    def _holds(self, node: str, index: int, term: int) -> bool:
        """Whether it has the entry, or had it before it was wiped."""
        logs = [*self._wiped[node], *([self._log(node)] if self._disks[node].has_log else [])]
        return any(log.holds(index, term) for log in logs)

    def _log(self, node: str) -> DurableLog:
        return DurableLog(self._disks[node].durable(LOG_FOLDER))
