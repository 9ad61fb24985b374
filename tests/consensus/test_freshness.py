"""A follower knows how old its state may be (A3): from when it heard its leader and had applied all that was
committed then, and never from a leader that cannot know yet what is committed."""

from __future__ import annotations

import math

from pysyncobj.node import Node

from tests.consensus.lab import Bench, append, command, empty


def age(bench: Bench) -> float:
    return round(bench.clock - bench.node.freshness.current_s, 6)


def test_a_follower_is_as_old_as_the_last_word_of_its_leader() -> None:
    bench = Bench()
    assert age(bench) == math.inf
    bench.hear("a", append(1, (1, 0), empty(1), command(1, b"x"), commit=3))
    assert age(bench) == 0
    bench.wait(0.2)
    assert age(bench) == 0.2
    bench.hear("a", append(1, (3, 1), commit=3, seq=2))
    assert age(bench) == 0


def test_what_is_committed_and_not_applied_is_missing() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), empty(1), commit=2))
    bench.clock += 1
    bench.hear("a", append(1, (2, 1), commit=9, seq=2))
    assert age(bench) == 1, "entries up to 9 are committed, and not here"
    bench.clock += 1
    bench.hear("a", append(1, (2, 1), *[command(1, b"x")] * 7, commit=9, seq=3))
    assert age(bench) == 0


def test_under_load_the_age_is_that_of_the_commit_index_which_was_caught_up_with() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), empty(1), commit=2))
    bench.transport._onMessageReceived(Node("a"), append(1, (2, 1), command(1, b"x"), commit=3, seq=2))
    heard = bench.clock
    bench.clock += 0.5
    bench.settle()
    assert bench.node.freshness.current_s == heard


def test_a_new_leader_does_not_know_yet_what_is_committed() -> None:
    bench = Bench()
    bench.hear("a", append(1, (1, 0), empty(1), command(1, b"acknowledged"), commit=2))
    bench.clock += 1
    bench.hear("c", append(2, (3, 1), commit=2))
    assert age(bench) == 1, "entry 3 may have been acknowledged by the old one"
    bench.hear("c", append(2, (3, 1), empty(2), commit=4, seq=2))
    assert age(bench) == 0


def test_what_a_former_leader_named_is_not_waited_for_any_more() -> None:
    """It may have been deposed already, and more committed without it."""
    bench = Bench()
    bench.hear("a", append(1, (1, 0), empty(1), commit=2))
    bench.clock += 1
    bench.hear("a", append(1, (2, 1), commit=3, seq=2))
    bench.clock += 1
    bench.hear("c", append(2, (2, 1), empty(2), commit=9))
    assert bench.node.applied_index == 3
    assert age(bench) == 2, "not 1: entries up to 9 may have been committed by then"
