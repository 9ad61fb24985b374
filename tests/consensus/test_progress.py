"""The leader's view of one follower, step by step and against a follower that loses, delays and conflicts
(A2)."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.consensus.progress import Progress, Stage


def probing(next_index: int = 10) -> Progress:
    return Progress(next_index, window_messages=3, window_bytes=100)


def replicating() -> Progress:
    """Matches up to 9, `next` is 10, the stream begins with round 2."""
    progress = probing()
    progress.sent(1, 0, 0)
    progress.acknowledged(1, 9)
    return progress


def test_a_probe_is_one_message_at_a_time() -> None:
    progress = probing()
    assert progress.may_send()
    progress.sent(1, 5, 50)
    assert not progress.may_send()
    assert progress.next == 10, "nothing is taken for sent before the place is known to match"
    progress.acknowledged(1, 14)
    assert (progress.stage, progress.match, progress.next) == (Stage.REPLICATE, 14, 15)


def test_the_window_bounds_messages_and_bytes() -> None:
    progress = replicating()
    for round_ in (2, 3, 4):
        assert progress.may_send()
        progress.sent(round_, 1, 10)
    assert not progress.may_send()
    progress.acknowledged(4, 10)
    assert progress.may_send()
    progress.sent(5, 1, 500)
    progress.acknowledged(5, 12)
    assert not progress.may_send(), "500 bytes of 100 are under way"
    progress.acknowledged(5, 13)
    assert (progress.may_send(), progress.in_flight) == (True, 0)


def test_heartbeats_take_no_room_in_the_window() -> None:
    progress = replicating()
    for round_ in range(2, 20):
        progress.sent(round_, 0, 0)
    assert (progress.in_flight, progress.may_send()) == (0, True)


def test_a_refusal_ends_the_stream_and_those_behind_it_say_nothing() -> None:
    progress = replicating()
    for round_ in (2, 3, 4):
        progress.sent(round_, 1, 10)
    assert progress.refused(3, 11, 11)
    assert (progress.stage, progress.next) == (Stage.PROBE, 11)
    assert not progress.refused(4, 12, 13)
    progress.sent(5, 0, 0)
    assert not progress.refused(4, 12, 13), "it answers a message that was sent before the probe"
    assert progress.next == 11


def test_a_probe_goes_back_at_least_one_step_and_never_behind_what_matches() -> None:
    progress = probing(10)
    progress.sent(1, 0, 0)
    assert progress.refused(1, 9, 50)
    assert progress.next == 9
    progress.sent(2, 0, 0)
    assert progress.refused(2, 8, 1)
    assert progress.next == 1


def test_a_lost_connection_begins_a_probe_after_what_matches() -> None:
    progress = replicating()
    progress.sent(2, 1, 10)
    progress.interrupted()
    assert (progress.stage, progress.next, progress.in_flight) == (Stage.PROBE, 10, 0)
    assert progress.may_send()


def test_a_follower_that_lost_its_disk_counts_for_nothing() -> None:
    progress = replicating()
    progress.sent(2, 0, 0)
    assert progress.refused(2, 9, 2)
    assert (progress.match, progress.next) == (0, 2)


def test_a_snapshot_is_followed_by_a_probe_behind_it() -> None:
    progress = probing(2)
    progress.begin_snapshot(40)
    assert not progress.may_send()
    assert not progress.refused(1, 9, 2)
    progress.end_snapshot(installed=True)
    assert (progress.stage, progress.match, progress.next) == (Stage.PROBE, 40, 41)
    progress.begin_snapshot(60)
    progress.end_snapshot(installed=False)
    assert (progress.stage, progress.match, progress.next) == (Stage.PROBE, 40, 41)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 12))
def test_every_follower_is_brought_to_the_end(seed: int, leader_log: int, shared: int, extra: int) -> None:
    """Messages and answers are delayed, and lost with the connection. The follower shares `shared` entries
    and has `extra` of its own; whatever happens, `match` is true at every moment, and once faults end the
    follower has it all."""
    chance = random.Random(seed)
    last = 1 + leader_log
    shared = min(1 + shared, last)
    log = [True] * shared + [False] * extra
    progress = Progress(last + 1, window_messages=3, window_bytes=100)
    outgoing: list[tuple[int, int, int]] = []
    answers: list[tuple[int, int, int]] = []
    for round_ in range(1, 400):
        faulty = round_ < 200
        if faulty and chance.random() < 0.05:
            outgoing.clear()
            answers.clear()
            progress.interrupted()
        count = min(chance.randint(1, 4), last - progress.next + 1)
        if progress.may_send() and count > 0:
            outgoing.append((round_, progress.next - 1, count))
            progress.sent(round_, count, 10 * count)
        elif round_ % 5 == 0:
            outgoing.append((round_, progress.next - 1, 0))
            progress.sent(round_, 0, 0)
        if outgoing and (not faulty or chance.random() < 0.5):
            answers.append(follow(log, *outgoing.pop(0)))
        if answers and (not faulty or chance.random() < 0.5):
            seq, match, refused_prev = answers.pop(0)
            if refused_prev < 0:
                progress.acknowledged(seq, match)
            else:
                progress.refused(seq, refused_prev, match)
        assert log[: progress.match] == [True] * progress.match
        assert progress.match < progress.next <= last + 1
    assert progress.match == last
    assert log[:last] == [True] * last


def follow(log: list[bool], seq: int, prev: int, count: int) -> tuple[int, int, int]:
    """A follower's log of entries that are the leader's or not: (seq, match, -1), or (seq, hint, the
    refused place)."""
    if prev > len(log):
        return seq, len(log) + 1, prev
    if not all(log[:prev]):
        return seq, log.index(False) + 1, prev
    if not all(log[prev : prev + count]):
        del log[prev:]
    log.extend([True] * (prev + count - len(log)))
    return seq, prev + count, -1
