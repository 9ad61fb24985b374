"""What a leader does in its term: replicate, commit, prove that it still leads, hand over (Raft, sections
5.3, 5.4.2 and 6.4)."""

from __future__ import annotations

import math
from collections import deque
from typing import TypeVar

from coordinator.consensus.divergence import Comparison
from coordinator.consensus.handover import HandOver
from coordinator.consensus.membership import Membership, to_payload
from coordinator.consensus.messages import (
    AppendEntries,
    AppendRefusal,
    AppendReply,
    Divergence,
    Entry,
    EntryKind,
    SnapshotAck,
    Verdict,
)
from coordinator.consensus.peer import Peer
from coordinator.consensus.port import PeerStatus, SnapshotMeta
from coordinator.consensus.progress import Progress, Stage
from coordinator.consensus.reads import ReadDone, ReadQueue
from coordinator.consensus.seam import SyncObjSeam
from coordinator.consensus.snapshots import SnapshotSender
from coordinator.errors import (
    LimitExceeded,
    NotLeader,
    QueueFull,
    StateDiverged,
)

_Number = TypeVar("_Number", int, float)


class Leadership:
    """One term of one leader, from its election until it follows somebody else."""

    def __init__(self, node: SyncObjSeam) -> None:
        self._node = node
        self._peers: dict[str, Peer] = {}
        self._members = Membership()
        self._seq = 0
        self.handover = HandOver(node, self._peers)
        """To another voter."""
        self.reconfigure()
        self._round: dict[tuple[int, bool], AppendEntries] = {}
        self._transfers = 0
        self._commit_news_s = math.inf
        """When followers must have heard of the commit index at the latest."""
        self._quorum_lost_s = -math.inf
        self._reads = ReadQueue(node.settings.max_waiting_reads)
        self._comparison = Comparison(node.settings.election_max_s)
        self._stops: StateDiverged | None = None
        """Set once this node has told others that it is wrong, or they: it stops at the next tick."""
        self._uncommitted: deque[tuple[int, int]] = deque()
        self._uncommitted_bytes = 0
        node.journal.append([Entry(node.term, EntryKind.EMPTY, b"")])
        self.opening_index = node.journal.last_index

    def reconfigure(self) -> None:
        """The node goes by another configuration: follow who came and who left."""
        node, settings = self._node, self._node.settings
        former, self._members = self._members, node.configuration.membership
        self._quorum_lost_s = -math.inf
        for peer_id in list(self._peers):
            if not self._members.continues(former, peer_id):
                self._peers.pop(peer_id).drop_snapshot(installed=False)
                self._comparison.forget(peer_id)
        if self.handover.target not in self._peers:
            self.handover.end()
        for peer_id in node.peers:
            if peer_id not in self._peers:
                progress = Progress(
                    node.journal.last_index + 1,
                    window_messages=settings.window_messages,
                    window_bytes=settings.window_bytes,
                )
                self._peers[peer_id] = Peer(progress, node.now(), self._seq + 1)

    # Proposals and reads.

    def propose(self, payload: bytes) -> int:
        """Append a command; returns its index. Raises QueueFull, LimitExceeded."""
        node, size = self._node, len(payload)
        if size > node.settings.max_entry_bytes:
            raise LimitExceeded(
                f"a log entry of {size} bytes is more than the {node.settings.max_entry_bytes} allowed "
                "(setting max_entry_bytes); send less at once",
                limit=node.settings.max_entry_bytes,
                setting="max_entry_bytes",
                value=size,
            )
        self._refuse_beyond(
            "max_uncommitted_entries",
            node.journal.last_index - node.commit_index + 1,
            node.settings.max_uncommitted_entries,
        )
        self._refuse_beyond(
            "max_uncommitted_bytes", self._uncommitted_bytes + size, node.settings.max_uncommitted_bytes
        )
        if self.handover.target is not None:
            raise QueueFull(
                f"leadership is being handed to {self.handover.target}; retry in a moment", retry_after_ms=50
            )
        node.journal.append([Entry(node.term, EntryKind.COMMAND, payload)])
        index = node.journal.last_index
        self._uncommitted.append((index, size))
        self._uncommitted_bytes += size
        return index

    def configure(self, membership: Membership) -> int:
        """Append a configuration; returns its index. Who may, `reconfiguration` decides."""
        node = self._node
        node.journal.append([Entry(node.term, EntryKind.CONFIGURATION, to_payload(membership))])
        return node.journal.last_index

    def hears(self, peer_id: str) -> bool:
        """Whether a follower has answered within one election timeout."""
        peer = self._peers.get(peer_id)
        return (
            peer is not None
            and peer.spoke
            and self._node.now() - peer.heard_s <= self._node.settings.election_max_s
        )

    def lag(self, peer_id: str) -> int:
        """How many entries a follower lacks."""
        return self._node.journal.last_index - self._peers[peer_id].progress.match

    def read(self, done: ReadDone) -> None:
        """Call `done` with an index once a linearizable read may be served from it. Raises QueueFull."""
        self._reads.add(done)

    def answer_reads(self) -> None:
        """Confirm the reads whose round a majority has answered. Until the term's own entry is committed,
        the commit index may lag behind what earlier leaders acknowledged."""
        if self._reads.asked and self._node.commit_index >= self.opening_index:
            self._reads.confirm(
                self._by_majority([peer.heard_seq for peer in self._other_voters()], self._seq),
                self._node.commit_index,
            )

    # What followers answer.

    def append_reply(self, peer_id: str, reply: AppendReply) -> None:
        """A follower has entries up to `match`, durably."""
        peer = self._peers.get(peer_id)
        if peer is None or reply.seq < peer.first_seq:
            return
        self._heard(peer_id, reply.applied, min(reply.seq, self._seq))
        peer.abstains = reply.abstains
        peer.progress.acknowledged(reply.seq, min(reply.match, self._node.journal.last_index))

    def append_refusal(self, peer_id: str, refusal: AppendRefusal) -> None:
        """A follower's log differs, or ends, before the place where it was to go on."""
        peer = self._peers.get(peer_id)
        if peer is None or refusal.seq < peer.first_seq:
            return
        self._heard(peer_id, refusal.applied, min(refusal.seq, self._seq))
        hint = self._last_shared(refusal) + 1
        if peer.progress.refused(refusal.seq, refusal.prev_index, hint):
            self._node.counters["append_refusals"] += 1

    def snapshot_ack(self, peer_id: str, ack: SnapshotAck) -> None:
        """A follower has taken, finished or refused a snapshot."""
        peer, now = self._peers.get(peer_id), self._node.now()
        if peer is None:
            return
        self._heard(peer_id, ack.applied)
        if peer.snapshot is None or ack.transfer != peer.snapshot.transfer:
            return
        peer.snapshot.acknowledged(ack.expected, now)
        if ack.verdict is Verdict.REFUSED:
            self._node.counters["snapshots_refused"] += 1
            peer.no_snapshot_before_s = now + self._node.settings.snapshot_retry_s
            peer.drop_snapshot(installed=False)
        elif ack.verdict is Verdict.MISSING:
            self._node.counters["snapshots_lost"] += 1
            peer.drop_snapshot(installed=False)
        elif ack.verdict is not Verdict.RECEIVED:
            peer.drop_snapshot(installed=True)

    def interrupted(self, peer_id: str) -> None:
        """The connection with a follower was lost, or made anew. A snapshot goes on where it stopped."""
        if peer_id == self.handover.target and not self._node.connected(peer_id):
            self.handover.end()
        peer = self._peers.get(peer_id)
        if peer is None:
            return
        if peer.snapshot is None:
            peer.interrupted()
        else:
            peer.snapshot.resume(self._node.now())
        peer.tried_s = -math.inf

    # What follows from it.

    def advance_commit(self) -> bool:
        """Commit what a majority holds durably; returns whether that is more than before. Only an entry of
        this term commits by counting; those before it follow."""
        node = self._node
        if node.commit_index == node.journal.last_index:
            return False
        matches = [self._peers[voter].progress.match for voter in node.other_voters]
        index = self._by_majority(matches, node.journal.durable_index)
        if index <= node.commit_index or node.journal.term_at(index) != node.term:
            return False
        node.commit_to(index)
        if self._peers:
            self._commit_news_s = min(self._commit_news_s, node.now() + node.settings.commit_notice_s)
        while self._uncommitted and self._uncommitted[0][0] <= index:
            self._uncommitted_bytes -= self._uncommitted.popleft()[1]
        return True

    def quorum_lost_s(self, now: float) -> float:
        """When this node must step down, unless more followers are heard until then: a majority, itself
        included, has to be heard within one election timeout. Hearing only moves it away, so it is worked
        out anew once what was last found has passed."""
        if now >= self._quorum_lost_s:
            heard = [peer.heard_s for peer in self._other_voters()]
            self._quorum_lost_s = self._by_majority(heard, math.inf) + self._node.settings.election_max_s
        return self._quorum_lost_s

    def replicate(self, now: float) -> None:
        """Send every follower what it may have now: entries, chunks of a snapshot, or a heartbeat when one
        is due. Followers are served in turn, so that those at the same place get one and the same message."""
        if self._owes(now):
            with self._node.stages["replicate"]:
                self._send_all(now)

    def _send_all(self, now: float) -> None:
        self._seq += 1
        self._round.clear()
        for_reads = self._reads.wants_round()
        if for_reads:
            self._reads.round_begins(self._seq)
        self._drop_overdue_snapshots(now)
        reachable = [one for one in self._peers.items() if self._node.connected(one[0])]
        last = self._node.journal.last_index
        busy = [
            peer_id
            for peer_id, peer in reachable
            if peer.progress.next <= last or peer.snapshot is not None or peer_id == self.handover.target
        ]
        while busy:
            busy = [peer_id for peer_id in busy if self._send_next(peer_id, now)]
        heartbeat_s = self._node.settings.heartbeat_s
        for peer_id, peer in reachable:
            if now >= min(peer.tried_s + heartbeat_s, self._commit_news_s) or for_reads:
                self._send_heartbeat(peer_id, now, at_once=for_reads)
        commit = self._node.commit_index
        if now >= self._commit_news_s or all(peer.told_commit == commit for _, peer in reachable):
            self._commit_news_s = math.inf

    @property
    def reads_wait(self) -> bool:
        """Whether a round of messages should go out for reads that came while another was under way."""
        return self._reads.wants_round()

    @property
    def at_rest(self) -> bool:
        """Whether every follower has the whole log, all of it is committed, and nobody waits for anything:
        nothing follows from one more acknowledgement."""
        last = self._node.journal.last_index
        return (
            self._node.commit_index == last
            and self.handover.target is None
            and not self._reads.asked
            and not self._comparison.found
            and all(peer.progress.match == last for peer in self._peers.values())
        )

    def next_deadline(self) -> float:
        """When a tick has something to do though nothing happens."""
        if self._stops is not None:
            return self._node.now()
        due = min(self._commit_news_s, self._quorum_lost_s)
        for peer_id, peer in self._peers.items():
            if self._node.connected(peer_id):
                due = min(due, peer.tried_s + self._node.settings.heartbeat_s)
                if peer.snapshot is not None:
                    due = min(due, peer.snapshot.next_due_s())
        return due

    @property
    def in_doubt(self) -> bool:
        """Whether states have been seen to differ, and it is not settled whose is wrong."""
        return self._stops is not None or self._comparison.found

    def compare_states(self, now: float) -> None:
        """See whether all states are one. Raises StateDiverged if it is this node that must stop; the verdict
        over others has left a tick before."""
        if self._stops is not None:
            raise self._stops
        if not self._comparison.found:
            return
        judgement = self._comparison.judge(self._node.other_voters, now)
        if judgement is None:
            return
        for peer_id in judgement.followers:
            self._send_verdict(peer_id, now)
        if judgement.leader_too:
            self._stops = self._comparison.error(self._node.me)

    def needed_after(self) -> float:
        """The log behind this index is worth keeping, for those who are sent a snapshot and for those who go
        on from one; infinite if there are none."""
        return min((peer.needs_after for peer in self._peers.values()), default=math.inf)

    def close(self) -> None:
        """This node follows somebody else now."""
        for peer in self._peers.values():
            peer.drop_snapshot(installed=False)
        self._reads.fail(NotLeader())

    def peer_status(self, peer_id: str, now: float) -> PeerStatus:
        """What is known of a follower."""
        peer = self._peers[peer_id]
        return PeerStatus(
            id=peer_id,
            connected=self._node.connected(peer_id),
            match_index=peer.progress.match,
            applied=peer.applied,
            age_s=now - peer.heard_s if peer.spoke else -1.0,
            abstains=peer.abstains,
            differs_at=found.different if (found := self._comparison.finding(peer_id)) else 0,
        )

    # Inside.

    def _by_majority(self, of_peers: list[_Number], own: _Number) -> _Number:
        """The highest value that a majority of the voters has reached. This node's `own` counts if it is a
        voter itself, which one that is being removed is not."""
        values = list(of_peers)
        if self._node.votes:
            values.append(own)
        values.sort(reverse=True)
        return values[self._node.quorum - 1]

    def _other_voters(self) -> list[Peer]:
        return [self._peers[peer_id] for peer_id in self._node.other_voters]

    def _refuse_beyond(self, setting: str, value: int, limit: int) -> None:
        if value > limit:
            raise QueueFull(
                f"the log has as much uncommitted as it may: {value} of {limit} (setting {setting}); "
                "retry shortly",
                retry_after_ms=50,
                setting=setting,
                limit=limit,
                value=value,
            )

    def _heard(self, peer_id: str, applied: SnapshotMeta, seq: int = 0) -> None:
        """A follower has answered in this term: compare its state with this node's."""
        node, now = self._node, self._node.now()
        self._peers[peer_id].heard(now, applied, seq)
        own = node.replica.digest_at(applied.index)
        self._comparison.report(peer_id, applied.index, applied.digest, own, now)

    def _send_verdict(self, peer_id: str, now: float) -> None:
        peer, found = self._peers[peer_id], self._comparison.finding(peer_id)
        digest = None if found is None else self._node.replica.digest_at(found.different)
        due = now >= peer.verdict_sent_s + self._node.settings.heartbeat_s
        if found is None or digest is None or not due or not self._node.connected(peer_id):
            return
        peer.verdict_sent_s = now
        self._node.counters["verdicts_sent"] += 1
        self._node.send(peer_id, Divergence(self._node.term, found.equal, found.different, digest))

    def _last_shared(self, refusal: AppendRefusal) -> int:
        """The highest index below the refused one at which both logs have the same term, hence the same
        entry; where the refusal names none, the one before all that it names."""
        journal = self._node.journal
        last = min(refusal.last_index, refusal.prev_index - 1)
        for first, term in reversed(refusal.runs):
            shared = journal.last_up_to_term(term, last)
            if first <= shared <= last and journal.term_at(shared) == term:
                return shared
            last = min(last, first - 1)
        return last

    def _owes(self, now: float) -> bool:
        """Whether there is anything to send to anybody."""
        if now >= self._commit_news_s or self.handover.target is not None or self._reads.wants_round():
            return True
        last, heartbeat_s = self._node.journal.last_index, self._node.settings.heartbeat_s
        return any(
            peer.progress.next <= last or peer.snapshot is not None or now >= peer.tried_s + heartbeat_s
            for peer in self._peers.values()
        )

    def _send_next(self, peer_id: str, now: float) -> bool:
        """Send one message that carries something; False if there is none, or it could not leave."""
        peer = self._peers[peer_id]
        if peer.progress.stage is Stage.SNAPSHOT:
            return self._send_chunk(peer_id, peer, now)
        if peer.progress.next <= self._node.journal.base.index:
            return self._begin_snapshot(peer_id, peer, now)
        if peer.progress.may_send() and peer.progress.next <= self._node.journal.last_index:
            return self._send_append(peer_id, peer, now, with_entries=True)
        if self.handover.target == peer_id and peer.progress.match == self._node.journal.last_index:
            self.handover.offer(now)
        return False

    def _send_heartbeat(self, peer_id: str, now: float, *, at_once: bool) -> None:
        peer = self._peers[peer_id]
        commit_is_news = peer.told_commit < self._node.commit_index and now >= self._commit_news_s
        due = now >= peer.tried_s + self._node.settings.heartbeat_s
        if due or commit_is_news or (at_once and peer.sent_seq < self._seq):
            self._send_append(peer_id, peer, now, with_entries=False)

    def _send_append(self, peer_id: str, peer: Peer, now: float, *, with_entries: bool) -> bool:
        message = self._append_message(
            max(peer.progress.next, self._node.journal.base.index + 1), with_entries
        )
        peer.tried_s = now
        if not self._node.send(peer_id, message):
            return False
        peer.sent_seq = self._seq
        peer.told_commit = message.commit
        if peer.progress.stage is not Stage.SNAPSHOT:
            size = sum(len(entry.payload) for entry in message.entries)
            peer.progress.sent(self._seq, len(message.entries), size)
        return True

    def _append_message(self, first: int, with_entries: bool) -> AppendEntries:
        message = self._round.get((first, with_entries))
        if message is None:
            node, settings = self._node, self._node.settings
            entries = (
                node.journal.read(first, entries=settings.max_append_entries, size=settings.max_append_bytes)
                if with_entries
                else []
            )
            prev_term = node.journal.term_at(first - 1)
            assert prev_term is not None
            message = AppendEntries(node.term, self._seq, first - 1, prev_term, node.commit_index, entries)
            self._round[first, with_entries] = message
        return message

    def _begin_snapshot(self, peer_id: str, peer: Peer, now: float) -> bool:
        """The follower needs entries that are gone: send it the state instead."""
        if now < peer.no_snapshot_before_s or not peer.spoke:
            return False
        self._transfers += 1
        self._node.counters["snapshots_begun"] += 1
        reader = self._node.replica.read_snapshot()
        peer.progress.begin_snapshot(reader.meta.index)
        configuration = self._node.journal.configuration_at(reader.meta.index)
        peer.snapshot = SnapshotSender(reader, self._transfers, configuration, self._node.settings, now)
        return self._send_chunk(peer_id, peer, now)

    def _send_chunk(self, peer_id: str, peer: Peer, now: float) -> bool:
        sender = peer.snapshot
        assert sender is not None
        chunk = sender.chunk(self._node.term, now)
        if chunk is None:
            return False
        sent = self._node.send(peer_id, chunk)
        sender.chunk_sent(now) if sent else sender.chunk_refused(now)
        return sent

    def _drop_overdue_snapshots(self, now: float) -> None:
        for peer in self._peers.values():
            if peer.snapshot is not None and peer.snapshot.overdue(now):
                self._node.counters["snapshots_overdue"] += 1
                peer.drop_snapshot(installed=False)
