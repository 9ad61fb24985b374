"""Who belongs to the cluster: learners do not count, a member is the one data folder that it is bound to, and
whoever has been removed stops (A3; defect 14)."""

from __future__ import annotations

import msgspec
import pytest

from coordinator.consensus.admission import Credentials, Refusal
from coordinator.consensus.changes import Promote, Remove, Replace
from coordinator.consensus.membership import Member, Membership
from coordinator.consensus.messages import (
    AppendReply,
    VoteReply,
    VoteRequest,
)
from coordinator.consensus.port import Role
from coordinator.consensus.settings import RaftSettings
from coordinator.errors import Removed, WrongState
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
    stock_hear,
    stock_leading,
    stock_node,
    voters,
    with_learner,
)


def test_14_a_new_member_does_not_count_before_it_is_promoted() -> None:
    stock = stock_leading()
    stock.addNodeToCluster("x")
    stock.doTick(0)
    assert len(stock.otherNodes) + 1 == 4, "the library counts it in quorums from the first moment"

    bench = leading()
    made(bench, add("x"), "a")
    bench.meet("x")
    bench.node.propose(b"command")
    bench.settle()
    acknowledge(bench, "x")
    assert bench.node.commit_index < bench.node.journal.last.index
    acknowledge(bench, "a")
    assert bench.node.commit_index == bench.node.journal.last.index


def test_14_a_learner_votes_when_asked_and_never_stands() -> None:
    bench = Bench()
    members = Membership(voters("a", "c").voters, voters("b").voters)
    bench.hear("a", append(1, (1, 0), config(1, members), commit=2))
    sent = [one for _ in range(5) for _, one in bench.wait(1.0)]
    assert not any(isinstance(one, VoteRequest) for one in sent)
    (reply,) = [one for _, one in bench.hear("c", VoteRequest(2, 9, 1, pre=False, transfer=False))]
    assert isinstance(reply, VoteReply)
    assert reply.granted


def test_14_a_node_that_waits_to_be_added_does_not_vote() -> None:
    """A candidate whose log ends before the configuration that binds a member to its folder would take the
    vote of the folder that came after it, and elect a leader without what the lost one had acknowledged."""
    bench = Bench(joins=True)
    assert not votes(bench)
    bench.hear("a", append(1, (1, 0), config(1, voters("a", "b", "c"))))
    bench.clock += 1
    assert not votes(bench), "an old configuration, of before members were bound to folders"
    bench.hear("a", append(1, (2, 1), config(1, bound("b0"))))
    bench.clock += 1
    assert not votes(bench), "the folder that was wiped"
    bench.hear("a", append(1, (3, 1), config(1, bound("b1"))))
    bench.clock += 1
    assert votes(bench)


def votes(bench: Bench) -> bool:
    """Whether the node votes for a candidate that has all that it has, asked in each way."""
    last = bench.node.journal.last
    granted = []
    for pre, transfer in ((True, False), (False, False), (False, True)):
        request = VoteRequest(bench.node.term + 1, last.index, last.term, pre, transfer)
        (reply,) = [one for _, one in bench.hear("c", request) if isinstance(one, VoteReply)]
        granted.append(reply.granted)
    assert len(set(granted)) == 1
    return granted[0]


def bound(incarnation: str) -> Membership:
    """Three voters, of which this node is bound to that folder."""
    return Membership((*voters("a", "c").voters, Member("b", "b:raft", "b:grpc", incarnation)))


def test_14_a_learner_is_not_promoted_before_it_has_the_configuration_that_names_it() -> None:
    """Its vote would be missed: without it, it does not know that it was added."""
    bench = leading()
    made(bench, add("x", promote=True), "a")
    bench.meet("x")
    commit_by(bench, "a")
    named_at = bench.node.configuration.index
    acknowledge(bench, "x", match=named_at - 1)
    assert bench.members == ("abc", "x")
    with pytest.raises(WrongState, match=f"must have entry {named_at}, which names it"):
        bench.node.change_membership(Promote("x"))
    acknowledge(bench, "x", match=named_at)
    assert bench.members == ("abcx", "")


def test_14_a_wiped_node_is_refused_under_its_old_id() -> None:
    """The stock library knows no identities: whoever calls from an address votes as before."""
    granted = []
    for candidate in "ab":
        wiped_each_time = stock_node("c", "a", "b")
        stock_hear(wiped_each_time, candidate, type="request_vote", term=1, last_log_index=1, last_log_term=0)
        granted += [(to, sent["term"]) for to, sent in wiped_each_time.t.take()]
    assert granted == [("a", 1), ("b", 1)], "two votes of one node in one term"

    bench = leading()
    bench.meet("a", "c")
    commit_by(bench, "a")
    incarnations = {one.id: one.incarnation for one in bench.node.configuration.membership}
    assert incarnations == {"a": "a1", "b": "b1", "c": "c1"}
    wiped = Credentials("c", "c2", (0, 1))
    refusal = bench.node.gate.judge(wiped)
    assert refusal is not None
    assert refusal.final
    assert "coordctl member replace c c" in refusal.reason
    assert bench.node.gate.judge(Credentials("c", "c1", (0, 1))) is None


def test_14_a_wiped_node_is_refused_by_one_that_does_not_know_yet_what_is_committed() -> None:
    """As after a restart: the configuration by which the node goes may be older than it can tell, and the one
    before it knows of no folders."""
    bench = Bench()
    folders = tuple(Member(one, f"{one}:raft", f"{one}:grpc", f"{one}1") for one in "abc")
    bench.hear("a", append(1, (1, 0), config(1, Membership(folders))))
    assert not bench.node.configuration_committed
    refusal = bench.node.gate.judge(Credentials("c", "c2", (0, 1)))
    assert refusal is not None
    assert not refusal.final
    assert bench.node.gate.judge(Credentials("c", "c1", (0, 1))) is None


def test_a_folder_without_a_place_in_the_cluster_refuses_nobody_for_good() -> None:
    """It was wiped, added anew, and removed before its log came so far: what it knows of others is as old."""
    bench = Bench(joins=True)
    folders = {one: Member(one, f"{one}:raft", f"{one}:grpc", f"{one}1") for one in "abc"}
    former = msgspec.structs.replace(folders["b"], incarnation="b0")
    old = Membership((folders["a"], former, folders["c"]))
    bench.hear("a", append(1, (1, 0), config(1, old), commit=2))
    assert bench.node.configuration_committed
    refusal = bench.node.gate.judge(Credentials("c", "c2", (0, 1)))
    assert refusal is not None
    assert not refusal.final


def test_14_a_wiped_node_comes_back_as_a_learner_with_nothing_acknowledged() -> None:
    bench = leading()
    bench.meet("a", "c")
    commit_by(bench, "a", "c")
    old_seq = 1
    bench.clock += 0.59
    acknowledge(bench, "a")
    bench.clock += 0.3
    acknowledge(bench, "a")
    assert made(bench, Replace("c", add("c")), "a")
    assert bench.members == ("ab", "c")
    bench.hear("c", AppendReply(bench.node.term, old_seq, bench.node.journal.last.index, NOTHING))
    assert bench.node.leadership is not None
    assert bench.node.leadership.lag("c") == bench.node.journal.last.index, "an old folder's answer"


def test_14_a_replaced_folder_is_not_met_again_by_a_link_that_outlives_it() -> None:
    """A machine that lost its power leaves links that look alive; its successor would be refused for ever."""
    bench = leading()
    bench.meet("a", "c")
    commit_by(bench, "a", "c")
    gate, wiped = bench.node.gate, Credentials("c", "c1", (0, 1))
    assert gate.keeps(wiped)
    bench.clock += 0.59
    acknowledge(bench, "a")
    bench.clock += 0.3
    acknowledge(bench, "a")
    made(bench, Replace("c", add("c")), "a")
    assert not gate.keeps(wiped)
    assert gate.judge(Credentials("c", "c2", (0, 0))) is None
    bench.settle()
    commit_by(bench, "a")
    (learner,) = bench.node.configuration.membership.learners
    assert learner.incarnation == "c2"


def test_14_whom_a_node_met_before_it_knew_the_cluster_may_have_been_replaced_since() -> None:
    bench = Bench(joins=True)
    bench.meet("a", "c")
    gate = bench.node.gate
    bound = Member("a", "a:raft", "a:grpc", "a1")
    members = Membership((bound,), voters("b", "c").voters)
    bench.hear("a", append(1, (1, 0), config(1, members), commit=2))
    assert set(gate.met) == {"a", "b"}
    assert not gate.keeps(Credentials("c", "c1", (9, 9)))
    assert gate.judge(Credentials("c", "c2", (0, 0))) is None
    assert gate.keeps(Credentials("c", "c2", (0, 0)))


@pytest.mark.parametrize("between", [True, False], ids=["replaced since", "the same"])
def test_14_whom_a_node_met_it_forgets_when_he_was_replaced_unseen(between: bool) -> None:
    """Bound to the folder that was met, replaced, and not bound again: to a node that learns all of it at
    once the member looks as before."""
    bench = Bench()

    def members(incarnation: str, admitted: tuple[int, int]) -> Membership:
        return Membership(
            voters("a", "b", "c").voters,
            (Member("x", "x:raft", "x:grpc", incarnation, promote=True, admitted=admitted),),
        )

    bench.hear("a", append(1, (1, 0), config(1, members("", (1, 2))), commit=2))
    bench.meet("x")
    changes = [config(1, members("x1", (1, 2))), config(1, members("", (1, 4 if between else 2)))]
    bench.hear("a", append(1, (2, 1), *changes, commit=4, seq=2))
    assert ("x" in bench.node.gate.met) is not between
    assert bench.node.gate.keeps(Credentials("x", "x1", (9, 9))) is not between


def test_14_a_wiped_node_that_reads_how_it_was_alone_does_not_elect_itself() -> None:
    bench = Bench(joins=True)
    alone = Membership((Member("b", "b:raft", "b:grpc", "the folder that was lost"),))
    bench.hear("a", append(2, (1, 0), config(1, alone), command(1, b"x"), commit=3))
    for _ in range(5):
        bench.wait(1.0)
    assert (bench.node.role, bench.node.term) == (Role.FOLLOWER, 2)


def test_14_a_learner_that_was_wiped_can_be_replaced_by_itself_too() -> None:
    bench = with_learner("x")
    anew = made(bench, Replace("x", add("x")), "a")
    assert anew == bench.node.configuration.index
    assert bench.node.configuration.membership.learners == (
        Member("x", "x:raft", "x:grpc", promote=True, admitted=(bench.node.term, anew)),
    )
    assert made(bench, Replace("x", add("x")), "a") == bench.node.configuration.index, "a repetition"


def test_a_node_that_meets_a_refusal_which_is_final_stops() -> None:
    bench = Bench()
    bench.node.gate.refused("a", Refusal("b is bound to another data folder", final=False))
    assert not bench.node.stopped
    bench.node.gate.refused("a", Refusal("b is bound to another data folder", final=True))
    (error,) = bench.replica.fatal
    assert isinstance(error, Removed)
    assert "a says: b is bound" in error.message


def test_a_leader_that_was_removed_knows_so_though_its_log_was_compacted_and_it_was_restarted() -> None:
    """It would ask to be let in for ever, like one that waits to be added."""
    bench = leading(settings=RaftSettings(compact_after_entries=5, keep_entries=1))
    bench.meet("a", "c")
    commit_by(bench, "a", "c")
    removed_at, _ = bench.node.change_membership(Remove("b"))
    for value in range(10):
        bench.node.propose(b"%d" % value)
    bench.settle()
    commit_by(bench, "a", "c")
    assert bench.node.applied_index > removed_at + 5
    bench.install()
    assert bench.node.counters["compactions"] == 1
    bench.replica.fatal.clear()
    bench.start(bench.replica)
    bench.node.gate.refused("a", Refusal("b is not a member of the cluster", final=True))
    (error,) = bench.replica.fatal
    assert isinstance(error, Removed)


@pytest.mark.parametrize(("node_id", "reached"), [("a", "bxy"), ("x", "aby"), ("removed", "abxy")])
def test_whom_a_node_keeps_links_to(node_id: str, reached: str) -> None:
    membership = Membership(voters("a", "b").voters, voters("x", "y").voters)
    assert "".join(member.id for member in membership.reached_by(node_id)) == reached


def test_a_node_that_waits_to_be_added_bears_refusals_and_does_not_stand() -> None:
    bench = Bench(joins=True)
    bench.node.gate.refused("a", Refusal("b is not a member", final=True))
    sent = [one for _ in range(5) for one in bench.wait(1.0)]
    assert sent == []
    assert not bench.node.stopped
    assert bench.node.gate.judge(Credentials("a", "a1", (1, 5))) is None, "who knows more is welcome"
    bench.hear("a", append(2, (1, 0), config(2, Membership(voters("a", "c").voters, voters("b").voters))))
    assert bench.members == ("ac", "b")
