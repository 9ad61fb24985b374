"""When committed entries reach the state: at once on a leader, in runs on a follower. Answers A1, A5."""

from __future__ import annotations

from pysyncobj.node import Node

from coordinator.consensus.journal import FAMILIES
from coordinator.consensus.messages import AppendEntries, AppendReply
from coordinator.consensus.port import SnapshotMeta
from coordinator.consensus.settings import RaftSettings
from tests.consensus.lab import NOTHING, Bench, acknowledge, append, command, leading
from tests.consensus.memory import ListReplica, MemoryEngine

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


def proposed() -> Bench:
    """A leader that has synced an entry, which nobody has acknowledged."""
    bench = leading()
    bench.node.propose(b"x")
    bench.settle()
    return bench


def test_what_an_acknowledgement_commits_is_applied_without_a_tick() -> None:
    bench = proposed()
    bench.transport._onMessageReceived(Node("a"), AppendReply(1, 10**6, 3, NOTHING))
    assert bench.replica.commands == [b"x"]


def test_a_leader_whose_state_is_in_doubt_applies_nothing_before_its_tick() -> None:
    bench = proposed()
    other = SnapshotMeta(bench.replica.applied.index, 1, b"another")
    bench.transport._onMessageReceived(Node("a"), AppendReply(1, 10**6, 3, other))
    assert bench.replica.commands == []


def test_what_others_have_committed_is_written_before_it_is_applied() -> None:
    bench = leading()
    bench.node.propose(b"x")
    bench.node.doTick()
    bench.node.propose(b"y")
    bench.node.doTick()
    assert len(bench.syncer) == 1, "x is being synced, and y has to wait"
    for peer in ("a", "c"):
        bench.transport._onMessageReceived(Node(peer), AppendReply(1, 10**6, 4, NOTHING))
    assert bench.replica.commands == [b"x", b"y"]
    bench.crash(kept=bench.engine.unsynced)
    assert bench.node.journal.last_index == 4


def test_a_state_that_is_ahead_of_the_log_is_durable_before_the_log_goes_by_it() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), command(1, b"x"), command(1, b"y"), commit=3))
    state = bench.replica
    bench.engine = MemoryEngine(FAMILIES)
    bench.start(ListReplica())
    bench.node.set_vote(1, None)
    order: list[int] = []
    bench.engine.on_sync = lambda: order.append(state.flushes)
    bench.start(state)
    assert (order, bench.node.journal.base.index) == ([0, 1], 3), "opened, then the state, then the new base"


def heartbeat(commit: int) -> AppendEntries:
    """What a leader says that has nothing to send."""
    return append(1, (3, 1), commit=commit, seq=2)
