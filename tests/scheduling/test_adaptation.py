"""Parameters that follow what is measured: within bounds, at rest where what they bring about is as wanted,
deaf to what is no measurement (E6). The size of rounds is in `test_decision_log`."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.scheduling.adaptation.batch import LEAST_MEASURED
from coordinator.scheduling.adaptation.interval import WINDOW_S, Interval
from coordinator.scheduling.adaptation.patience import FEW, MOST, RACES, Patience
from coordinator.scheduling.decision_log import Adapted
from coordinator.scheduling.tasks.races import Raced, Races

ODD = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 1e300])

# --- the pause between rounds -------------------------------------------------------------------------------

MOST_S = 0.005


def stream(
    interval: Interval, round_s: float, per_s: float, *, seconds: float = 10.0, begin_s: float = 0.0
) -> list[Adapted]:
    """Tasks that come evenly: each round takes all that have come since the one before, as soon as it may."""
    changes, now_s, taken, came_s = [], begin_s, 0, begin_s
    while now_s < begin_s + seconds:
        now_s = max(now_s + interval.left(now_s), came_s + taken / per_s)
        choices = max(int((now_s - came_s) * per_s) + 1 - taken, 1)
        taken += choices
        now_s += round_s
        changes.append(interval.observe(choices, round_s, now_s))
    return [one for one in changes if one is not None]


@pytest.mark.parametrize(
    ("round_s", "per_s", "pause_s"),
    [
        (0.0004, 2_000, 0.004),  # each by itself would take four fifths of the time
        (0.0001, 1_000, 0.0),  # a tenth of the time is no matter
        (0.0004, 20, 0.0),
        (0.00005, 10_000, 0.001),
        (0.002, 100_000, 0.0),  # rounds of hundreds
    ],
)
def test_rounds_that_place_little_are_put_together_where_they_are_many(
    round_s: float, per_s: float, pause_s: float
) -> None:
    interval = Interval(MOST_S)
    changes = stream(interval, round_s, per_s)
    assert interval.seconds == pytest.approx(pause_s)
    assert all((one.parameter, one.after <= 1e3 * MOST_S) == ("interval_ms", True) for one in changes)
    assert all(later.before == earlier.after for earlier, later in pairwise(changes))
    assert stream(interval, round_s, per_s, begin_s=10.0) == [], "it comes to rest"


def test_the_pause_is_over_once_little_happens_and_the_reason_is_told() -> None:
    interval = Interval(MOST_S)
    first, *_ = stream(interval, 0.0004, 2_000)
    assert (first.before, first.after) == (0, 1)
    assert first.because == "rounds of 1.0 choices took 80 % of the time; wanted: 5 to 15 %"
    assert interval.seconds > 0
    stream(interval, 0.0004, 10, begin_s=20.0, seconds=2.0)
    assert interval.seconds == 0.0


def test_a_task_that_comes_alone_is_never_held_back() -> None:
    interval = Interval(MOST_S)
    stream(interval, 0.0004, 2_000)
    assert interval.left(100.0) == 0.0, "whatever was before"
    alone = Interval(MOST_S)
    for at in range(100):
        alone.observe(1, 0.0004, at * 0.05)
        assert alone.left(at * 0.05) == 0.0


def test_a_round_of_many_is_followed_at_once() -> None:
    interval = Interval(MOST_S)
    stream(interval, 0.0004, 2_000)
    interval.observe(1, 0.0004, 10.01)
    assert interval.left(10.011) == pytest.approx(interval.seconds - 0.001)
    interval.observe(LEAST_MEASURED, 0.0004, 10.012)
    assert interval.left(10.012) == 0.0


def test_while_all_slots_are_taken_the_pause_may_be_longer() -> None:
    interval = Interval(MOST_S, 3 * MOST_S)
    for at in range(2_000):
        interval.observe(1, 0.004, at * 0.005, all_busy=True)
    now_s = 2_000 * 0.005
    interval.observe(1, 0.004, now_s, all_busy=True)
    assert interval.seconds == interval.left(now_s, all_busy=True) == 3 * MOST_S
    assert interval.left(now_s) == MOST_S, "a slot has become free"
    assert interval.left(now_s + MOST_S) == 0.0
    for at in range(100):
        interval.observe(1, 0.004, now_s + at * 0.005)
    assert interval.seconds == 3 * MOST_S, "it is held back, and not forgotten"
    assert Interval(MOST_S, 0.0).left(0.0, all_busy=True) == 0.0


def test_a_bound_of_nothing_is_no_pause() -> None:
    interval = Interval(0.0)
    assert stream(interval, 0.0004, 2_000) == []


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5_000), st.one_of(st.floats(0, 100), ODD), st.one_of(st.floats(0, 1e6), ODD)
        ),
        max_size=50,
    )
)
def test_whatever_is_measured_the_pause_stays_within_its_bounds(
    measured: list[tuple[int, float, float]],
) -> None:
    interval = Interval(MOST_S)
    for choices, duration_s, now_s in measured:
        before = interval.seconds
        changed = interval.observe(choices, duration_s, now_s)
        assert 0 <= interval.seconds <= MOST_S
        assert (changed is None) == (interval.seconds == before)
        if not 0 <= duration_s < math.inf:
            assert changed is None
        for at_s in (now_s, 0.0, now_s - 1, now_s + WINDOW_S, math.nan):
            assert 0 <= interval.left(at_s) <= interval.seconds


# --- when second attempts begin -----------------------------------------------------------------------------


def test_races_count_once_and_only_where_there_was_one() -> None:
    races = Races()
    races.ended(1, [1])
    races.ended(3, [])
    races.ended(9, [1, 2])
    assert races.take() == Raced(0, 0)
    for attempt in (1, 2, 3):
        races.ended(attempt, [2, 3, 1])
    assert races.take() == Raced(2, 3)
    assert races.take() == Raced(0, 0)


def races_of(patience: Patience, chance: float, rounds: int) -> list[Adapted]:
    """So many times the races that are judged together, of which that share is won by later attempts."""
    changes = [patience.observe(round(chance * RACES), RACES) for _ in range(rounds)]
    return [one for one in changes if one is not None]


@pytest.mark.parametrize(
    ("share", "factor"), [(0.0, 4.0), (0.125, 4.0), (0.25, 1.5), (0.5, 1.5), (0.625, 1.0), (1.0, 1.0)]
)
def test_attempts_that_seldom_win_begin_later_and_those_that_mostly_do_sooner(
    share: float, factor: float
) -> None:
    patience = Patience(1.5, 1.0, 4.0)
    changes = races_of(patience, share, 30)
    assert patience.factor == factor
    assert races_of(patience, share, 30) == [], "it comes to rest"
    assert all(later.before == earlier.after for earlier, later in pairwise(changes))
    if changes:
        won = round(share * RACES)
        assert changes[0].because == (
            f"of 16 tasks with several attempts {won} were ended by a later one than the first; "
            "wanted: 25 to 50 %"
        )


@given(st.floats(1.0, 4.0), st.floats(0.3, 3.0))
def test_it_settles_where_the_share_of_those_that_win_is_as_wanted(start: float, steepness: float) -> None:
    """The share grows with the patience, as it does where durations have a heavy tail."""
    patience = Patience(start, 1.0, 4.0)

    def share() -> float:
        return 1 - math.exp(-steepness * (patience.factor - 0.9) / 2)

    for _ in range(40):
        patience.observe(round(share() * 1_000 * RACES), 1_000 * RACES)
    assert FEW <= share() <= MOST or patience.factor in (1.0, 4.0)
    before = patience.factor
    patience.observe(round(share() * 1_000 * RACES), 1_000 * RACES)
    assert patience.factor == before


def test_few_races_change_nothing_and_are_not_forgotten() -> None:
    patience = Patience(1.5, 1.0, 4.0)
    assert [patience.observe(1, 1) for _ in range(RACES - 1)] == [None] * (RACES - 1)
    changed = patience.observe(1, 1)
    assert changed is not None
    assert (changed.parameter, changed.before, changed.after) == ("patience", 1.5, 1.2)


@given(
    st.floats(0.0, 10.0),
    st.lists(st.integers(0, 60).flatmap(lambda raced: st.tuples(st.integers(0, raced), st.just(raced)))),
)
def test_it_stays_within_its_bounds_and_what_the_policy_says(
    own: float, races: list[tuple[int, int]]
) -> None:
    patience = Patience(own, 1.0, 4.0)
    for won, raced in races:
        before = patience.factor
        changed = patience.observe(won, raced)
        assert min(own, 1.0) <= patience.factor <= max(own, 4.0)
        assert (changed is None) == (patience.factor == before)
        assert before / 1.25 - 1e-9 <= patience.factor <= before * 1.25 + 1e-9
    if own == 0:
        assert patience.factor == 0, "a policy that does not wait goes on so"
