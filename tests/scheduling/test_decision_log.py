"""What is remembered of decisions is bounded, in order, and takes what time allows (E6, E10)."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.scheduling.adaptation.batch import LEAST_MEASURED, Batch
from coordinator.scheduling.decision_log import AGENTS_COMPARED, Adapted, Assignments, DecisionLog, Sampling
from coordinator.scheduling.plans.assignments import Assignment, Candidate


def change(number: int) -> Adapted:
    return Adapted("batch", number, number + 1, "why")


@given(st.integers(1, 20), st.integers(0, 60), st.integers(0, 70), st.integers(1, 30))
def test_the_last_entries_are_kept_and_read_from_any_number_on(
    kept: int, made: int, after: int, most: int
) -> None:
    log = DecisionLog(kept)
    for number in range(1, made + 1):
        log.add(1_000 + number, change(number))
    assert log.last == made
    there = [number for number in range(1, made + 1) if number > made - kept]
    found = log.after(after, most)
    assert [one.number for one in found] == [number for number in there if number > after][:most]
    assert all(one.what == change(one.number) and one.at_ms == 1_000 + one.number for one in found)


def assignment(key: int, attempt: int = 1) -> Assignment:
    return Assignment(key, attempt, 0.0, "p", "s", "how", 1, 1.0, 1.0, 1.0, [Candidate("a", 1.0, [], "")])


def test_the_last_assignments_are_kept() -> None:
    kept = Assignments(2)
    kept.add([assignment(1), assignment(2)])
    kept.add([assignment(2, 2)])
    assert kept.get(1, 1) is None
    assert kept.get(2, 1) == assignment(2)
    assert kept.get(2, 2) == assignment(2, 2)


@given(st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=30), st.integers(0, 50))
def test_no_clock_makes_it_take_down_more_than_a_second_s_worth_at_once(
    times: list[float], per_s: int
) -> None:
    sampling = Sampling(per_s)
    for now_s in times:
        left = sampling.left(now_s)
        assert 0 <= left <= per_s
        sampling.use([assignment(key) for key in range(left)])
        assert sampling.left(now_s) == 0


def test_what_was_used_comes_back_at_its_rate() -> None:
    sampling = Sampling(10)
    sampling.use([assignment(key) for key in range(sampling.left(100.0))])
    assert [sampling.left(at) for at in (100.0, 100.15, 100.25, 90.0, 90.1, 1e6)] == [0, 1, 2, 2, 3, 10]


def test_what_compares_many_agents_is_taken_down_less_often() -> None:
    sampling = Sampling(20)
    assert sampling.left(100.0) == 20
    sampling.use([msgspec.structs.replace(assignment(1), considered=10 * AGENTS_COMPARED)])
    assert sampling.left(100.0) == 10
    sampling.use([msgspec.structs.replace(assignment(2), considered=10 * AGENTS_COMPARED)])
    assert [sampling.left(at) for at in (100.0, 100.2)] == [0, 4]


# --- the size of rounds ------------------------------------------------------------------------------------

TARGET_S = 0.010


def settle(batch: Batch, fixed_s: float, each_s: float, rounds: int = 200) -> list[Adapted]:
    """Rounds that are full last as given."""
    changes = [batch.observe(batch.size, fixed_s + each_s * batch.size) for _ in range(rounds)]
    return [one for one in changes if one is not None]


@pytest.mark.parametrize(
    ("fixed_s", "each_s", "size"),
    [
        (0.0, 2e-6, 2_000),  # as many as there may be
        (0.0, 20e-6, 500),
        (0.002, 20e-6, 400),
        (0.0, 1.0, 100),  # as few as there may be
        (0.100, 100e-6, 1_000),  # what is fixed gets half
    ],
)
def test_rounds_become_as_large_as_their_time_allows(fixed_s: float, each_s: float, size: int) -> None:
    batch = Batch(TARGET_S, 100, 2_000)
    changes = settle(batch, fixed_s, each_s)
    assert size / 1.3 <= batch.size <= size * 1.3
    assert [one.parameter for one in changes] == ["batch"] * len(changes)
    assert all(change.before == was.after for was, change in pairwise(changes))
    assert settle(batch, fixed_s, each_s) == [], "it comes to rest"


def test_it_follows_what_becomes_slower_and_quick_again() -> None:
    batch = Batch(TARGET_S, 100, 2_000)
    settle(batch, 0.0, 50e-6)
    assert batch.size <= 260
    settle(batch, 0.0, 2e-6)
    assert batch.size == 2_000


def test_a_slow_round_among_others_passes_and_the_reason_is_told() -> None:
    batch = Batch(TARGET_S, 100, 2_000)
    settle(batch, 0.0, 4e-6)
    changed = batch.observe(2_000, 0.5)
    assert changed is not None
    assert (changed.before, changed.after) == (2_000, 1_000)
    assert changed.because.startswith("rounds of 2000 choices took 10")
    assert changed.because.endswith("wanted: 10 ms")
    settle(batch, 0.0, 4e-6)
    assert batch.size == 2_000


def test_first_rounds_that_are_slow_do_not_mislead_for_long() -> None:
    """Caches are empty then."""
    batch = Batch(TARGET_S, 100, 2_000)
    for factor in (4.0, 2.0, 1.5):
        batch.observe(batch.size, factor * (0.018 + 30e-6 * batch.size))
    settle(batch, 0.018, 30e-6)
    assert 450 <= batch.size <= 800, "what is fixed gets half"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5_000),
            st.one_of(st.floats(0, 100), st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 1e300])),
        ),
        max_size=50,
    )
)
def test_whatever_is_measured_it_stays_within_its_bounds(measured: list[tuple[int, float]]) -> None:
    batch = Batch(TARGET_S, 100, 2_000)
    for choices, duration_s in measured:
        before = batch.size
        changed = batch.observe(choices, duration_s)
        assert 100 <= batch.size <= 2_000
        assert before / 2 - 1 <= batch.size <= before * 2
        assert (changed is None) == (batch.size == before)
        if choices < LEAST_MEASURED or not 0 <= duration_s < math.inf:
            assert changed is None
