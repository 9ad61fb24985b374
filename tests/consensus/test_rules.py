"""One rule of the protocol per test, on a single node and by hand (A1, A5, A7). The names of the rules are
those of Ongaro's thesis."""

from __future__ import annotations

import random

import pytest
from pysyncobj.node import Node

from coordinator.consensus.journal import FAMILIES
from coordinator.consensus.messages import (
    AppendEntries,
    AppendReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from coordinator.consensus.port import Abstention, Role
from coordinator.consensus.settings import RaftSettings
from coordinator.errors import NotLeader, QueueFull, WrongState
from tests.consensus.lab import NOTHING, Bench, acknowledge, append, command, empty, leading, voters
from tests.consensus.memory import ListReplica, MemoryEngine

# Elections.


def test_a_single_node_elects_itself_at_once() -> None:
    bench = Bench()
    bench.peers, bench.founders = (), voters("b")
    bench.engine = MemoryEngine(FAMILIES)
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


def test_a_node_that_leaves_it_to_others_stops_naming_a_leader_that_is_gone() -> None:
    bench = Bench()
    bench.node.abstains = Abstention.DRAINED
    bench.hear("a", append(1, (1, 0)))
    bench.wait(bench.settings.election_max_s)
    assert bench.wait(bench.settings.election_recheck_s) == []
    assert bench.replica.roles[-1] == (Role.FOLLOWER, 1, None)


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


def lost_election() -> Bench:
    """It has entries up to 10 from the leader of term 1, of which 9 and 10 are not committed, has stood
    in term 2 itself, and not won."""
    bench = Bench()
    bench.hear("a", append(1, (1, 0), *[command(1, b"x")] * 9, commit=8, seq=500))
    bench.transport._onMessageReceived(Node("a"), append(1, (10, 1), command(1, b"not synced"), seq=501))
    bench.node.doTick()
    bench.clock = bench.node.election_deadline + 1
    bench.node.doTick()
    bench.clock += bench.settings.election_recheck_s
    bench.node.doTick()
    bench.transport._onMessageReceived(Node("a"), VoteReply(1, 2, pre=True, granted=True))
    bench.transport.take()
    assert (bench.node.role, bench.node.term) == (Role.CANDIDATE, 2)
    return bench


def test_what_matched_the_leader_of_one_term_says_nothing_to_that_of_the_next() -> None:
    """The winner's entry 9 is another one. Were it told of 10 matching entries, it would commit its own 9
    with a node that does not have it; were it told of round 500, it would answer reads without a
    majority."""
    bench = lost_election()
    answers = bench.hear("c", append(2, (8, 1), commit=8, seq=1))
    assert [(to, reply.seq, reply.match) for to, reply in answers] == [("c", 1, 8)]
    answers = bench.hear("c", append(2, (8, 1), empty(2), commit=8, seq=2))
    assert [(to, reply.seq, reply.match) for to, reply in answers] == [("c", 2, 9)]
    assert bench.log[-1] == (9, 2)


def test_what_is_owed_to_the_leader_of_one_term_is_not_said_in_the_next() -> None:
    bench = lost_election()
    assert [sent for _, sent in bench.settle() if isinstance(sent, AppendReply)] == []


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


def test_reads_that_came_meanwhile_do_not_wait_for_the_next_heartbeat() -> None:
    bench = leading()
    answers: list[int | Exception] = []
    for _ in range(2):
        bench.node.read_index(answers.append)
        bench.settle()
    bench.transport._onMessageReceived(Node("a"), AppendReply(bench.node.term, 10**6, 2, NOTHING))
    bench.wakes = 0
    bench.node.doTick()
    assert (len(answers), bench.wakes) == (1, 1)


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
    with pytest.raises(WrongState, match="leads already"):
        bench.node.begin_transfer("b")
    for peer in bench.peers:
        bench.transport._onNodeDisconnected(Node(peer))
    with pytest.raises(WrongState):
        bench.node.begin_transfer(None)
    bench.hear("c", append(bench.node.term + 1, (1, 0)))
    with pytest.raises(NotLeader):
        bench.node.begin_transfer(None)


@pytest.mark.parametrize("waits", ["nothing", "a read", "a follower", "what it commits"])
def test_the_last_acknowledgement_asks_for_a_tick_only_if_something_can_follow(waits: str) -> None:
    peers = {"a follower": ("a", "c", "d", "e"), "what it commits": ("c",)}.get(waits, ("a", "c"))
    bench = leading(*peers)
    bench.node.propose(b"x")
    bench.settle()
    last = AppendReply(bench.node.term, 10**6, bench.node.journal.last_index, NOTHING)
    if "a" in peers:
        acknowledge(bench, "a")
    if waits == "a read":
        bench.node.read_index(lambda index: None)
        bench.settle()
    bench.wakes = 0
    bench.transport._onMessageReceived(Node("c"), last)
    assert bool(bench.wakes) == (waits != "nothing")
    bench.settle()
    assert bench.node.commit_index == bench.node.journal.last_index


def test_a_leader_is_never_late_for_what_it_woke_for() -> None:
    """A deadline that has come and moves nothing would have it wake again at once, for ever."""
    bench, rng = leading(), random.Random(1)
    for _ in range(200):
        bench.clock = bench.node.next_deadline()
        for peer, _ in bench.settle():
            acknowledge(bench, peer)
        assert bench.node.next_deadline() > bench.clock
        # Not on the grid of the deadlines, so that sums of seconds are rounded in all ways.
        bench.clock += rng.uniform(0.001, 0.01)
        bench.settle()
    assert bench.node.role is Role.LEADER
