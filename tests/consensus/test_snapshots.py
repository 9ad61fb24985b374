"""A snapshot on its way from a leader to a follower: its pace, its window, what is lost and what is taken up
again; and a start with a state that is not where the log is (A2, A5)."""

from __future__ import annotations

import zlib

import msgspec
import pytest
from pysyncobj.node import Node

from coordinator.consensus.messages import (
    AppendRefusal,
    SnapshotAck,
    SnapshotChunk,
    Verdict,
)
from coordinator.consensus.port import SnapshotMeta
from coordinator.consensus.settings import RaftSettings
from coordinator.errors import StateCorrupt, StorageFault
from tests.consensus.lab import NOTHING, Bench, acknowledge, append, command, leading
from tests.consensus.memory import ListReplica

SMALL = RaftSettings(
    compact_after_entries=10, keep_entries=2, snapshot_window_chunks=2, snapshot_bytes_per_s=1 << 40
)


def compacted(settings: RaftSettings = SMALL) -> Bench:
    """A leader whose log begins late, and whose follower "c" has nothing."""
    bench = leading(settings=settings)
    for value in range(20):
        bench.node.propose(b"command %d" % value * 5)
    bench.settle()
    acknowledge(bench, "a")
    bench.flusher.finish()
    bench.settle()
    assert bench.node.journal.base.index > 10
    return bench


def refuse_everything(bench: Bench) -> list[tuple[str, object]]:
    return bench.hear("c", AppendRefusal(bench.node.term, 10**6, 1, 1, [], NOTHING))


def chunks(sent: list[tuple[str, object]]) -> list[SnapshotChunk]:
    return [content for _, content in sent if isinstance(content, SnapshotChunk)]


def relay(leader: Bench, follower: Bench, to_send: list[SnapshotChunk]) -> list[Verdict]:
    """Carry chunks to the follower and its answers back, until the leader has no more; the verdicts."""
    verdicts = []
    while to_send:
        acks = answers(follower.hear("a", *to_send) + follower.install())
        verdicts += [ack.verdict for ack in acks]
        to_send = chunks(leader.hear("c", *acks))
        assert len(to_send) <= SMALL.snapshot_window_chunks
    return verdicts


def answers(sent: list[tuple[str, object]]) -> list[SnapshotAck]:
    return [content for _, content in sent if isinstance(content, SnapshotAck)]


def test_a_snapshot_is_streamed_in_a_window_and_installed() -> None:
    bench, follower = compacted(), Bench("a", "x")
    to_send = chunks(refuse_everything(bench))
    assert [chunk.number for chunk in to_send] == [0, 1]
    bench.node.propose(b"after")
    assert relay(bench, follower, to_send).count(Verdict.INSTALLED) == 1
    assert follower.replica.commands == bench.replica.commands
    assert bench.replica.snapshots_open == 0
    assert follower.node.commit_index == follower.node.journal.base.index == follower.replica.applied.index
    follower.engine.crash()
    follower.start(follower.replica)
    assert follower.node.applied_index == follower.node.journal.last.index


def test_a_snapshot_keeps_to_its_pace() -> None:
    """Between two chunks lies the time that the first of them takes at `snapshot_bytes_per_s`."""
    bench = compacted(msgspec.structs.replace(SMALL, snapshot_bytes_per_s=ListReplica.chunk_bytes * 100))
    assert [chunk.number for chunk in chunks(refuse_everything(bench))] == [0]
    assert bench.clock < bench.node.next_deadline() < bench.clock + 0.01
    assert chunks(bench.wait(0.001)) == []
    assert [chunk.number for chunk in chunks(bench.wait(0.009))] == [1]


def test_a_snapshot_whose_follower_is_silent_is_begun_anew() -> None:
    bench = compacted()
    assert chunks(refuse_everything(bench))
    began = bench.clock
    while bench.clock <= began + SMALL.snapshot_stall_s:
        assert bench.replica.snapshots_read == 1
        bench.clock += SMALL.election_max_s / 2
        acknowledge(bench, "a")
    assert bench.replica.snapshots_read == 2
    assert bench.replica.snapshots_open == 1


def test_a_transfer_lets_go_of_its_view_at_the_end_of_its_life() -> None:
    """Though the follower answers all the while: it is too slow."""
    bench = compacted(msgspec.structs.replace(SMALL, snapshot_life_s=40.0))
    (first, *_) = chunks(refuse_everything(bench))
    still = SnapshotAck(bench.node.term, first.transfer, 0, Verdict.RECEIVED, NOTHING)
    for _ in range(200):
        bench.clock += SMALL.election_max_s / 2
        acknowledge(bench, "a")
        bench.hear("c", still)
    assert bench.node.counters["snapshots_overdue"] == 1
    assert bench.replica.snapshots_open == 1


def test_a_chunk_that_was_lost_is_sent_again() -> None:
    bench, follower = compacted(), Bench("a", "x")
    _, *others = chunks(refuse_everything(bench))
    assert others
    acks = answers(follower.hear("a", *others))
    assert {ack.verdict for ack in acks} == {Verdict.MISSING}, "it has never heard of this transfer"
    bench = compacted()
    first, second = chunks(refuse_everything(bench))
    taken = answers(follower.hear("a", first))
    assert [chunk.number for chunk in chunks(bench.hear("c", *taken))] == [2]
    acknowledge(bench, "a")
    bench.clock += SMALL.snapshot_resend_s + 0.01
    again = chunks(acknowledge(bench, "a"))
    assert [chunk.number for chunk in again] == [second.number, 2]
    assert relay(bench, follower, again)[-1] is Verdict.INSTALLED


def test_a_transfer_goes_on_where_a_lost_connection_stopped_it() -> None:
    bench, follower = compacted(), Bench("a", "x")
    first, second = chunks(refuse_everything(bench))
    bench.hear("c", *answers(follower.hear("a", first)))
    follower.hear("a", second)  # and its answer is lost
    bench.transport._onNodeDisconnected(Node("c"))
    bench.settle()
    assert bench.replica.snapshots_open == 1
    bench.transport._onNodeConnected(Node("c"))
    again = chunks(bench.settle())
    assert [chunk.number for chunk in again] == [1, 2]
    assert relay(bench, follower, again)[-1] is Verdict.INSTALLED
    assert bench.replica.snapshots_read == 1
    assert bench.replica.snapshots_open == 0


def test_a_follower_that_has_forgotten_a_transfer_gets_it_anew() -> None:
    bench, follower = compacted(), Bench("a", "x")
    first, second = chunks(refuse_everything(bench))
    bench.hear("c", *answers(follower.hear("a", first)))
    follower.crash()
    (ack,) = answers(follower.hear("a", second))
    assert ack.verdict is Verdict.MISSING
    anew = chunks(bench.hear("c", ack))
    assert [chunk.number for chunk in anew] == [0, 1]
    assert relay(bench, follower, anew)[-1] is Verdict.INSTALLED
    assert bench.replica.snapshots_open == 0


def test_a_transfer_that_the_follower_has_given_up_is_begun_anew() -> None:
    """Even if the leader has not heard that: it may wait for the rest to be acknowledged."""
    bench, follower = compacted(), Bench("a", "x")
    first, second = chunks(refuse_everything(bench))
    bench.hear("c", *answers(follower.hear("a", first)))
    damaged = msgspec.structs.replace(second, crc=second.crc ^ 1)
    (lost,) = answers(follower.hear("a", damaged))
    assert lost.verdict is Verdict.REFUSED
    for late in (second, first):
        (ack,) = answers(follower.hear("a", late))
        assert ack.verdict is Verdict.MISSING
    assert relay(bench, follower, chunks(bench.hear("c", ack)))[-1] is Verdict.INSTALLED


def test_a_late_chunk_of_an_older_snapshot_leaves_the_present_one_alone() -> None:
    bench, follower = compacted(), Bench("a", "x")
    first, second = chunks(refuse_everything(bench))
    follower.hear("a", append(first.term, (0, 0), command(first.term, b"0"), commit=1))
    assert follower.replica.applied.index == 1
    present = [msgspec.structs.replace(chunk, transfer=2) for chunk in (first, second)]
    late = msgspec.structs.replace(first, meta=SnapshotMeta(1, first.term, b"d"))
    verdicts = [answers(follower.hear("a", chunk))[0] for chunk in (present[0], late, present[1])]
    assert [(ack.verdict, ack.expected) for ack in verdicts] == [
        (Verdict.RECEIVED, 1),
        (Verdict.KNOWN, 0),
        (Verdict.RECEIVED, 2),
    ]


def received_whole() -> tuple[Bench, Bench, SnapshotChunk]:
    """A leader, a follower that has all of its snapshot and has not prepared it, and the last chunk."""
    bench, follower = compacted(), Bench("a", "x")
    to_send = chunks(refuse_everything(bench))
    last = to_send[-1]
    while to_send and not follower.flusher:
        last = to_send[-1]
        to_send = chunks(bench.hear("c", *answers(follower.hear("a", *to_send))))
    assert last.last
    return bench, follower, last


def test_a_node_answers_while_it_prepares_a_snapshot() -> None:
    bench, follower, last = received_whole()
    (ack,) = answers(follower.hear("a", last))
    assert (ack.verdict, ack.expected) == (Verdict.RECEIVED, last.number)
    assert follower.replica.applied.index < last.meta.index
    (done,) = answers(follower.install())
    assert (done.verdict, follower.replica.applied) == (Verdict.INSTALLED, last.meta)
    (late,) = answers(follower.hear("a", last))
    assert late.verdict is Verdict.KNOWN, "the answer may have been lost"
    bench.hear("c", late)
    assert bench.replica.snapshots_open == 0


def test_a_snapshot_is_installed_whoever_leads_when_it_is_ready() -> None:
    bench, follower, last = received_whole()
    follower.hear("x", append(bench.node.term + 1, (10**6, bench.node.term)))
    follower.install()
    assert follower.replica.commands == bench.replica.commands
    assert follower.node.commit_index == last.meta.index


def test_a_state_that_has_passed_the_snapshot_meanwhile_stays() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), command(1, b"0"), commit=2))
    data = msgspec.msgpack.encode([b"0", b"1"])
    meta = SnapshotMeta(3, 1, b"d")
    bench.hear("a", SnapshotChunk(1, 1, 0, meta, zlib.crc32(data), True, data, bench.node.configuration))
    bench.hear("a", append(1, (2, 1), command(1, b"1"), command(1, b"2"), commit=4, seq=2))
    (ack,) = answers(bench.install())
    assert ack.verdict is Verdict.KNOWN
    assert bench.replica.commands == [b"0", b"1", b"2"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_node_that_stops_while_it_prepares_a_snapshot_installs_nothing(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it has of it is nobody's trouble, if the disk is why it stopped."""
    _, follower, _ = received_whole()

    def discard() -> None:
        raise StorageFault("the disk is gone")

    if fails:
        monkeypatch.setattr(follower.node._receiver._writer, "discard", discard)
    follower.node.stop()
    assert follower.install() == []
    assert follower.replica.commands == []


def test_a_snapshot_that_was_refused_is_not_sent_again_at_once() -> None:
    bench = compacted()
    (first, *_) = chunks(refuse_everything(bench))
    refusal = SnapshotAck(bench.node.term, first.transfer, 0, Verdict.REFUSED, NOTHING)
    assert chunks(bench.hear("c", refusal)) == []
    assert (bench.replica.snapshots_open, bench.replica.snapshots_read) == (0, 1)
    bench.clock += SMALL.snapshot_retry_s
    acknowledge(bench, "a")
    assert bench.replica.snapshots_read == 2


def test_the_log_behind_a_snapshot_on_its_way_is_kept_up_to_twice_its_bound() -> None:
    """Else a follower under load would find, whenever one has arrived, that it needs the next."""
    bench = compacted()
    assert chunks(refuse_everything(bench))
    base = bench.node.journal.base.index
    while bench.node.applied_index - base <= 2 * SMALL.compact_after_entries:
        bench.flusher.finish()
        assert bench.node.journal.base.index == base
        bench.node.propose(b"more")
        acknowledge(bench, "a")
    bench.flusher.finish()
    assert bench.node.journal.base.index > base


@pytest.mark.parametrize("ends", ["it has caught up", "its link breaks"])
def test_the_log_behind_a_snapshot_that_has_arrived_is_kept_until_its_follower_has_caught_up(
    ends: str,
) -> None:
    bench, follower = compacted(), Bench("a", "x")
    assert relay(bench, follower, chunks(refuse_everything(bench)))[-1] is Verdict.INSTALLED
    base = bench.node.journal.base.index
    while bench.node.applied_index - base <= SMALL.compact_after_entries + 5:
        bench.node.propose(b"more")
        acknowledge(bench, "a")
        bench.flusher.finish()
        assert bench.node.journal.base.index == base
    if ends == "it has caught up":
        acknowledge(bench, "c")
    else:
        bench.transport._onNodeDisconnected(Node("c"))
    bench.settle()
    bench.flusher.finish()
    assert bench.node.journal.base.index > base


def test_the_log_is_bounded_in_bytes() -> None:
    bench = leading(settings=RaftSettings(compact_after_bytes=8 << 20, keep_bytes=4 << 20))
    for _ in range(9):
        bench.node.propose(bytes(1 << 20))
        acknowledge(bench, "a")
    bench.install()
    assert bench.node.counters["compactions"] == 1
    assert bench.node.journal.size_bytes <= 4 << 20
    assert bench.node.journal.last.index - bench.node.journal.base.index == 4


def test_a_log_that_holds_the_snapshots_entry_keeps_its_tail() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), *[command(1, b"%d" % value) for value in range(5)], commit=2))
    data = msgspec.msgpack.encode([b"0", b"1", b"2"])
    meta = SnapshotMeta(4, 1, b"d")
    chunk = SnapshotChunk(1, 1, 0, meta, zlib.crc32(data), True, data, bench.node.configuration)
    bench.hear("a", chunk)
    bench.install()
    assert (bench.node.journal.last.index, bench.node.commit_index, bench.node.applied_index) == (6, 4, 4)
    bench.hear("a", append(1, (6, 1), commit=6, seq=2))
    assert bench.replica.commands == [b"0", b"1", b"2", b"3", b"4"]


# Starting.


def test_a_state_ahead_of_the_log_takes_its_place() -> None:
    """A snapshot was installed and the process died before the log was told; or the log's last sync was
    behind the state."""
    bench = Bench()
    bench.hear("a", append(1, (1, 0), command(1, b"x"), command(1, b"y")))
    ahead = ListReplica()
    ahead.applied = SnapshotMeta(9, 1, b"")
    bench.start(ahead)
    assert (bench.node.journal.base.index, bench.node.commit_index, bench.log) == (9, 9, [])


def test_a_state_behind_the_logs_beginning_stops_the_node() -> None:
    bench = compacted()
    with pytest.raises(StateCorrupt, match="the log begins after"):
        bench.start(ListReplica())
