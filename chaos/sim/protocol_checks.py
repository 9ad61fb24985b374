"""What must hold of the messages between nodes, and of the disks behind them: a broken rule is seen where it
is broken, long before a client could suffer for it.

A vote is given once a term and is on the disk by then; what a follower acknowledges is on its disk, and stays
there while its leader leads; what is committed is on the disks of a majority; a leader commits by counting
only what is of its own term (Raft, sections 5.2 to 5.4).
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from chaos.sim.disk import LOG_FOLDER, Disk, Family
from chaos.sim.membership_checks import MembershipChecks
from coordinator.consensus.identity import Identity
from coordinator.consensus.journal import LOG, Base, Journal, VoteRecord
from coordinator.consensus.messages import AppendEntries, AppendReply, Message, VoteReply
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

    def holds(self, index: int, term: int) -> bool:
        """Whether it has the entry, or something that covers it."""
        stored = self._entries.pairs.get(_INDEX.pack(index))
        if stored is not None:
            return bool(_TERM.unpack_from(stored, _CRC_BYTES)[0] == term)
        if b"base" not in self._records:
            return False
        base = msgspec.msgpack.decode(self._records[b"base"][_CRC_BYTES:], type=Base).position
        return base.index >= index

    def reaches(self, index: int) -> bool:
        """Whether it has an entry at `index`, or something that covers it."""
        return _INDEX.pack(index) in self._entries.pairs or self.holds(index, -1)


class ProtocolChecks:
    """Fed with everything that nodes send and apply. `broken` is told of each rule that is broken."""

    def __init__(self, disks: Mapping[str, Disk], broken: Callable[[str], None]) -> None:
        self.membership = MembershipChecks(broken)
        self._disks = disks
        self._broken = broken
        self._votes: dict[tuple[str, int], str] = {}
        self._acknowledged: dict[str, tuple[int, int]] = {}
        self._wiped: defaultdict[str, list[DurableLog]] = defaultdict(list)
        self._leaderships: dict[tuple[str, int], int] = {}
        """The commit index with which a node began to lead a term."""

    def sent(self, source: str, target: str, message: Message, journal: Journal) -> None:
        """A node with this log has handed a message to its links."""
        if isinstance(message, VoteReply):
            self._vote(source, target, message)
        elif isinstance(message, AppendReply):
            self._acknowledgement(source, message, journal)
        elif isinstance(message, AppendEntries):
            self.membership.sent(source, message, journal)

    def wiped(self, node: str) -> None:
        """A node is about to lose its disk, and with it what it acknowledged. Some of that may be on its way
        to a leader which will count it."""
        self._acknowledged.pop(node, None)
        if self._disks[node].has_log:
            self._wiped[node].append(self._log(node))

    def begins_to_lead(self, me: str, term: int, commit: int) -> None:
        """A node has been elected, at that commit index."""
        self._leaderships[me, term] = commit

    def leads(self, me: str, term: int, commit: int, commit_term: int | None) -> None:
        """A leader stands at that commit index, whose entry is of `commit_term` as far as its log goes."""
        began = self._leaderships.get((me, term))
        if began is not None and commit > began and commit_term not in (None, term):
            self._broken(
                f"{me} leads term {term} and has committed {commit}, of term {commit_term}, by counting"
            )

    def committed(self, index: int, term: int, journal: Journal) -> None:
        """Somebody with this log has applied the entry, for the first time."""
        electorates = self.membership.may_decide(index, journal)
        holders = {node for node in set().union(*electorates) if self._holds(node, index, term)}
        if not any(2 * len(holders & voters) > len(voters) for voters in electorates):
            self._broken(
                f"entry {index} of term {term} is applied, and on the disks of {sorted(holders)} alone"
            )

    def _vote(self, voter: str, candidate: str, reply: VoteReply) -> None:
        if not reply.granted or reply.pre:
            return
        if self._votes.setdefault((voter, reply.asked), candidate) != candidate:
            former = self._votes[voter, reply.asked]
            self._broken(f"{voter} voted for {former} and for {candidate} in term {reply.asked}")
        self.membership.speaks(voter, self._log(voter).incarnation)
        recorded = self._log(voter).vote
        if (recorded.term, recorded.voted_for) != (reply.asked, candidate):
            self._broken(f"{voter} votes for {candidate} in {reply.asked}, and has {recorded} on its disk")

    def _acknowledgement(self, follower: str, reply: AppendReply, journal: Journal) -> None:
        self.membership.speaks(follower, self._log(follower).incarnation)
        term, match = self._acknowledged.get(follower, (0, 0))
        if term == reply.term and journal.last.index < match:
            self._broken(f"{follower} has dropped entry {match}, which it acknowledged in term {term}")
        if reply.match and not self._log(follower).reaches(reply.match):
            self._broken(f"{follower} acknowledges entry {reply.match}, which is not on its disk")
        self._acknowledged[follower] = (reply.term, max(reply.match, match if term == reply.term else 0))

    def _holds(self, node: str, index: int, term: int) -> bool:
        """Whether it has the entry, or had it before it was wiped."""
        logs = [*self._wiped[node], *([self._log(node)] if self._disks[node].has_log else [])]
        return any(log.holds(index, term) for log in logs)

    def _log(self, node: str) -> DurableLog:
        return DurableLog(self._disks[node].durable(LOG_FOLDER))
