"""The safety defects of stock PySyncObj 0.3.17: each shown to be in it, and shown to be closed here (A1,
A2, A4).

A test is named by the number that the defect has in `docs/divergence.md`; what is in the library is
asserted first, then ours.
"""

from __future__ import annotations

import importlib
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pysyncobj.node import Node

from coordinator.consensus.framing import FrameError, frame, message
from coordinator.consensus.journal import LOG, VOTE, Journal
from coordinator.consensus.messages import (
    AppendRefusal,
    AppendReply,
    VoteReply,
    VoteRequest,
)
from coordinator.consensus.port import SnapshotMeta
from coordinator.consensus.settings import RaftSettings
from coordinator.errors import ApplyFailed, LogCorrupt, NotLeader, StorageFault, UnknownFormat
from tests.consensus.lab import (
    STOCK_NO_OP,
    Bench,
    append,
    command,
    empty,
    leading,
    stock,
    stock_append,
    stock_command,
    stock_elect,
    stock_hear,
    stock_log,
    stock_node,
    voters,
)

# The library closes no file that it has opened.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

stock_journal: Any = importlib.import_module("pysyncobj.journal")


def reopened(bench: Bench) -> Journal:
    return Journal(bench.engine, founders=voters("b"), tail_entries=100, tail_bytes=1 << 20)


def test_01_an_old_append_truncates_nothing() -> None:
    node = stock_node("b", "a", "c")
    entries = [(STOCK_NO_OP, 2, 1), (stock_command(node, "x"), 3, 1), (stock_command(node, "y"), 4, 1)]
    stock_append(node, "a", 1, (1, 0), *entries, commit=4)
    node.doTick(0)
    assert node.hits == ["x", "y"]
    stock_append(node, "a", 1, (1, 0), entries[0], commit=4)
    assert stock_log(node) == [(1, 0), (2, 1)], (
        "the library drops entries that it has acknowledged and applied"
    )

    bench = Bench()
    ours = [empty(1), command(1, b"x"), command(1, b"y")]
    bench.hear("a", append(1, (1, 0), *ours, commit=4))
    bench.hear("a", append(1, (1, 0), ours[0], commit=4, seq=2), append(1, (1, 0), commit=4, seq=3))
    assert bench.log == [(2, 1), (3, 1), (4, 1)]
    assert (bench.node.commit_index, bench.replica.commands) == (4, [b"x", b"y"])


def test_01_the_commit_index_is_bounded_by_what_the_message_covers() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), empty(1), command(1, b"stale")))
    bench.hear("c", append(2, (1, 0), commit=3))
    assert bench.node.commit_index == 1, "entry 3 is not known to be the new leader's"
    bench.hear("c", append(2, (1, 0), empty(2), commit=3, seq=2))
    assert (bench.node.commit_index, bench.log) == (2, [(2, 2)])


def test_01_a_leader_that_contradicts_what_is_committed_stops_the_node() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), empty(1), command(1, b"x"), commit=3))
    bench.hear("c", append(2, (1, 0), empty(2), commit=2))
    assert isinstance(bench.replica.fatal[0], LogCorrupt)
    assert bench.log == [(2, 1), (3, 1)]


def test_02_a_stale_acknowledgement_commits_nothing() -> None:
    node = stock_node("a", "b", "c")
    stock_elect(node, "b")
    node.put("x")
    node.doTick(0)
    stock_hear(node, "b", type="next_node_idx", next_node_idx=999, reset=False, success=True)
    node.doTick(0)
    assert node.raftCommitIndex > 2, (
        "the library commits on an answer that has no term, to a message never sent"
    )

    bench = Bench()
    bench.elect()
    bench.node.propose(b"x")
    bench.settle()
    applied = SnapshotMeta(1, 0, b"")
    bench.hear("a", AppendReply(bench.node.term - 1, 999, 999, applied))
    assert bench.node.commit_index == 1
    bench.hear("a", AppendReply(bench.node.term, 999, 999, applied))
    assert bench.node.commit_index == bench.node.journal.last.index, "bounded by the leader's own log"


def test_05_nothing_is_acknowledged_before_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    for name in ("fsync", "fdatasync", "sync"):
        monkeypatch.setattr(os, name, lambda *_, name=name: synced.append(name))
    monkeypatch.setattr(stock_journal.ResizableFile, "flush", lambda self: synced.append("msync"))
    journal = stock_journal.FileJournal(str(tmp_path / "journal"))
    node = stock_node("b", "a", "c")
    node._SyncObj__raftLog = journal
    journal.add(STOCK_NO_OP, 1, 0)
    stock_append(node, "a", 1, (1, 0), (STOCK_NO_OP, 2, 1))
    journal.setCurrentTerm(2, "a")
    assert node.t.take()[-1][1]["success"]
    assert synced == [], "the library acknowledges and votes without a single sync"

    bench = Bench()
    bench.transport._onMessageReceived(Node("a"), append(1, (1, 0), empty(1), command(1, b"x")))
    bench.node.doTick()
    assert bench.transport.take() == [], "the sync has not ended"
    bench.syncer.finish()
    bench.node.doTick()
    assert [reply.match for _, reply in bench.transport.take()] == [3]
    bench.crash()
    assert bench.log == [(2, 1), (3, 1)]
    bench.wait(1)
    granted = bench.hear("c", VoteRequest(5, 9, 4, pre=False, transfer=False))
    assert granted[-1] == ("c", VoteReply(5, 5, pre=False, granted=True))
    bench.crash()
    assert (bench.node.term, bench.node.voted_for) == (5, "c")


def test_05_a_leader_does_not_count_what_it_has_not_synced() -> None:
    bench = Bench()
    bench.elect()
    bench.node.propose(b"x")
    bench.node.doTick()
    last = bench.node.journal.last.index
    bench.transport._onMessageReceived(
        Node("a"), AppendReply(bench.node.term, 99, last - 1, SnapshotMeta(1, 0, b""))
    )
    bench.node.doTick()
    assert bench.node.commit_index == last - 1
    bench.transport._onMessageReceived(
        Node("a"), AppendReply(bench.node.term, 99, last, SnapshotMeta(1, 0, b""))
    )
    bench.node.doTick()
    assert bench.node.commit_index == last - 1, "one of three has it on disk"
    bench.syncer.finish()
    bench.node.doTick()
    assert bench.node.commit_index == last


def test_06_unreadable_votes_stop_the_node(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    journal = stock_journal.FileJournal(path)
    journal.setCurrentTerm(7, "a")
    Path(path + ".meta").write_bytes(b"garbage")
    again = stock_journal.FileJournal(path)
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (0, None), (
        "the library may vote again in term 7"
    )

    bench = Bench()
    for damage in (b"garbage", b"", None):
        batch = bench.engine.batch()
        stored = bench.engine.get(VOTE, b"vote")
        assert stored is not None
        if damage is None:
            batch.delete(VOTE, b"vote")
        else:
            batch.put(VOTE, b"vote", damage)
        bench.engine.write(batch)
        with pytest.raises(LogCorrupt, match="vote"):
            reopened(bench)
        batch = bench.engine.batch()
        batch.put(VOTE, b"vote", stored)
        bench.engine.write(batch)
    assert reopened(bench).term == 0


def test_07_a_crash_during_compaction_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "journal")
    journal = stock_journal.FileJournal(path)
    for index in range(1, 11):
        journal.add(b"x" * 10, index, 1)
    add = stock_journal.FileJournal.add
    left = iter(range(2))

    def dies(self: Any, *entry: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        add(self, *entry)

    with monkeypatch.context() as patch:
        patch.setattr(stock_journal.FileJournal, "add", dies)
        with pytest.raises(KeyboardInterrupt):
            journal.deleteEntriesTo(4)
    kept = [index for _, index, _ in stock_journal.FileJournal(path)[:]]
    assert kept == [5, 6], "the library has lost 7 to 10"

    for surviving_batches in (0, 1):
        bench = Bench()
        bench.hear("a", append(1, (1, 0), *[command(1, b"x")] * 9, commit=10))
        bench.node.journal.compact_to(4)
        bench.engine.crash(surviving_batches)
        journal_again = reopened(bench)
        assert journal_again.base.index == (4 if surviving_batches else 1)
        assert journal_again.last.index == 10
        assert len(journal_again.read(5, entries=10, size=1 << 20)) == 6


def test_08_damage_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = stock_journal.FileJournal(str(path))
    journal.add(b"command", 1, 1)
    journal.flush()
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"command")] ^= 0xFF
    path.write_bytes(bytes(raw))
    assert stock_journal.FileJournal(str(path))[0][0] != b"command", "the library serves what it never wrote"
    journal = stock_journal.FileJournal(str(path))
    journal.add(b"second", 2, 1)
    journal.flush()
    raw = bytearray(path.read_bytes())
    end = struct.unpack("<I", raw[36:40])[0]
    raw[end - 30 : end] = bytes(30)
    path.write_bytes(bytes(raw))
    with pytest.raises(struct.error):
        stock_journal.FileJournal(str(path))

    bench = Bench()
    bench.hear("a", append(1, (1, 0), *[command(1, b"command")] * 3))
    key = (3).to_bytes(8, "big")
    stored = bench.engine.get(LOG, key)
    assert stored is not None
    for position in range(len(stored)):
        damaged = bytearray(stored)
        damaged[position] ^= 0x01
        batch = bench.engine.batch()
        batch.put(LOG, key, bytes(damaged))
        bench.engine.write(batch)
        with pytest.raises(LogCorrupt, match="entry 3"):
            reopened(bench)


@pytest.mark.parametrize("poison", ["callback", "command"], ids=["09", "10"])
def test_09_10_nothing_is_applied_twice(poison: str) -> None:
    node = stock_node("a")
    stock_elect(node)

    def raises(result: Any, error: Any) -> None:
        raise ValueError("the callback")

    value = "once" if poison == "callback" else "boom"
    node.put(value, callback=raises if poison == "callback" else None)
    for _ in range(5):
        try:
            node.doTick(0)
        except (ValueError, RuntimeError):
            continue
    assert node.hits.count(value) > 1, "the library applies the entry again"

    bench = Bench()
    bench.replica.poison = b"boom"
    bench.hear("a", append(1, (1, 0), command(1, b"x"), command(1, b"boom"), command(1, b"y"), commit=4))
    bench.hear("a", append(1, (4, 1), commit=4, seq=2))
    bench.wait(10)
    assert bench.replica.commands == [b"x", b"boom"]
    assert [type(error) for error in bench.replica.fatal] == [ApplyFailed]
    assert bench.transport.take() == [], "it takes no further part"


def test_11_an_unknown_entry_stops_the_node() -> None:
    node = stock_node("b", "a", "c")
    unknown = b"\3" + stock.pickle.dumps(7)
    entries = [(STOCK_NO_OP, 2, 1), (unknown, 3, 1), *((stock_command(node, n), 4 + n, 1) for n in range(2))]
    stock_append(node, "a", 1, (1, 0), *entries, commit=5)
    for _ in range(3):
        node.doTick(0)
    assert node.hits != [0, 1], "the library skips the entry, and applies others twice"

    body = bytearray(frame(append(1, (1, 0), empty(1)))[8:])
    body[-3] = 77
    assert body.count(77) == 1
    with pytest.raises(FrameError, match="77"):
        message(bytes(body))
    bench = Bench()
    bench.hear("a", append(1, (1, 0), empty(1)))
    batch = bench.engine.batch()
    batch.put(LOG, (2).to_bytes(8, "big"), stored_of_kind(2, 77))
    bench.engine.write(batch)
    with pytest.raises(UnknownFormat, match="77"):
        reopened(bench)


def stored_of_kind(index: int, kind: int) -> bytes:
    zlib = importlib.import_module("zlib")
    body = struct.pack(">QB", 1, kind)
    crc: int = zlib.crc32(body, zlib.crc32(struct.pack(">Q", index)))
    return struct.pack(">I", crc) + body


def test_15_a_vote_counts_once() -> None:
    node = stock_node("a", "b", "c", "d", "e")
    node.t._onNodeConnected(Node("b"))
    node._SyncObj__raftElectionDeadline = 0
    node.doTick(0)
    for _ in range(2):
        stock_hear(node, "b", type="response_vote", term=1)
    assert node._isLeader(), "two of five is no majority"

    bench = Bench("a", "c", "d", "e")
    bench.clock = bench.node.election_deadline
    bench.settle()
    bench.wait(0.01)
    yes = VoteReply(0, 1, pre=True, granted=True)
    bench.hear("a", yes, yes, yes)
    assert bench.node.term == 0
    bench.hear("c", yes)
    assert bench.node.term == 1
    yes = VoteReply(1, 1, pre=False, granted=True)
    bench.hear("d", yes, yes, yes)
    assert bench.node.leadership is None
    bench.hear("e", yes)
    assert bench.node.leadership is not None


def test_16_a_leader_that_is_cut_off_answers_no_reads_and_steps_down(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(stock, "monotonicTime", lambda: clock[0])
    former, present = stock_node("a", "b", "c"), stock_node("b", "a", "c")
    stock_elect(former, "b", "c")
    stock_append(present, "a", 1, (1, 0))
    for peer in "bc":
        former.t._onNodeDisconnected(Node(peer))
    stock_elect(present, "c")
    present.put("new")
    present.doTick(0)
    stock_hear(present, "c", type="next_node_idx", next_node_idx=4, reset=False, success=True)
    clock[0] += 29
    for node in (former, present):
        node.doTick(0)
    assert (former.raftCurrentTerm, present.raftCurrentTerm) == (1, 2)
    assert (former._isLeader(), present._isLeader()) == (True, True), "the library lets both lead for 30 s"
    assert (former.hits, present.hits) == ([], ["new"]), "and reads are of the local state, whoever leads"

    bench = leading()
    told: list[int | Exception] = []
    bench.node.read_index(told.append)
    bench.settle()
    assert told == []
    bench.wait(bench.settings.election_max_s + 0.001)
    assert [type(answer) for answer in told] == [NotLeader]
    assert bench.node.leadership is None


def test_17_the_fate_of_a_proposal_is_known() -> None:
    node = stock_node("b", "a", "c")
    stock_append(node, "a", 1, (1, 0), (STOCK_NO_OP, 2, 1), commit=2)
    node.doTick(0)
    told: list[Any] = []
    node.put("x", callback=lambda result, error: told.append(error))
    node.doTick(0)
    stock_append(node, "c", 2, (2, 1), (stock_command(node, "x"), 3, 1), (STOCK_NO_OP, 4, 2), commit=4)
    node.doTick(0)
    assert (told, node.hits) == ([stock.FAIL_REASON.LEADER_CHANGED], ["x"]), (
        "told that it failed, and it did not"
    )

    bench = Bench()
    bench.elect()
    kept, replaced = bench.node.propose(b"kept"), bench.node.propose(b"replaced")
    bench.settle()
    term = bench.node.term
    bench.hear(
        "c",
        append(term + 1, (kept[0], term), empty(term + 1), command(term + 1, b"other"), commit=kept[0] + 2),
    )
    with pytest.raises(NotLeader):
        bench.node.propose(b"later")
    assert bench.replica.commands == [b"kept", b"other"]
    assert bench.node.journal.term_at(kept[0]) == kept[1]
    assert bench.node.journal.term_at(replaced[0]) != replaced[1]


def test_26_a_full_disk_is_the_end_of_the_librarys_process(tmp_path: Path) -> None:
    """Ours is tried on a full disk as a whole node, in `tests/integration/test_storage_faults.py`."""
    mount = f'mount -t tmpfs -o size=64k none "{tmp_path}"'
    command = (
        "import sys; from pysyncobj.journal import FileJournal as J; J(sys.argv[1]).add(bytes(1 << 17), 1, 1)"
    )
    python = f'exec "{sys.executable}" -c "{command}" "{tmp_path}/journal"'
    tried = subprocess.run(["unshare", "-rm", "sh", "-c", f"{mount} || exit 77; {python}"], check=False)
    if tried.returncode in (1, 77):
        pytest.skip("only who may make name spaces can mount a small tmpfs")
    assert tried.returncode == -signal.SIGBUS, "no error that could be handled: the mapped file has no block"


def test_26_a_disk_that_fails_stops_the_node_and_nothing_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = stock_journal.FileJournal(str(tmp_path / "journal"))

    def full(self: Any, offset: int, values: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stock_journal.ResizableFile, "write", full)
    with pytest.raises(OSError, match="No space"):
        journal.add(b"command", 1, 1)
    assert len(journal) == 1, "the library's memory is ahead of the disk"

    bench = Bench(settings=RaftSettings())
    bench.hear("a", append(1, (1, 0), empty(1)))
    bench.engine.fault = StorageFault("the disk is full")
    assert bench.hear("a", append(1, (2, 1), command(1, b"x"), seq=2)) == []
    assert bench.replica.fatal == [bench.engine.fault]
    bench.engine.fault = None
    assert bench.hear("a", append(1, (2, 1), command(1, b"x"), seq=3)) == [], "it has stopped for good"
    bench.crash()
    assert bench.log == [(2, 1)]


def test_26_a_sync_that_fails_stops_the_node() -> None:
    bench = Bench()
    bench.transport._onMessageReceived(Node("a"), append(1, (1, 0), empty(1)))
    bench.node.doTick()
    bench.engine.fault = StorageFault("input/output error")
    assert bench.settle() == []
    assert bench.replica.fatal == [bench.engine.fault]


def test_19_lower_terms_are_answered_with_ours() -> None:
    node = stock_node("b", "a", "c")
    stock_append(node, "a", 5, (1, 0))
    node.t.take()
    stock_append(node, "c", 3, (1, 0))
    stock_hear(node, "c", type="request_vote", term=3, last_log_index=9, last_log_term=9)
    assert node.t.take() == [], "the library leaves them in the dark"

    bench = Bench()
    bench.hear("a", append(5, (1, 0)))
    answers = bench.hear("c", append(3, (1, 0)), VoteRequest(3, 9, 9, pre=False, transfer=False))
    assert [(to, answer.term) for to, answer in answers] == [("c", 5), ("c", 5)]
    assert isinstance(answers[0][1], AppendRefusal)


def test_19_a_stale_candidate_does_not_depose_a_live_leader() -> None:
    node = stock_node("a", "b", "c")
    stock_elect(node, "b")
    stock_hear(node, "c", type="request_vote", term=50, last_log_index=0, last_log_term=0)
    assert not node._isLeader(), "the library steps down for a node that can never win"

    bench = Bench()
    bench.elect()
    term = bench.node.term
    for pre in (True, False):
        answers = bench.hear("c", VoteRequest(50, 0, 0, pre=pre, transfer=False))
        assert ("c", VoteReply(term, 50, pre, granted=False)) in answers
    assert (bench.node.leadership is not None, bench.node.term) == (True, term)
