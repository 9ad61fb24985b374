"""When committed entries reach the state: at once on a leader, in runs on a follower. Answers A1, A5."""

from __future__ import annotations

from coordinator.consensus.messages import AppendEntries
from coordinator.consensus.settings import RaftSettings
from tests.consensus.lab import Bench, acknowledge, append, command

PAUSE_S = 0.005


def lazy(settings: RaftSettings | None = None) -> Bench:
    """A follower that has two entries, the first of which is committed, and has applied none."""
    bench = Bench(settings=settings, apply_pause_s=PAUSE_S)
    bench.hear("a", append(1, (1, 0), command(1, b"x"), command(1, b"y"), commit=2))
    assert bench.replica.commands == []
    return bench


def test_a_follower_applies_what_was_committed_within_a_pause_in_one_run() -> None:
    bench = lazy()
    due = bench.node.next_deadline()
    assert due == bench.clock + PAUSE_S
    bench.wait(PAUSE_S / 2)
    bench.hear("a", heartbeat(commit=3))
    assert (bench.replica.commands, bench.node.next_deadline()) == ([], due)
    bench.wait(PAUSE_S / 2)
    assert bench.replica.runs == [2]
    assert bench.replica.commands == [b"x", b"y"]


def test_the_pause_begins_with_the_first_entry_that_waits() -> None:
    bench = lazy()
    bench.wait(PAUSE_S)
    assert bench.replica.commands == [b"x"]
    bench.wait(PAUSE_S)
    bench.hear("a", heartbeat(commit=3))
    assert bench.replica.commands == [b"x"]
    bench.wait(PAUSE_S)
    assert bench.replica.commands == [b"x", b"y"]


def test_a_full_run_is_not_put_off() -> None:
    bench = Bench(settings=RaftSettings(apply_entries=2), apply_pause_s=PAUSE_S)
    bench.hear("a", append(1, (1, 0), *[command(1, b"x")] * 5, commit=6))
    assert bench.replica.runs == [2, 2]
    bench.wait(PAUSE_S)
    assert bench.replica.runs == [2, 2, 1]


def test_a_leader_puts_nothing_off() -> None:
    bench = Bench(apply_pause_s=PAUSE_S)
    bench.elect()
    bench.node.propose(b"x")
    began = bench.clock
    acknowledge(bench, "a")
    assert (bench.replica.commands, bench.clock) == ([b"x"], began)


def heartbeat(commit: int) -> AppendEntries:
    """What a leader says that has nothing to send."""
    return append(1, (3, 1), commit=commit, seq=2)
