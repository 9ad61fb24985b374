"""The liveness defects of stock PySyncObj 0.3.17: each shown to be in it, and closed here (A1, A2, A7).

A test is named by the number that the defect has in `docs/divergence.md`; what is in the library is
asserted first, then ours.
"""

from __future__ import annotations

import importlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from pysyncobj.node import Node

from coordinator.consensus.framing import FrameReader, frame, message
from coordinator.consensus.messages import AppendEntries, AppendRefusal, AppendReply, VoteReply, VoteRequest
from coordinator.consensus.port import SnapshotMeta
from coordinator.consensus.settings import RaftSettings
from coordinator.errors import LimitExceeded, NotLeader, QueueFull, WrongState
from tests.consensus.lab import (
    STOCK_NO_OP,
    Bench,
    append,
    command,
    empty,
    stock,
    stock_append,
    stock_elect,
    stock_hear,
    stock_node,
)

NOTHING = SnapshotMeta(1, 0, b"")


def test_20_nothing_is_forwarded() -> None:
    node = stock_node("b", "a", "c")
    stock_append(node, "a", 1, (1, 0), (STOCK_NO_OP, 2, 1), commit=2)
    node.doTick(0)
    node.t.deaf.add("a")
    told: list[Any] = []
    node.put("x", callback=lambda result, error: told.append(error))
    for _ in range(5):
        node.doTick(0)
    assert (told, len(node._SyncObj__commandsWaitingReply)) == ([], 1), "the caller waits for ever"

    bench = Bench()
    bench.hear("a", append(1, (1, 0), empty(1), commit=2))
    with pytest.raises(NotLeader) as refusal:
        bench.node.propose(b"x")
    assert refusal.value.leader_id == "a"
    with pytest.raises(WrongState, match="propose"):
        bench.node._applyCommand(b"x", None)
    assert bench.settle() == []


def test_20_reads_that_wait_are_told_when_leadership_is_lost() -> None:
    bench = Bench()
    bench.elect()
    told: list[int | Exception] = []
    bench.node.read_index(told.append)
    bench.settle()
    bench.hear("c", append(bench.node.term + 1, (1, 0)))
    assert [type(answer) for answer in told] == [NotLeader]


def test_21_one_entry_is_one_message() -> None:
    size = 2 * 65536 - 10
    node = stock_node("a", "b", "c", appendEntriesBatchSizeBytes=65536)
    stock_elect(node, "b")
    node._applyCommand(b"\0" * (size - 1), None, 0)
    node.doTick(0)
    node._SyncObj__newAppendEntriesTime = 0
    node.doTick(0)
    pieces = [sent.get("transmission") for to, sent in node.t.take() if to == "b" and "transmission" in sent]
    assert pieces == ["start", "finish", "finish"], "the second piece is taken for the whole"

    bench = Bench(settings=RaftSettings(max_append_bytes=65536))
    bench.elect()
    bench.hear("a", AppendReply(bench.node.term, 1, 2, NOTHING))
    bench.node.propose(b"\0" * size)
    sent = [sent for to, sent in bench.settle() if to == "a" and isinstance(sent, AppendEntries)]
    (body,) = FrameReader(1 << 20).feed(frame(sent[0]))
    arrived = message(body)
    assert isinstance(arrived, AppendEntries)
    assert [len(entry.payload) for entry in arrived.entries] == [size]
    with pytest.raises(LimitExceeded):
        bench.node.propose(b"\0" * (bench.settings.max_entry_bytes + 1))


def test_22_a_full_queue_refuses_before_it_takes() -> None:
    node = stock_node("a", appendEntriesUseBatch=False)
    for _ in range(65_536):
        node.put("x")
    with pytest.raises(BlockingIOError):
        node.put("one too many")
    queued = len(node._SyncObj__commandsQueue._FastQueue__queue)
    assert queued == 65_537, "the library raised after it had queued the command"

    bench = Bench(settings=RaftSettings(max_uncommitted_entries=100))
    bench.elect()
    first = bench.node.journal.last.index
    for _ in range(99):
        bench.node.propose(b"x")
    with pytest.raises(QueueFull):
        bench.node.propose(b"one too many")
    assert bench.node.journal.last.index == first + 99


def test_22_bytes_are_bounded_too() -> None:
    bench = Bench(settings=RaftSettings(max_entry_bytes=1000, max_uncommitted_bytes=2500))
    bench.elect()
    bench.node.propose(b"x" * 1000)
    bench.node.propose(b"x" * 1000)
    with pytest.raises(QueueFull, match="max_uncommitted_bytes"):
        bench.node.propose(b"x" * 1000)
    bench.settle()
    bench.hear("a", AppendReply(bench.node.term, 99, bench.node.journal.last.index, NOTHING))
    bench.node.propose(b"x" * 1000)


def test_23_an_exception_is_not_swallowed_and_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    node = stock_node("b", "a", "c", autoTickPeriod=0.001)
    node._SyncObj__mainThread = threading.current_thread()
    node._SyncObj__initialised = threading.Event()
    ticks: list[int] = []

    def fails(*arguments: object) -> None:
        ticks.append(len(arguments))
        node._SyncObj__destroying = len(ticks) == 3
        raise RuntimeError("in the tick")

    monkeypatch.setattr(node, "_onTick", fails)
    node._autoTickThread()
    assert len(ticks) == 3, "the library goes on ticking after every exception"
    creator = threading.Thread()
    creator.start()
    creator.join()
    node._SyncObj__mainThread = creator
    node._autoTickThread()
    assert len(ticks) == 3, "and not at all once the thread that made the node has ended"

    threads = threading.active_count()
    bench = Bench()
    assert threading.active_count() == threads
    monkeypatch.setattr(bench.node.journal, "append", fails)
    monkeypatch.setattr(bench.node.journal, "replace_from", fails)
    bench.hear("a", append(1, (1, 0), empty(1)))
    bench.wait(100)
    assert [type(error) for error in bench.replica.fatal] == [RuntimeError]
    assert bench.node.stopped


def test_25_a_lost_connection_is_dialled_again_at_once_by_both() -> None:
    transport: Any = importlib.import_module("pysyncobj.transport")
    low, high = transport.TCPNode("127.0.0.1:1000"), transport.TCPNode("127.0.0.1:2000")
    for me, other, dials in ((low, high, False), (high, low, True)):
        theirs = transport.TCPTransport.__new__(transport.TCPTransport)
        theirs._preventConnectNodes, theirs._selfIsReadonlyNode, theirs._selfNode = set(), False, me
        assert theirs._shouldConnect(other) is dials
    assert stock.SyncObjConf().connectionRetryTime == 5.0

    assert RaftSettings().reconnect_max_s <= 0.2  # test_transport: each side dials, and again after a cut.


def test_25_the_leaders_connection_closing_is_heard_at_once() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), empty(1)))
    bench.transport._onNodeDisconnected(Node("a"))
    sent = bench.wait(bench.settings.orphan_jitter_s)
    assert [(to, asked.pre) for to, asked in sent if isinstance(asked, VoteRequest)] == [
        ("a", True),
        ("c", True),
    ]


class _NoFork:
    """Stands for a process that must not be forked."""

    def __init__(self) -> None:
        self.forks = 0

    def __call__(self) -> int:
        self.forks += 1
        return 12345


def test_27_compaction_does_not_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serializer: Any = importlib.import_module("pysyncobj.serializer")
    fork = _NoFork()
    monkeypatch.setattr(os, "fork", fork)
    theirs = serializer.Serializer(str(tmp_path / "dump"), 1000, True, None, None, None)
    theirs.serialize(("state",), 1)
    assert fork.forks == 1, "the library forks a process that has gRPC's and RocksDB's threads"

    bench = compacting_bench()
    bench.flusher.finish()
    assert (bench.replica.flushes, fork.forks) == (1, 1)
    assert bench.node.journal.base.index == 16


def compacting_bench() -> Bench:
    bench = Bench(settings=RaftSettings(compact_after_entries=10, keep_entries=5, max_append_entries=100))
    bench.hear("a", append(1, (1, 0), *[command(1, b"x")] * 20, commit=21))
    return bench


def test_28_the_log_waits_for_the_state_to_be_written(tmp_path: Path) -> None:
    serializer: Any = importlib.import_module("pysyncobj.serializer")
    begun: list[str] = []

    def begins(path: str, data: Any) -> None:
        begun.append(path)
        Path(path).write_bytes(b"half of")

    theirs = serializer.Serializer(str(tmp_path / "dump"), 1000, False, begins, None, lambda: 1)
    theirs.serialize(("state",), 1)
    assert (tmp_path / "dump").read_bytes() == b"half of", "renamed into place before it is complete"

    bench = compacting_bench()
    assert (len(bench.flusher), bench.node.journal.base.index) == (1, 1)
    bench.wait(10)
    assert bench.node.journal.base.index == 1, "the flush has not ended"
    bench.flusher.finish()
    assert bench.node.journal.base.index == 16


def test_35_refusals_never_move_the_next_index_forward() -> None:
    node = stock_node("a", "b", "c")
    stock_elect(node, "b")
    stock_hear(node, "b", type="next_node_idx", next_node_idx=2, reset=True, success=False)
    assert node._SyncObj__raftNextIndex[Node("b")] == 2
    stock_hear(node, "b", type="next_node_idx", next_node_idx=9, reset=True, success=False)
    assert node._SyncObj__raftNextIndex[Node("b")] == 9, "the refusal of a message behind the failing one"

    bench = Bench()
    bench.hear("a", append(1, (1, 0), *[command(1, b"x")] * 9))
    bench.elect()
    assert bench.node.leadership is not None
    term, progress = bench.node.term, bench.node.leadership._peers["c"].progress
    bench.hear("c", AppendRefusal(term, 99, progress.next - 1, 3, [], NOTHING))
    assert progress.next == 4
    for prev in (10, 11, 10):
        bench.hear("c", AppendRefusal(term, 1, prev, 8, [], NOTHING))
    assert progress.next == 4


@pytest.mark.parametrize("terms_apart", [1, 3, 6])
def test_35_one_round_trip_finds_the_true_conflict(terms_apart: int) -> None:
    """Behind ten entries that both have, each has ten in every other of several terms, which the other
    never saw: alone with the others' last term, as in the Raft paper, it would take a round trip for
    each."""
    leader, follower = Bench("c", "x"), Bench("a", "x")
    shared = append(1, (1, 0), *[command(1, b"shared")] * 10)
    leader.hear("c", shared)
    follower.hear("a", shared)
    previous = ((11, 1), (11, 1))
    for term in range(2, 2 * terms_apart + 1, 2):
        leader.hear("c", append(term + 1, previous[0], *[command(term + 1, b"new")] * 10))
        follower.hear("a", append(term, previous[1], *[command(term, b"old")] * 10))
        previous = ((previous[0][0] + 10, term + 1), (previous[1][0] + 10, term))
    leader.elect()
    assert leader.node.leadership is not None
    leader.transport._onNodeDisconnected(Node("c"))
    leader.transport._onNodeConnected(Node("c"))
    outgoing = leader.settle()
    refusals = 0
    for _ in range(4):
        answers = follower.hear("a", *(sent for to, sent in outgoing if to == "c"))
        refusals += sum(isinstance(answer, AppendRefusal) for _, answer in answers)
        outgoing = leader.hear("c", *(answer for to, answer in answers if to == "a"))
    assert follower.log == leader.log
    assert refusals == 1


def test_g_refusals_carry_the_term_so_that_nobody_refuses_for_ever() -> None:
    """One node has the longer log, the other the higher term: the first catches up with the term and wins."""
    bench = Bench()
    bench.hear("a", append(1, (1, 0), empty(1), command(1, b"x")))
    bench.wait(bench.settings.election_max_s)
    bench.wait(0.01)
    bench.hear("c", VoteReply(7, 2, pre=True, granted=False))
    assert bench.node.term == 7
    bench.wait(bench.settings.election_max_s)
    sent = bench.wait(0.01)
    assert [asked.term for _, asked in sent if isinstance(asked, VoteRequest)] == [8, 8]


def test_f_a_repeated_request_gets_the_same_answer() -> None:
    bench = Bench()
    request = VoteRequest(3, 9, 2, pre=False, transfer=False)
    assert bench.hear("c", request) == bench.hear("c", request) == [("c", VoteReply(3, 3, False, True))]
    assert bench.hear("a", request) == [("a", VoteReply(3, 3, False, False))]
