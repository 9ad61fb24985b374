"""States that differ are found, and who is alone with his stops (A4, A5): whom the leader judges, what the
judged does, and that the judgement names the entries."""

from __future__ import annotations

import pytest
from pysyncobj.node import Node

from coordinator.consensus.divergence import Comparison, Finding, Judgement
from coordinator.consensus.messages import AppendReply, Divergence
from coordinator.consensus.port import SnapshotMeta
from coordinator.core.digest import RecentDigests
from coordinator.errors import StateDiverged
from tests.consensus.lab import Bench, append, command, empty

PATIENCE_S = 0.5
RIGHT, WRONG = b"right", b"wrong"


def compared(*reports: tuple[str, int, bytes], now: float = 10.0) -> Comparison:
    """After these reports of a follower, an index and a digest; the leader's own is always RIGHT."""
    comparison = Comparison(PATIENCE_S)
    for follower, index, digest in reports:
        comparison.report(follower, index, digest, RIGHT, now)
    return comparison


@pytest.mark.parametrize(
    ("voters", "reports", "judgement"),
    [
        ("ab", [("a", 5, WRONG), ("b", 5, RIGHT)], Judgement(["a"], leader_too=False)),
        ("ab", [("a", 5, WRONG), ("b", 7, WRONG)], Judgement([], leader_too=True)),
        ("a", [("a", 5, WRONG)], Judgement(["a"], leader_too=True)),
        ("abcd", [("a", 5, WRONG), ("b", 5, WRONG), ("c", 9, RIGHT), ("d", 9, RIGHT)],
         Judgement(["a", "b"], leader_too=False)),
        ("abcd", [("a", 5, WRONG), ("b", 5, WRONG), ("c", 9, WRONG), ("d", 9, RIGHT)],
         Judgement([], leader_too=True)),
        ("ab", [("a", 9, RIGHT), ("b", 9, RIGHT), ("learner", 5, WRONG)],
         Judgement(["learner"], leader_too=False)),
    ],
    ids=["minority", "the leader alone", "one against one", "two of five", "three of five", "a learner"],
)  # fmt: skip
def test_whoever_is_not_with_most_stops(
    voters: str, reports: list[tuple[str, int, bytes]], judgement: Judgement
) -> None:
    assert compared(*reports).judge(voters, 10.0) == judgement


def test_those_that_may_still_decide_it_are_waited_for() -> None:
    comparison = compared(("b", 4, RIGHT), ("a", 5, WRONG))
    assert comparison.judge("ab", 10.0) is None, "b has not come so far"
    comparison.report("b", 6, RIGHT, RIGHT, 10.1)
    assert comparison.judge("ab", 10.1) == Judgement(["a"], leader_too=False)

    silent = compared(("a", 5, WRONG))
    assert silent.judge("ab", 10.0 + PATIENCE_S * 0.9) is None
    assert silent.judge("ab", 10.0 + PATIENCE_S) == Judgement(["a"], leader_too=True)


def test_the_entries_are_named() -> None:
    comparison = compared(("a", 3, RIGHT), ("a", 4, RIGHT), ("a", 8, WRONG), ("a", 9, WRONG))
    assert comparison.finding("a") == Finding(equal=4, different=8)
    assert comparison.error("me").fields == {
        "node": "me", "others": "a", "last_equal": "4", "first_different": "8",
    }  # fmt: skip
    comparison.report("a", 20, RIGHT, RIGHT, 11.0)
    assert not comparison.found, "its state was replaced"


def test_what_is_not_known_is_not_compared() -> None:
    comparison = Comparison(PATIENCE_S)
    comparison.report("a", 5, WRONG, None, 10.0)
    assert not comparison.found


def test_only_the_last_digests_are_kept() -> None:
    recent = RecentDigests(3, 10, b"10")
    assert [recent.at(index) for index in (9, 10, 11)] == [None, b"10", None]
    for index in range(11, 15):
        recent.add(b"%d" % index)
    assert [recent.at(index) for index in range(10, 16)] == [None, None, b"12", b"13", b"14", None]
    recent.restart(100, b"100")
    assert [recent.at(index) for index in (14, 99, 100, 101)] == [None, None, b"100", None]


def leading(*peers: str) -> Bench:
    bench = Bench(*peers)
    bench.elect()
    report(bench, bench.peers[0], digest=b"")
    assert bench.replica.applied.index == bench.node.journal.last.index
    return bench


def report(bench: Bench, peer: str, digest: bytes | None = None) -> list[tuple[str, object]]:
    """A follower has all that the leader has, and applied it."""
    applied = bench.replica.applied
    if digest is None:
        digest = applied.digest
    reply = AppendReply(
        bench.node.term, 10**6, bench.node.journal.last.index, SnapshotMeta(applied.index, 1, digest)
    )
    return bench.hear(peer, reply)


def test_a_leader_tells_a_follower_that_is_alone_with_its_state() -> None:
    bench = leading()
    sent = report(bench, "c", WRONG)
    assert not [content for _, content in sent if isinstance(content, Divergence)], "a may be wrong as well"
    sent = report(bench, "a") + bench.wait(bench.settings.heartbeat_s)
    index, digest = bench.replica.applied.index, bench.replica.applied.digest
    assert ("c", Divergence(bench.node.term, 0, index, digest)) in sent
    assert bench.node.leadership is not None
    status = bench.node.leadership.peer_status("c", bench.clock)
    assert (status.differs_at, bench.node.leadership.peer_status("a", bench.clock).differs_at) == (index, 0)
    report(bench, "a")
    assert not bench.node.stopped


def test_a_leader_that_is_alone_with_its_state_stops_and_leaves_the_lead_to_another() -> None:
    bench = leading()
    term = bench.node.term
    report(bench, "a", WRONG)
    sent = report(bench, "c", WRONG)
    (error,) = bench.replica.fatal
    assert isinstance(error, StateDiverged)
    assert error.fields["first_different"] == str(bench.replica.applied.index)
    assert [type(content).__name__ for _, content in sent][-1] == "TimeoutNow"
    assert bench.hear("a", append(term + 1, (1, 0))) == [], "it takes no further part"


def test_one_against_one_both_stop() -> None:
    bench = leading()
    bench.transport._onNodeDisconnected(Node("c"))
    report(bench, "a", WRONG)
    sent = bench.wait(bench.settings.election_max_s * 0.9) + report(bench, "a", WRONG)
    assert not bench.node.stopped
    bench.clock += bench.settings.election_max_s * 0.2
    sent = report(bench, "a", WRONG)
    assert [type(content).__name__ for to, content in sent if to == "a"].count("Divergence") == 1
    assert [type(error) for error in bench.replica.fatal] == [StateDiverged]


def following() -> Bench:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), empty(1), command(1, b"x"), commit=3))
    return bench


def test_a_follower_whose_state_is_wrong_stops() -> None:
    bench = following()
    bench.hear("a", Divergence(1, 2, 3, RIGHT))
    (error,) = bench.replica.fatal
    assert isinstance(error, StateDiverged)
    assert (error.fields["last_equal"], error.fields["first_different"]) == ("2", "3")
    assert "entry 3" in str(error)


def test_a_judgement_holds_for_the_state_that_was_judged_alone() -> None:
    bench = following()
    bench.hear("a", Divergence(1, 2, 3, bench.replica.applied.digest))
    bench.hear("a", Divergence(1, 0, 99, RIGHT))
    bench.hear("c", Divergence(1, 2, 3, RIGHT))
    bench.hear("a", Divergence(0, 2, 3, RIGHT))
    assert bench.replica.fatal == []
