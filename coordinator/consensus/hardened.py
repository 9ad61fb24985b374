"""PySyncObj with its defects closed: the library's object, whose events go to parts of our own.

`SyncObj` holds role, term, vote, members and commit index and is woken by its transport and its tick, as
ever; what happens then is decided by `election`, `follower`, `leadership` and `snapshots`. Sockets,
threads and clocks are given to it, so that a simulator can stand in for all of them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from pysyncobj.node import Node
from pysyncobj.transport import Transport

from coordinator.consensus.applying import Applying
from coordinator.consensus.belonging import Belonging
from coordinator.consensus.changes import Change
from coordinator.consensus.compaction import Compaction
from coordinator.consensus.divergence import Finding, diverged
from coordinator.consensus.election import Election
from coordinator.consensus.follower import Follower
from coordinator.consensus.freshness import Freshness
from coordinator.consensus.journal import Journal, Position
from coordinator.consensus.leadership import Leadership
from coordinator.consensus.messages import (
    AppendEntries,
    AppendRefusal,
    AppendReply,
    Divergence,
    Message,
    SnapshotAck,
    SnapshotChunk,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from coordinator.consensus.port import Committed, Replica, Role, SnapshotMeta
from coordinator.consensus.reads import ReadDone
from coordinator.consensus.reconfiguration import Reconfiguration
from coordinator.consensus.seam import SyncObjSeam
from coordinator.consensus.settings import RaftSettings
from coordinator.consensus.snapshots import SnapshotReceiver
from coordinator.consensus.syncing import LogSync
from coordinator.consensus.worker import Worker
from coordinator.errors import (
    Fatal,
    LogCorrupt,
    NotLeader,
    StateCorrupt,
    WrongState,
)
from coordinator.stages import Stages


class HardenedSyncObj(SyncObjSeam):
    """One member of the cluster. Drive it by its transport, by `doTick` after every event and at
    `next_deadline`.

    Any exception inside it is the end: it takes no further part, and `replica.on_fatal` hears of it once.
    """

    def __init__(
        self,
        me: str,
        *,
        incarnation: str,
        transport: Transport,
        journal: Journal,
        replica: Replica,
        settings: RaftSettings,
        now: Callable[[], float],
        rng: random.Random,
        syncer: Worker,
        flusher: Worker,
        wake: Callable[[], None],
        reconfigured: Callable[[], None],
        stages: Stages | None = None,
    ) -> None:
        """`incarnation` names the data folder. `wake` is called whenever something has happened that a tick
        should see to, `reconfigured` when the newest configuration is another, or has been committed.

        Raises:
            LogCorrupt, StateCorrupt: log and state do not fit together.
        """
        _match_log_to_state(journal, replica)
        self._wake = wake
        self._reconfigured = reconfigured
        self._fatal: Exception | None = None
        self._leadership: Leadership | None = None
        self._changes: Reconfiguration | None = None
        super().__init__(
            me,
            transport=transport,
            journal=journal,
            replica=replica,
            settings=settings,
            now=now,
            rng=rng,
            stages=stages,
        )
        self.gate = Belonging(self, incarnation, self.fail, self._wake)
        """What its links are to ask."""
        self._election = Election(self, self._lead, lambda: self.gate.speaks)
        self._follower = Follower(self)
        self.freshness = Freshness()
        self._receiver = SnapshotReceiver(self, flusher, self._finish, self._installed)
        self._log_sync = LogSync(self, syncer, self._finish)
        self._applying = Applying(self, self._applied)
        self._compaction = Compaction(self, flusher, self._finish, self._needed_after)
        self._told = (Role.FOLLOWER, journal.term, self.leader)
        self._told_configuration = (self.configuration, self.configuration_committed)

    # What the rest of the node asks for.

    def propose(self, payload: bytes) -> tuple[int, int]:
        """As `port.Consensus.propose`."""
        index = self._leading().propose(payload)
        self._wake()
        return index, self.term

    def read_index(self, done: ReadDone) -> None:
        """As `port.Consensus.read_index`; `done` may be called at once. Raises NotLeader, QueueFull."""
        self._leading().read(done)
        self._wake()

    def begin_transfer(self, target: str | None) -> str:
        """Let `target`, or whoever is most caught up, take over; returns its id. Raises NotLeader,
        NotFound, WrongState."""
        chosen = self._leading().handover.begin(target)
        self._wake()
        return chosen

    def end_transfer(self) -> None:
        """Give up on a transfer that has not come about."""
        if self._leadership is not None:
            self._leadership.handover.end()

    def resign(self) -> None:
        """Follow, though nobody else leads."""
        self._finish(lambda: self.follow(self.term))

    @property
    def transfers(self) -> bool:
        """Whether leadership is being handed over."""
        return self._leadership is not None and self._leadership.handover.target is not None

    def change_membership(self, change: Change) -> tuple[int, int]:
        """Begin a change; returns the (index, term) that carries it out once it is committed. Raises
        NotLeader, and as `propose` and `Reconfiguration.request`."""
        self._leading()
        assert self._changes is not None
        index = self._changes.request(change)
        if self.journal.configuration is not self.configuration:
            self._reconfigure()
        self._wake()
        return index, self.journal.term_at(index) or self.term

    def fail(self, error: Exception) -> None:
        """Stop for good, because of a fault that was met elsewhere in the node."""
        if not self.stopped:
            self._fail(error)

    @property
    def leadership(self) -> Leadership | None:
        """What this node does as a leader, while it is one."""
        return self._leadership

    @property
    def stopped(self) -> bool:
        """Whether it has ceased to take part."""
        return self._fatal is not None

    def next_deadline(self) -> float:
        """When to tick though nothing happens, in the seconds of `now`; infinite if never."""
        if self.stopped:
            return math.inf
        if self._leadership is None or self._changes is None:
            return min(self.election_deadline, self._applying.due_s)
        return min(self._leadership.next_deadline(), self._changes.over_s)

    def stop(self) -> None:
        """Take no further part."""
        if not self.stopped:
            self._cease(Fatal("consensus was stopped"))
            self._tell_role()

    # Events: each runs to its end, or stops the node.

    def _SyncObj__onMessageReceived(self, node: Node, message: object) -> None:  # noqa: N802
        if not self.stopped:
            self._run(lambda: self._receive(node.id, message))
            if not (isinstance(message, AppendReply) and self._leadership and self._leadership.at_rest):
                self._wake()

    def _SyncObj__onNodeConnected(self, node: Node) -> None:  # noqa: N802
        super()._SyncObj__onNodeConnected(node)
        self._finish(lambda: self._connected(node.id))

    def _SyncObj__onNodeDisconnected(self, node: Node) -> None:  # noqa: N802
        super()._SyncObj__onNodeDisconnected(node)
        self._finish(lambda: self._disconnected(node.id))

    def _onTick(self, timeToWait: float = 0.0) -> None:  # noqa: N802, N803
        if not self.stopped:
            self._run(self._tick)

    def _applyCommand(  # noqa: N802
        self,
        command: bytes,
        callback: Callable[[object, int], None] | None,
        commandType: int | None = None,  # noqa: N803
    ) -> None:
        """The library's way in, which queues and forwards: closed."""
        raise WrongState("commands go through propose(), which never forwards them")

    def _finish(self, step: Callable[[], None]) -> None:
        """Run one event and ask for a tick, which sends, syncs and applies what followed from it."""
        if not self.stopped:
            self._run(step)
            self._wake()

    def _run(self, step: Callable[[], None]) -> None:
        try:
            step()
            if self.journal.configuration is not self.configuration:
                self._reconfigure()
        except Exception as error:
            self._fail(error)

    def _reconfigure(self) -> None:
        """The log has got another configuration, or lost one: go by it at once."""
        self.counters["reconfigurations"] += 1
        former = self.configuration.membership
        self.adopt_configuration()
        self.gate.reconfigured(former)
        if self._leadership is not None:
            self._leadership.reconfigure()

    def _fail(self, error: Exception) -> None:
        if self._leadership is not None:
            self._leadership.handover.abdicate()
        self._cease(error)
        self.replica.on_fatal(error)

    def _cease(self, error: Exception) -> None:
        self._fatal = error
        self._drop_leadership()
        self._receiver.stop()
        self.role = Role.FOLLOWER
        self.leader = None

    # A tick.

    def _tick(self) -> None:
        now = self.now()
        self._check_deadlines(now)
        if self._leadership is not None:
            # What clients wait for leaves before all that nobody waits for is looked at.
            self._leadership.replicate(now)
            self._leadership.compare_states(now)
            self._leadership.advance_commit()
        self._see_to_membership(now)
        self._tell_role()
        self._tell_configuration()
        if self._leadership is not None:
            self._leadership.replicate(now)
        if self._log_sync.begin() and self._leadership is not None and self._leadership.advance_commit():
            self._wake()
        if self._leadership is None:
            self._follower.answer()
        else:
            self._leadership.answer_reads()
            if self._leadership.reads_wait:
                self._wake()
        if self._applying.proceed(now, at_once=self._leadership is not None):
            self._wake()
        self._compaction.consider()

    def _check_deadlines(self, now: float) -> None:
        if self._leadership is None:
            self._election.check(now)
        elif now > self._leadership.quorum_lost_s(now):
            self.counters["quorum_lost"] += 1
            self.follow(self.term)

    def _see_to_membership(self, now: float) -> None:
        """Make the changes that are due, and stop once this node belongs to the cluster no more."""
        if self._changes is not None:
            if now > self._changes.over_s:
                self.follow(self.term)
            else:
                self._changes.advance(now)
        else:
            self.gate.check()
        if self.journal.configuration is not self.configuration:
            self._reconfigure()

    def _tell_role(self) -> None:
        standing = (self.role, self.term, self.leader)
        if standing != self._told:
            self._told = standing
            self.replica.on_role(*standing)

    def _tell_configuration(self) -> None:
        standing = (self.configuration, self.configuration_committed)
        if standing != self._told_configuration:
            self._told_configuration = standing
            self._reconfigured()

    def _applied(self, last: Committed) -> None:
        self.freshness.applied(last.index, same_term=last.term == self.term)

    # Messages.

    def _receive(self, peer: str, message: object) -> None:
        if not isinstance(message, Message):
            self.counters["messages_refused"] += 1
        elif isinstance(message, VoteRequest):
            self._election.asked(peer, message, speaks=self.gate.speaks)
        elif message.term > self.term:
            self.follow(message.term)
            self._dispatch(peer, message)
        elif message.term == self.term or isinstance(message, VoteReply):
            self._dispatch(peer, message)
        elif isinstance(message, AppendEntries | SnapshotChunk):
            # A leader that is none any more must hear of the term that it missed.
            self.send(peer, AppendRefusal(self.term, 0, 0, 0, [], self.replica.applied))

    def _dispatch(self, peer: str, message: Message) -> None:
        """Take a message of this node's own term, or a vote's answer of any."""
        if isinstance(message, AppendEntries):
            self._hear_leader(peer)
            self._follower.append(peer, message)
            self.freshness.heard(
                message.commit,
                applied=self.applied_index,
                same_term=self.replica.applied.term == self.term,
                now=self.now(),
            )
        elif isinstance(message, SnapshotChunk):
            self._hear_leader(peer)
            self._receiver.receive(peer, message)
        elif isinstance(message, VoteReply):
            self._election.answered(peer, message)
        elif isinstance(message, TimeoutNow):
            if peer == self.leader:
                self.counters["transfers_received"] += 1
                self._election.stand(pre=False, transfer=True)
        elif isinstance(message, Divergence):
            self._take_verdict(peer, message)
        elif self._leadership is not None:
            self._hear_follower(self._leadership, peer, message)

    def _hear_follower(self, leadership: Leadership, peer: str, message: Message) -> None:
        if isinstance(message, AppendReply):
            leadership.append_reply(peer, message)
            # Clients wait for what this commits, and nobody for the rest of a tick.
            if not leadership.in_doubt and leadership.advance_commit():
                self._applying.proceed(self.now(), at_once=True)
                self._wake()
        elif isinstance(message, AppendRefusal):
            leadership.append_refusal(peer, message)
        elif isinstance(message, SnapshotAck):
            leadership.snapshot_ack(peer, message)

    def _hear_leader(self, peer: str) -> None:
        if self.role is Role.LEADER or self.leader not in (None, peer):
            raise LogCorrupt(
                f"{peer} and {self.leader} both lead term {self.term}: a node has voted twice, so its vote "
                "was lost. Replace the node whose disk was restored or wiped.",
                term=self.term,
            )
        if self.role is not Role.FOLLOWER or self.leader is None:
            self.follow(self.term, leader=peer)
        self._election.leader_heard()

    def _needed_after(self) -> float:
        return math.inf if self._leadership is None else self._leadership.needed_after()

    def _installed(self, snapshot: SnapshotMeta) -> None:
        _match_log_to_state(self.journal, self.replica)
        self.applied_index = snapshot.index
        self.commit_to(snapshot.index)
        self._follower.matched_up_to(snapshot.index)

    def _take_verdict(self, peer: str, message: Divergence) -> None:
        """The leader says that this state is wrong. One that has been replaced since is not meant."""
        own = self.replica.digest_at(message.different)
        if peer == self.leader and own is not None and own != message.digest:
            raise diverged(self.me, peer, Finding(message.equal, message.different))

    # Roles.

    def set_vote(self, term: int, voted_for: str | None) -> None:
        """As the base class; what belonged to an earlier term ends with it, whoever began the new one."""
        if term > self.term:
            self._election.close()
            self._follower.begin()
            self._receiver.abort()
            self.freshness.term_ended()
        super().set_vote(term, voted_for)

    def follow(self, term: int, *, leader: str | None = None, voted_for: str | None = None) -> None:
        """Be a follower, and cease whatever belonged to another role."""
        was_leader = self._leadership is not None
        super().follow(term, leader=leader, voted_for=voted_for)
        if was_leader:
            self._drop_leadership()
            self._election.postpone()

    def _lead(self) -> None:
        self.counters["elections_won"] += 1
        self.role = Role.LEADER
        self.leader = self.me
        self._receiver.abort()
        self._leadership = Leadership(self)
        self._changes = Reconfiguration(self, self._leadership, self.gate.met)
        self.gate.has_led = True

    def _drop_leadership(self) -> None:
        leadership, self._leadership, self._changes = self._leadership, None, None
        if leadership is not None:
            leadership.close()

    def _leading(self) -> Leadership:
        if self._leadership is None:
            raise NotLeader(self.leader or "")
        return self._leadership

    def _connected(self, peer: str) -> None:
        self._election.connected(peer)
        if self._leadership is not None:
            self._leadership.interrupted(peer)

    def _disconnected(self, peer: str) -> None:
        if self._leadership is not None:
            self._leadership.interrupted(peer)
        elif peer == self.leader:
            self._election.leader_lost()


def _match_log_to_state(journal: Journal, replica: Replica) -> None:
    """Let the log begin no later than the state ends. A state from a snapshot, or one that was ahead of
    the log's last sync, takes the place of the entries it covers, unless the log holds its last entry."""
    applied = replica.applied
    if applied.term > journal.term:
        raise LogCorrupt(
            f"the state ends in term {applied.term}, and the log knows none above {journal.term}: the log, "
            "and with it this node's vote, was lost or is an old copy. Remove this node's folder and let it "
            "join anew, or restore it.",
            applied=applied.term,
            term=journal.term,
        )
    if applied.index < journal.base.index:
        raise StateCorrupt(
            f"the state ends at entry {applied.index}, and the log begins after {journal.base.index}: what "
            "lies between is gone. Remove this node's folder and let it join anew, or restore it.",
            applied=applied.index,
            base=journal.base.index,
        )
    if journal.term_at(applied.index) != applied.term:
        # The log will begin where the state ends, so that must be durable first.
        replica.flush()
        journal.reset(Position(applied.index, applied.term))
