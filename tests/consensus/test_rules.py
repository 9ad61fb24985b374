"""One rule of the protocol per test, on a single node and by hand (A1, A5, A7). The names of the rules are
those of Ongaro's thesis."""

from __future__ import annotations

import zlib

import msgspec
import pytest
from pysyncobj.node import Node

from coordinator.consensus.messages import (
    AppendEntries,
    AppendRefusal,
    AppendReply,
    SnapshotAck,
    SnapshotChunk,
    TimeoutNow,
    Verdict,
    VoteReply,
    VoteRequest,
)
from coordinator.consensus.port import Role, SnapshotMeta
from coordinator.consensus.settings import RaftSettings
from coordinator.errors import NotLeader, QueueFull, StateCorrupt, WrongState
from tests.consensus.lab import Bench, append, command, empty
from tests.consensus.memory import ListReplica

NOTHING = SnapshotMeta(1, 0, b"")


def acknowledge(
    bench: Bench, peer: str, match: int | None = None, seq: int = 10**6
) -> list[tuple[str, object]]:
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


# Elections.


def test_a_single_node_elects_itself_at_once() -> None:
    bench = Bench()
    bench.peers = ()
    bench.start(ListReplica())
    bench.settle()
    bench.node.propose(b"x")
    bench.settle()
    assert (bench.node.role, bench.replica.commands) == (Role.LEADER, [b"x"])
    assert bench.node.next_deadline() == float("inf")


def test_an_election_begins_with_a_prevote_that_changes_nothing() -> None:
    bench = Bench()
    bench.wait(bench.settings.election_max_s)
    sent = bench.wait(bench.settings.election_recheck_s)
    assert [(to, asked.pre, asked.term) for to, asked in sent] == [("a", True, 1), ("c", True, 1)]
    assert (bench.node.term, bench.node.voted_for) == (0, None)


def test_after_a_stall_what_has_arrived_is_read_before_standing() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0)))
    bench.clock += 10
    bench.node.doTick()
    assert bench.hear("a", append(1, (1, 0), seq=2))[-1][1].seq == 2
    assert not [asked for _, asked in bench.wait(0.01) if isinstance(asked, VoteRequest)]


def test_a_vote_is_refused_while_a_leader_is_heard() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0)))
    for pre in (True, False):
        (reply,) = bench.hear("c", VoteRequest(9, 9, 9, pre=pre, transfer=False))
        assert reply == ("c", VoteReply(1, 9, pre, granted=False))
    bench.clock += bench.settings.election_min_s + 0.001
    (reply,) = bench.hear("c", VoteRequest(9, 9, 9, pre=True, transfer=False))
    assert reply == ("c", VoteReply(1, 9, True, granted=True))
    assert bench.node.term == 1


def test_a_vote_is_refused_to_a_shorter_log() -> None:
    bench = Bench()
    bench.hear("a", append(2, (1, 0), empty(2), command(2, b"x")))
    bench.clock += 10
    for last in ((2, 2), (9, 1), (0, 0)):
        (reply,) = bench.hear("c", VoteRequest(3, last[0], last[1], pre=False, transfer=False))
        assert not reply[1].granted
    (reply,) = bench.hear("c", VoteRequest(3, 3, 2, pre=False, transfer=False))
    assert reply[1].granted


def test_one_vote_a_term_even_over_a_restart() -> None:
    bench = Bench()
    assert bench.hear("a", VoteRequest(3, 1, 0, pre=False, transfer=False))[0][1].granted
    bench.crash()
    assert not bench.hear("c", VoteRequest(3, 1, 0, pre=False, transfer=False))[0][1].granted
    assert bench.hear("a", VoteRequest(3, 1, 0, pre=False, transfer=False))[0][1].granted


def test_a_peer_that_connects_late_is_asked_late() -> None:
    bench = Bench()
    bench.wait(bench.settings.election_max_s)
    bench.wait(bench.settings.election_recheck_s)
    bench.transport._onNodeConnected(Node("c"))
    assert [(to, type(asked)) for to, asked in bench.settle()] == [("c", VoteRequest)]


def test_orphans_whose_votes_were_split_try_again_soon_and_not_for_ever() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0)))
    bench.transport._onNodeDisconnected(Node("a"))
    rounds = 0
    while bench.node.election_deadline <= bench.clock + 3 * bench.settings.orphan_jitter_s:
        sent = bench.wait(bench.node.election_deadline - bench.clock)
        assert [asked.pre for _, asked in sent if isinstance(asked, VoteRequest)] == [True, True]
        bench.hear("c", VoteReply(1, 2, pre=True, granted=False))
        bench.hear("a", VoteReply(1, 2, pre=True, granted=False))
        rounds += 1
        assert rounds <= 10
    assert rounds == bench.settings.orphan_rounds + 1


def test_a_leader_without_a_majority_steps_down_within_an_election_timeout() -> None:
    bench = leading("a", "c", "d", "e")
    heard_at = bench.clock
    bench.clock = heard_at + bench.settings.election_max_s * 0.9
    acknowledge(bench, "c")
    bench.clock = heard_at + bench.settings.election_max_s * 1.1
    bench.settle()
    assert bench.node.leadership is None, "three of five are not heard"
    assert bench.replica.roles[-1] == (Role.FOLLOWER, bench.node.term, None)


def test_time_alone_wakes_a_leader_that_must_step_down() -> None:
    bench = leading()
    for peer in bench.peers:
        bench.transport._onNodeDisconnected(Node(peer))
    bench.settle()
    since = bench.clock
    while bench.node.leadership is not None and bench.clock < since + 10:
        bench.clock = bench.node.next_deadline() + 0.001
        bench.settle()
    assert since < bench.clock <= since + bench.settings.election_max_s + 0.001


def test_roles_are_told_in_order() -> None:
    bench = leading()
    term = bench.node.term
    bench.hear("c", append(term + 1, (1, 0)))
    assert bench.replica.roles[-2:] == [(Role.LEADER, term, "b"), (Role.FOLLOWER, term + 1, "c")]


# Replication and commitment.


def test_entries_of_earlier_terms_do_not_commit_by_counting() -> None:
    """Figure 8 of the Raft paper."""
    bench = Bench()
    bench.hear("a", append(1, (1, 0), command(1, b"old")))
    bench.elect()
    acknowledge(bench, "a", match=2)
    assert bench.node.commit_index == 1
    acknowledge(bench, "a")
    assert (bench.node.commit_index, bench.replica.commands) == (3, [b"old"])


def test_followers_at_the_same_place_get_the_very_same_message() -> None:
    bench = leading()
    acknowledge(bench, "c")
    bench.node.propose(b"x")
    sent = [
        content for _, content in bench.settle() if isinstance(content, AppendEntries) and content.entries
    ]
    assert len(sent) == 2
    assert sent[0] is sent[1]


def test_proposals_of_one_iteration_leave_in_one_message() -> None:
    bench = leading()
    for value in range(10):
        bench.node.propose(b"%d" % value)
    sent = [content for to, content in bench.settle() if to == "a"]
    assert [len(content.entries) for content in sent] == [10]


def test_the_window_bounds_what_is_in_flight() -> None:
    bench = leading(settings=RaftSettings(max_append_entries=1))
    for value in range(10):
        bench.node.propose(b"%d" % value)
    sent = [content for to, content in bench.settle() if to == "a" and content.entries]
    assert len(sent) == bench.settings.window_messages
    acknowledge(bench, "a", match=sent[0].prev_index + 1)
    assert bench.node.commit_index == sent[0].prev_index + 1


def test_a_message_that_cannot_leave_is_sent_again() -> None:
    bench = leading()
    bench.transport.deaf.add("a")
    bench.node.propose(b"x")
    bench.settle()
    bench.transport.deaf.clear()
    sent = [content for to, content in bench.wait(bench.settings.heartbeat_s) if to == "a"]
    assert [len(content.entries) for content in sent] == [1]


def test_followers_hear_of_a_commit_soon() -> None:
    bench = leading()
    acknowledge(bench, "c")
    bench.node.propose(b"x")
    bench.settle()
    acknowledge(bench, "a")
    assert bench.node.next_deadline() <= bench.clock + bench.settings.commit_notice_s
    sent = bench.wait(bench.settings.commit_notice_s)
    assert {(to, content.commit) for to, content in sent} == {
        (peer, bench.node.commit_index) for peer in "ac"
    }


def test_only_the_last_acknowledgement_of_an_iteration_is_sent() -> None:
    bench = Bench()
    messages = [append(1, (1 + n, min(n, 1)), command(1, b"x"), seq=n + 1) for n in range(5)]
    sent = bench.hear("a", *messages)
    assert [(reply.seq, reply.match) for _, reply in sent] == [(5, 6)]


def test_a_heartbeat_is_answered_though_the_disk_is_slow() -> None:
    bench = Bench()
    bench.transport._onMessageReceived(Node("a"), append(1, (1, 0), command(1, b"x")))
    bench.node.doTick()
    bench.transport._onMessageReceived(Node("a"), append(1, (2, 1), seq=2))
    bench.node.doTick()
    assert [(reply.seq, reply.match) for _, reply in bench.transport.take()] == [(2, 1)]


def test_committed_entries_are_applied_in_bounded_runs() -> None:
    bench = Bench(settings=RaftSettings(apply_entries=4))
    bench.hear("a", append(1, (1, 0), *[command(1, b"%d" % value) for value in range(10)], commit=11))
    bench.settle()
    assert bench.replica.runs == [4, 4, 2]


# Reads.


def test_a_read_waits_for_a_majority_that_was_asked_after_it() -> None:
    bench = leading()
    answers: list[int | Exception] = []
    acknowledge(bench, "a", seq=1)
    bench.node.read_index(answers.append)
    sent = bench.settle()
    seq = max(content.seq for _, content in sent)
    assert {to for to, _ in sent} == {"a", "c"}, "it does not wait for the next heartbeat"
    acknowledge(bench, "c", seq=seq - 1, match=1)
    assert answers == []
    acknowledge(bench, "c", seq=seq, match=1)
    assert answers == [bench.node.commit_index]


def fresh_round(bench: Bench) -> int:
    """The highest round that was sent since the last look."""
    return max(content.seq for _, content in bench.settle() if isinstance(content, AppendEntries))


def test_a_read_waits_for_the_terms_own_entry() -> None:
    bench = Bench()
    bench.elect()
    answers: list[int | Exception] = []
    bench.node.read_index(answers.append)
    bench.settle()
    acknowledge(bench, "c", match=1)
    assert answers == []
    acknowledge(bench, "a")
    assert answers == [bench.node.journal.last.index]


def test_reads_that_come_meanwhile_share_the_next_round() -> None:
    bench = leading()
    answers: list[int | Exception] = []
    bench.node.read_index(answers.append)
    first = fresh_round(bench)
    for _ in range(20):
        bench.node.read_index(answers.append)
    assert bench.settle() == []
    sent = acknowledge(bench, "a", seq=first)
    assert (len(answers), len(sent)) == (1, 2)
    acknowledge(bench, "a")
    assert len(answers) == 21


def test_reads_are_bounded() -> None:
    bench = leading(settings=RaftSettings(max_waiting_reads=2))
    answers: list[int | Exception] = []
    for _ in range(2):
        bench.node.read_index(answers.append)
    with pytest.raises(QueueFull, match="max_waiting_reads"):
        bench.node.read_index(answers.append)


# Handing over.


def test_the_target_stands_at_once_and_live_leaders_do_not_matter() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0)))
    sent = bench.hear("a", TimeoutNow(1))
    asked = [content for _, content in sent if isinstance(content, VoteRequest)]
    assert [(request.term, request.pre, request.transfer) for request in asked] == [(2, False, True)] * 2
    other = Bench()
    other.hear("a", append(1, (1, 0)))
    assert other.hear("c", asked[0])[-1][1].granted


def test_only_the_leader_can_hand_over() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0)))
    bench.hear("c", TimeoutNow(1))
    assert bench.node.term == 1


def test_leadership_is_offered_once_the_target_has_everything() -> None:
    bench = leading()
    bench.node.propose(b"x")
    assert bench.node.begin_transfer("c") == "c"
    assert not [content for _, content in bench.settle() if isinstance(content, TimeoutNow)]
    with pytest.raises(QueueFull, match="handed to c"):
        bench.node.propose(b"y")
    sent = acknowledge(bench, "c")
    assert [to for to, content in sent if isinstance(content, TimeoutNow)] == ["c"]
    bench.node.end_transfer()
    bench.node.propose(b"y")


def test_there_must_be_somebody_to_hand_over_to() -> None:
    bench = leading()
    with pytest.raises(WrongState, match="not another member"):
        bench.node.begin_transfer("b")
    for peer in bench.peers:
        bench.transport._onNodeDisconnected(Node(peer))
    with pytest.raises(WrongState):
        bench.node.begin_transfer(None)
    bench.hear("c", append(bench.node.term + 1, (1, 0)))
    with pytest.raises(NotLeader):
        bench.node.begin_transfer(None)


# Snapshots.


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
    lost, *others = chunks(refuse_everything(bench))
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
    bench.hear("a", SnapshotChunk(1, 1, 0, SnapshotMeta(3, 1, b"d"), zlib.crc32(data), last=True, data=data))
    bench.hear("a", append(1, (2, 1), command(1, b"1"), command(1, b"2"), commit=4, seq=2))
    (ack,) = answers(bench.install())
    assert ack.verdict is Verdict.KNOWN
    assert bench.replica.commands == [b"0", b"1", b"2"]


def test_a_node_that_stops_while_it_prepares_a_snapshot_installs_nothing() -> None:
    _, follower, _ = received_whole()
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


def test_a_log_that_holds_the_snapshots_entry_keeps_its_tail() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), *[command(1, b"%d" % value) for value in range(5)], commit=2))
    data = msgspec.msgpack.encode([b"0", b"1", b"2"])
    chunk = SnapshotChunk(1, 1, 0, SnapshotMeta(4, 1, b"d"), zlib.crc32(data), last=True, data=data)
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
