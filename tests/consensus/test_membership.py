"""Changes of the membership, rule by rule: one at a time, from the newest configuration of the log, and none
that would leave no majority (A3; defects 12 and 13).
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from pysyncobj.node import Node

from coordinator.consensus.admission import Credentials
from coordinator.consensus.changes import Add, Change, Promote, Remove, Replace, Update
from coordinator.consensus.journal import FAMILIES, Position
from coordinator.consensus.membership import Configuration, Member
from coordinator.consensus.messages import (
    AppendEntries,
    AppendReply,
    Entry,
    EntryKind,
    SnapshotChunk,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from coordinator.consensus.settings import RaftSettings
from coordinator.errors import (
    AlreadyExists,
    LimitExceeded,
    NotFound,
    Removed,
    StorageFault,
    Unavailable,
    WrongState,
)
from tests.consensus.lab import (
    NOTHING,
    Bench,
    acknowledge,
    add,
    append,
    command,
    commit_by,
    config,
    leading,
    made,
    stock_append,
    stock_leading,
    stock_log,
    stock_node,
    voters,
)
from tests.consensus.memory import ListReplica, MemoryEngine

# 12: one change at a time.


def test_12_one_change_at_a_time() -> None:
    """The stock library takes a second change while the first is not committed; ours refuses it, and each
    alters one voter at most."""
    stock = stock_leading()
    for new in ("x", "y"):
        stock.addNodeToCluster(new)
        stock.doTick(0)
    assert {"x", "y"} <= {node.id for node in stock.otherNodes}
    assert stock.raftLastApplied == 2, "neither of the two is committed"

    bench = leading()
    bench.node.change_membership(add("x"))
    with pytest.raises(Unavailable, match="not committed yet") as refusal:
        bench.node.change_membership(add("y"))
    assert refusal.value.retry_after_ms > 0
    bench.settle()
    commit_by(bench, "a")
    made(bench, add("y"), "a")
    assert bench.members == ("abc", "xy")


def test_12_no_change_before_the_terms_own_entry_is_committed() -> None:
    """Ongaro's correction of 2015: else two leaders could each commit a change by majorities that do not
    meet."""
    bench = Bench()
    bench.elect()
    with pytest.raises(Unavailable, match="only begun"):
        bench.node.change_membership(Remove("c"))
    bench.settle()
    commit_by(bench, "a")
    assert made(bench, Remove("c"), "a") == bench.node.journal.last.index


# 13: restored at start.


def test_13_an_uncommitted_configuration_is_in_force_again_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    stock = stock_node("b", "a", "c", dynamicMembershipChange=True, journalFile=path)
    change = b"\2" + pickle.dumps(["add", "d", Node("d")])
    stock_append(stock, "a", 1, (1, 0), (change, 2, 1))
    assert "d" in {node.id for node in stock.otherNodes}
    stock._SyncObj__raftLog._destroy()
    again = stock_node("b", "a", "c", dynamicMembershipChange=True, journalFile=path)
    again.doTick(0)
    assert stock_log(again) == [(1, 0), (2, 1)]
    assert "d" not in {node.id for node in again.otherNodes}, "it holds the entry, and goes by its arguments"
    again._SyncObj__raftLog._destroy()

    bench = Bench()
    bench.hear("a", append(1, (1, 0), config(1, voters("a", "b", "c", "d"))))
    assert bench.members == ("abcd", "")
    bench.crash()
    assert (bench.members, bench.node.quorum) == (("abcd", ""), 3)


def test_13_a_truncated_configuration_gives_way_to_the_one_before() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), command(1, b"x"), config(1, voters("a", "b", "c", "d"))))
    bench.hear("c", append(2, (2, 1), command(2, b"y")))
    assert bench.members == ("abc", "")
    bench.crash()
    assert bench.members == ("abc", "")


def test_13_a_configuration_outlives_the_compaction_of_its_entry() -> None:
    bench = leading(settings=RaftSettings(compact_after_entries=10, keep_entries=2))
    made(bench, add("x"), "a")
    for value in range(20):
        bench.node.propose(b"%d" % value)
    bench.settle()
    commit_by(bench, "a")
    bench.flusher.finish()
    bench.settle()
    assert bench.node.journal.base.index > bench.node.configuration.index
    bench.engine.crash()
    bench.start(bench.replica)
    assert bench.members == ("abc", "x")


def test_13_a_snapshot_carries_the_configuration_at_its_index_and_not_a_later_one() -> None:
    """The stock library sends the membership of the moment, which takes the place of the log's."""
    stock = stock_leading()
    del stock.t
    stock.addNodeToCluster("x")
    stock.forceLogCompaction()
    stock.doTick(0)
    stock.doTick(0)
    _, last, _, members = stock._SyncObj__serializer.deserialize()
    assert (last[1], "x" in {node.id for node in members}) == (2, True), (
        "it was added by entry 3, not committed"
    )

    bench = leading(settings=RaftSettings(compact_after_entries=10, keep_entries=2))
    made(bench, add("x"), "a")
    for value in range(20):
        bench.node.propose(b"%d" % value)
    bench.settle()
    commit_by(bench, "a")
    bench.flusher.finish()
    bench.settle()
    bench.node.change_membership(add("y"))
    bench.settle()
    bench.meet("x")
    sent = bench.hear("x", AppendReply(bench.node.term, 10**6, 0, NOTHING))
    chunks = [one for _, one in sent if isinstance(one, SnapshotChunk)]
    for _ in range(20):
        if chunks[-1].last:
            break
        bench.clock += 0.05
        chunks += [one for _, one in bench.settle() if isinstance(one, SnapshotChunk)]
    carried = chunks[-1].configuration
    assert carried is not None
    assert [one.id for one in carried.membership.learners] == ["x"]
    assert bench.members == ("abc", "xy")


def test_13_a_crash_between_a_snapshots_installation_and_the_logs_reset_loses_no_configuration() -> None:
    bench = Bench()
    configuration = Configuration(8, 1, voters("a", "b", "d"))
    bench.node.journal.set_vote(1, None)
    bench.node.journal.expect_base(Position(9, 1), configuration)
    installed = ListReplica()
    installed.applied = type(installed.applied)(9, 1, b"")
    bench.engine.crash()
    bench.start(installed)
    assert bench.node.configuration == configuration


def test_13_nothing_is_applied_before_the_configuration_is_durable() -> None:
    """A state that is ahead of the log must not have passed a configuration that the log has lost."""
    bench = Bench()
    message = append(1, (1, 0), config(1, voters("a", "b", "c", "d")), command(1, b"x"), commit=3)
    bench.transport._onMessageReceived(Node("a"), message)
    bench.node.doTick()
    assert (bench.node.commit_index, bench.node.applied_index) == (3, 1)
    bench.settle()
    assert bench.node.applied_index == 3


# Promotion.


def test_a_learner_is_promoted_only_when_it_has_caught_up() -> None:
    bench = leading(settings=RaftSettings(promote_max_lag_entries=5))
    made(bench, add("x"), "a")
    with pytest.raises(WrongState, match="has not heard from it"):
        bench.node.change_membership(Promote("x"))
    bench.meet("x")
    commit_by(bench, "a")
    for value in range(10):
        bench.node.propose(b"%d" % value)
    bench.settle()
    commit_by(bench, "a")
    acknowledge(bench, "x", match=3)
    with pytest.raises(WrongState, match=r"raft\.promote_max_lag_entries") as refusal:
        bench.node.change_membership(Promote("x"))
    assert int(refusal.value.fields["value"]) == bench.node.journal.last.index - 3
    acknowledge(bench, "x")
    made(bench, Promote("x"), "a", "x")
    assert (bench.members, bench.node.quorum) == (("abcx", ""), 3)


def test_a_flagged_learner_is_promoted_by_whoever_leads() -> None:
    bench = leading()
    bench.meet("a", "c")
    commit_by(bench, "a", "c")
    made(bench, add("x", promote=True), "a")
    bench.meet("x")
    commit_by(bench, "a", "c")
    assert bench.members == ("abc", "x")
    acknowledge(bench, "x")
    assert bench.members == ("abcx", "")


# Removal.


def test_a_removed_leader_leads_until_it_is_committed_without_counting_itself() -> None:
    bench = leading()
    commit_by(bench, "a", "c")
    index, _ = bench.node.change_membership(Remove("b"))
    bench.settle()
    sent = bench.settle()
    commit_by(bench, "a")
    assert bench.node.commit_index < index, "one of the two that are left, and itself: no majority"
    sent = acknowledge(bench, "c")
    assert bench.node.commit_index >= index
    assert ("a", TimeoutNow(1)) in sent or ("c", TimeoutNow(1)) in sent
    bench.hear("a", append(2, (index, 1), Entry(2, EntryKind.EMPTY, b""), commit=index))
    (error,) = bench.replica.fatal
    assert isinstance(error, Removed)


def test_a_removed_leader_steps_down_though_nobody_takes_over() -> None:
    bench = leading()
    commit_by(bench, "a", "c")
    index, _ = bench.node.change_membership(Remove("b"))
    bench.settle()
    commit_by(bench, "a", "c")
    assert bench.node.commit_index >= index
    for _ in range(6):
        bench.clock += 0.2
        if not bench.replica.fatal:
            commit_by(bench, "a", "c")
    assert isinstance(bench.replica.fatal[0], Removed)


def test_a_leader_whose_removal_nobody_has_got_is_elected_again_to_commit_it() -> None:
    """Its log is the longest, so that none of those who are left could be elected. It does not vote for
    itself, and its time as a leader ends with what it stood for."""
    bench = leading()
    commit_by(bench, "a", "c")
    index, _ = bench.node.change_membership(Remove("b"))
    bench.settle()
    bench.wait(1.0)
    assert bench.node.leadership is None
    bench.clock = bench.node.election_deadline
    sent = bench.settle() + bench.wait(bench.settings.election_recheck_s)
    assert {(peer, message.last_index) for peer, message in sent if isinstance(message, VoteRequest)} == {
        ("a", index),
        ("c", index),
    }
    for pre in (True, False):
        asked = bench.node.term + pre
        bench.hear("a", VoteReply(bench.node.term, asked, pre, granted=True))
        assert bench.node.leadership is None, "one of two"
        bench.hear("c", VoteReply(bench.node.term, asked, pre, granted=True))
    assert bench.node.leadership is not None
    commit_by(bench, "a", "c")
    assert bench.node.commit_index > index
    bench.wait(bench.settings.transfer_timeout_s * 1.1)
    assert isinstance(bench.replica.fatal[0], Removed)


def test_who_is_removed_for_good_does_not_stand() -> None:
    bench = leading()
    commit_by(bench, "a", "c")
    index = made(bench, Remove("b"), "a", "c")
    bench.node.follow(bench.node.term)
    assert bench.node.commit_index >= index
    assert not bench.node.may_stand


def test_a_removal_that_would_leave_no_living_majority_is_refused() -> None:
    bench = leading()
    bench.clock += 0.4
    acknowledge(bench, "a")
    bench.clock += 0.4
    acknowledge(bench, "a")
    with pytest.raises(WrongState, match="c has not been heard"):
        bench.node.change_membership(Remove("a"))
    made(bench, Remove("c"), "a")
    assert bench.members == ("ab", "")


def test_the_last_voter_stays() -> None:
    bench = Bench()
    bench.peers, bench.founders = (), voters("b")
    bench.engine = MemoryEngine(FAMILIES)
    bench.start(ListReplica())
    bench.settle()
    with pytest.raises(WrongState, match="only voter"):
        bench.node.change_membership(Remove("b"))


def test_the_removed_are_strangers_and_those_who_know_more_are_not() -> None:
    bench = leading()
    commit_by(bench, "a", "c")
    made(bench, Remove("c"), "a")
    refusal = bench.node.gate.judge(Credentials("c", "c1", (0, 1)))
    assert refusal is not None
    assert refusal.final
    assert "coordctl member add c" in refusal.reason
    later = (bench.node.term, bench.node.configuration.index + 1)
    assert bench.node.gate.judge(Credentials("new", "n1", later)) is None


def test_who_is_left_out_by_a_configuration_that_is_not_committed_may_still_come() -> None:
    """It may be the leader that undoes it, and would never reach a node that does not let it in."""
    bench = leading()
    bench.meet("a", "c")
    commit_by(bench, "a", "c")
    index, _ = bench.node.change_membership(Remove("c"))
    assert bench.members == ("ab", "")
    assert bench.node.gate.keeps(Credentials("c", "c1", (0, 1)))
    assert bench.node.gate.judge(Credentials("c", "c1", (0, 1))) is None
    refusal = bench.node.gate.judge(Credentials("z", "z1", (0, 1)))
    assert refusal is not None
    assert not refusal.final
    bench.hear("c", append(2, (index - 1, 1), Entry(2, EntryKind.EMPTY, b"")))
    assert bench.members == ("abc", "")


def test_a_leader_that_cannot_write_a_change_stops() -> None:
    bench = leading()
    commit_by(bench, "a", "c")
    bench.engine.fault = StorageFault("the disk is full")
    bench.node.change_membership(add("x"))
    bench.settle()
    assert bench.replica.fatal == [bench.engine.fault]
    bench.engine.fault = None
    bench.crash()
    assert bench.members == ("abc", "")


# Repeating, and what contradicts.


def test_changes_may_be_repeated() -> None:
    bench = leading()
    commit_by(bench, "a", "c")
    for change in (add("x"), Update("x", "x:2", ""), Remove("x"), Replace("c", add("d")), Promote("a")):
        if bench.node.configuration.membership.get("c") and isinstance(change, Replace):
            bench.clock += 0.01
        first, _ = bench.node.change_membership(change)
        bench.settle()
        commit_by(bench, "a", "c")
        again, _ = bench.node.change_membership(change)
        assert again == first or bench.node.configuration.index == again
    assert bench.members == ("ab", "d")


@pytest.mark.parametrize(
    ("change", "error", "what"),
    [
        (Promote("z"), NotFound, "there are a, b, c"),
        (Update("z", "z:1", ""), NotFound, "there are a, b, c"),
        (Replace("z", add("y")), NotFound, "no member 'z' to replace"),
        (Add("a", "other:1", "a:grpc"), AlreadyExists, "coordctl member update"),
        (Add("x", "a:raft", "x:grpc"), AlreadyExists, "address of 'a'"),
        (Update("a", "c:raft", ""), AlreadyExists, "address of 'c'"),
        (Replace("a", add("c")), WrongState, "coordctl member remove a"),
        (Replace("c", add("c")), WrongState, r"lives: .* repeat this in a moment"),
        (add("x"), LimitExceeded, r"raft\.max_members"),
    ],
)
def test_what_contradicts_is_refused_with_its_remedy(change: Change, error: type[Any], what: str) -> None:
    limit = 3 if error is LimitExceeded else 64
    bench = leading(settings=RaftSettings(max_members=limit))
    commit_by(bench, "a", "c")
    with pytest.raises(error, match=what):
        bench.node.change_membership(change)
    assert bench.members == ("abc", "")


def test_a_replaced_voter_leaves_and_its_successor_is_to_be_promoted() -> None:
    bench = leading()
    commit_by(bench, "a", "c")
    made(bench, Replace("c", add("d")), "a")
    assert bench.members == ("ab", "d")
    assert bench.node.configuration.membership.learners == (
        Member("d", "d:raft", "d:grpc", promote=True, admitted=bench.node.configuration.place),
    )


def test_entries_go_to_learners_too() -> None:
    bench = leading()
    made(bench, add("x"), "a")
    bench.meet("x")
    bench.node.propose(b"command")
    sent = acknowledge(bench, "x", match=1)
    assert any(peer == "x" and isinstance(one, AppendEntries) and one.entries for peer, one in sent)
