"""One node on a bench: what it sends is recorded, what it hears is given to it by hand, time moves when
told. Ours and stock."""

from __future__ import annotations

import importlib
import pickle
from typing import Any

import msgspec
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from coordinator.consensus.admission import Credentials
from coordinator.consensus.changes import Add, Change
from coordinator.consensus.hardened import HardenedSyncObj
from coordinator.consensus.journal import FAMILIES, Journal
from coordinator.consensus.membership import Member, Membership, to_payload
from coordinator.consensus.messages import AppendEntries, AppendReply, Entry, EntryKind, Message, VoteReply
from coordinator.consensus.port import SnapshotMeta
from coordinator.consensus.settings import RaftSettings
from tests.consensus.memory import FixedChance, ListReplica, ManualWorker, MemoryEngine

NOTHING = SnapshotMeta(1, 0, b"")
"""Where a node without any state stands."""

stock: Any = importlib.import_module("pysyncobj.syncobj")
"""The library's module, unmodified and unstubbed."""


class RecordingTransport(Transport):
    """Keeps what is sent; `deaf` peers cannot be sent to."""

    def __init__(self) -> None:
        super().__init__(None, Node(""), [])
        self.sent: list[tuple[str, Any]] = []
        self.deaf: set[str] = set()

    def send(self, node: Node, message: object) -> bool:
        if node.id in self.deaf:
            return False
        self.sent.append((node.id, message))
        return True

    def take(self) -> list[tuple[str, Any]]:
        """What was sent since the last look."""
        sent, self.sent = self.sent, []
        return sent


_AT_ONCE_S = 1e-9


class Bench:
    """Our node "b" among `peers`. The engine outlives `crash`. As a follower it applies at once what is
    committed, or puts it off for `apply_pause_s`."""

    def __init__(
        self,
        *peers: str,
        settings: RaftSettings | None = None,
        joins: bool = False,
        apply_pause_s: float = _AT_ONCE_S,
    ) -> None:
        self.peers = peers or ("a", "c")
        self.founders = Membership() if joins else voters("b", *self.peers)
        self.settings = msgspec.structs.replace(settings or RaftSettings(), follower_apply_s=apply_pause_s)
        self.engine = MemoryEngine(FAMILIES)
        self.clock = 100.0
        self.start(ListReplica())

    def start(self, replica: ListReplica) -> None:
        """A new process on the same disk."""
        self.transport = RecordingTransport()
        self.replica = replica
        self.syncer = ManualWorker()
        self.flusher = ManualWorker()
        self.wakes = 0
        self.node = HardenedSyncObj(
            "b",
            incarnation="b1",
            transport=self.transport,
            journal=Journal(
                self.engine,
                founders=self.founders,
                tail_entries=self.settings.tail_entries,
                tail_bytes=self.settings.tail_bytes,
            ),
            replica=replica,
            settings=self.settings,
            now=lambda: self.clock,
            rng=FixedChance(),
            syncer=self.syncer,
            flusher=self.flusher,
            wake=self._wake,
            reconfigured=lambda: None,
        )
        for peer in self.peers:
            self.transport._onNodeConnected(Node(peer))

    def crash(self, kept: int = 0) -> None:
        """The process dies and starts again: unsynced writes but the first `kept` are gone, and so is the
        state."""
        self.engine.crash(kept)
        self.start(ListReplica())

    def hear(self, peer: str, *messages: Message) -> list[tuple[str, Any]]:
        """Let messages arrive, and everything happen that follows; returns what is sent."""
        for message in messages:
            self.transport._onMessageReceived(Node(peer), message)
        return self.settle()

    def settle(self, rounds: int = 4) -> list[tuple[str, Any]]:
        """Tick and sync until nothing changes."""
        for _ in range(rounds):
            self.node.doTick()
            self.syncer.finish()
            if self.node.next_deadline() <= self.clock + _AT_ONCE_S:
                self.clock += _AT_ONCE_S
        self.node.doTick()
        return self.transport.take()

    def install(self) -> list[tuple[str, Any]]:
        """Let the thread do what waits for it: prepare a snapshot that has arrived, flush, free; returns what
        is sent."""
        self.flusher.finish()
        return self.settle()

    def wait(self, seconds: float) -> list[tuple[str, Any]]:
        """Let time pass."""
        self.clock += seconds
        return self.settle()

    def meet(self, *peers: str) -> list[tuple[str, Any]]:
        """Let links be made with these nodes; returns what is sent."""
        for peer in peers:
            assert self.node.gate.judge(Credentials(peer, f"{peer}1", (9, 9))) is None
            self.transport._onNodeConnected(Node(peer))
        return self.settle()

    @property
    def members(self) -> tuple[str, str]:
        """The ids of the voters and of the learners, as this node has them."""
        membership = self.node.configuration.membership
        voters = "".join(sorted(one.id for one in membership.voters))
        return voters, "".join(sorted(one.id for one in membership.learners))

    def elect(self) -> None:
        """Make it the leader, by the votes of its peers."""
        self.clock = max(self.clock, self.node.election_deadline)
        self.settle()
        self.clock = self.node.election_deadline
        self.settle()
        for pre in (True, False):
            asked = self.node.term + pre
            for peer in self.peers:
                self.hear(peer, VoteReply(self.node.term, asked, pre, granted=True))
        assert self.node.leadership is not None

    @property
    def log(self) -> list[tuple[int, int]]:
        """(index, term) of every entry held."""
        journal = self.node.journal
        return [(i, journal.term_at(i) or 0) for i in range(journal.base.index + 1, journal.last.index + 1)]

    def _wake(self) -> None:
        self.wakes += 1


def acknowledge(bench: Bench, peer: str, match: int | None = None, seq: int = 10**6) -> list[tuple[str, Any]]:
    """Let a peer say that it has all entries, or those up to `match`; returns what is sent."""
    index = bench.node.journal.last.index if match is None else match
    return bench.hear(peer, AppendReply(bench.node.term, seq, index, NOTHING))


def leading(*peers: str, settings: RaftSettings | None = None) -> Bench:
    """A leader whose opening entry is committed."""
    bench = Bench(*peers, settings=settings)
    bench.elect()
    for peer in bench.peers[: bench.node.quorum - 1]:
        acknowledge(bench, peer)
    assert bench.node.commit_index == bench.node.journal.last.index
    return bench


def voters(*ids: str) -> Membership:
    """A cluster of these voters."""
    return Membership(tuple(Member(one, f"{one}:raft", f"{one}:grpc") for one in ids))


def add(member_id: str, *, promote: bool = False) -> Add:
    """A new member with addresses made of its id."""
    return Add(member_id, f"{member_id}:raft", f"{member_id}:grpc", promote)


def config(term: int, membership: Membership) -> Entry:
    """The entry of a configuration."""
    return Entry(term, EntryKind.CONFIGURATION, to_payload(membership))


def commit_by(bench: Bench, *peers: str) -> None:
    """Let these peers acknowledge all there is."""
    for peer in peers:
        acknowledge(bench, peer)


def made(bench: Bench, change: Change, *peers: str) -> int:
    """Make a change, and have these peers acknowledge it."""
    index, _ = bench.node.change_membership(change)
    bench.settle()
    commit_by(bench, *peers)
    assert bench.node.commit_index >= index
    return index


def with_learner(member_id: str) -> Bench:
    """A leader that has added a learner, met it, and bound it to its data folder."""
    bench = leading()
    commit_by(bench, "a", "c")
    made(bench, add(member_id), "a")
    bench.meet(member_id)
    commit_by(bench, "a", "c")
    return bench


def empty(term: int) -> Entry:
    """The entry that opens a term."""
    return Entry(term, EntryKind.EMPTY, b"")


def command(term: int, payload: bytes) -> Entry:
    """An entry for the state machine."""
    return Entry(term, EntryKind.COMMAND, payload)


def append(term: int, prev: tuple[int, int], *entries: Entry, commit: int = 1, seq: int = 1) -> AppendEntries:
    """A message of the leader of `term`: entries after (index, term) `prev`."""
    return AppendEntries(term, seq, prev[0], prev[1], commit, list(entries))


def stock_node(me: str, *others: str, **conf: Any) -> Any:
    """A stock node with a recording transport and one replicated method `put`, whose calls are in `hits`."""

    class Machine(stock.SyncObj):  # type: ignore[misc]
        @stock.replicated  # type: ignore[untyped-decorator]
        def put(self, value: Any) -> Any:
            self.hits.append(value)
            if value == "boom":
                raise RuntimeError("boom")
            return value

    transport = RecordingTransport()
    options = {"autoTick": False, "raftMinTimeout": 0.4} | conf
    node = Machine(
        Node(me),
        [Node(other) for other in others],
        conf=stock.SyncObjConf(**options),
        transport=transport,
        nodeClass=Node,
    )
    node.t = transport
    node.hits = []
    return node


def stock_hear(node: Any, peer: str, **message: Any) -> None:
    """Let a stock message arrive."""
    node.t._onMessageReceived(Node(peer), message)


def stock_append(
    node: Any, leader: str, term: int, prev: tuple[int, int], *entries: Any, commit: int = 1
) -> None:
    """Let a stock AppendEntries arrive: entries are (command, index, term)."""
    stock_hear(
        node,
        leader,
        type="append_entries",
        term=term,
        commit_index=commit,
        entries=list(entries),
        prevLogIdx=prev[0],
        prevLogTerm=prev[1],
    )


def stock_elect(node: Any, *voters: str) -> None:
    """Make a stock node the leader."""
    for voter in voters:
        node.t._onNodeConnected(Node(voter))
    node._SyncObj__raftElectionDeadline = 0
    node.doTick(0)
    for voter in voters:
        stock_hear(node, voter, type="response_vote", term=node.raftCurrentTerm)
    node.doTick(0)
    assert node._isLeader()


def stock_leading() -> Any:
    """A stock leader "b" of three whose opening entry is committed and applied."""
    stock = stock_node("b", "a", "c", dynamicMembershipChange=True)
    stock_elect(stock, "a", "c")
    stock_hear(stock, "a", type="next_node_idx", next_node_idx=3, reset=False, success=True)
    for _ in range(3):
        stock.doTick(0)
    assert stock.raftLastApplied == 2
    return stock


def stock_command(node: Any, *arguments: Any) -> bytes:
    """The log entry of a call of `put`."""
    return b"\0" + pickle.dumps((node._methodToID["put_v0"], arguments), 2)


def stock_log(node: Any) -> list[tuple[int, int]]:
    """(index, term) of every entry of a stock log."""
    return [(index, term) for _, index, term in node._SyncObj__raftLog[:]]


STOCK_NO_OP = b"\1"
