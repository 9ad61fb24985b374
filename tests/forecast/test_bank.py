"""The bank: what it takes for samples and times, what it keeps, and that a successor goes on from it (D6)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.forecast.bank import LARGEST, Bank, Closed, Key
from coordinator.forecast.horizons import HISTORY_STEPS, Horizon
from coordinator.forecast.scoring import LEAST_SCORED
from tests.forecast.conftest import shape

CPU: Key = ("a", "cpu")
QUICK = (Horizon("short", 1, (1, 6), (12,)), Horizon("medium", 4, (2, 5), (6,)))
STEP_MS = 1_000


def advanced(bank: Bank, now_ms: int, absent: tuple[str, ...] = ()) -> list[Closed]:
    """All steps that are over by now."""
    return list(iter(lambda: bank.advance(now_ms, absent), None))


def fed(bank: Bank, values: list[float], key: Key = CPU, begin_ms: int = 0) -> list[Closed]:
    """Feed the bank with one sample a second; what was closed by that."""
    closed = []
    for at, value in enumerate(values):
        closed += advanced(bank, begin_ms + at * STEP_MS)
        bank.observe([(key, value)])
    return closed


def test_a_step_is_the_mean_of_its_samples() -> None:
    """D6: on each grid by itself."""
    bank = Bank(QUICK, max_series=10)
    closed = fed(bank, [float(at) for at in range(10)])
    assert [one.values.tolist() for one in closed if one.grid == 0] == [[float(at)] for at in range(9)]
    assert [one.values.tolist() for one in closed if one.grid == 1] == [[1.5], [5.5]]


def test_a_series_without_a_sample_is_as_it_was() -> None:
    """D6: agents report what has changed; an agent that is away is not scored and not kept."""
    bank = Bank(QUICK, max_series=10)
    bank.observe([(CPU, 0.2), (("b", "cpu"), 0.4)])
    bank.advance(0)
    bank.observe([(CPU, 0.6)])
    for at in range(1, 9):
        (closed, *_) = advanced(bank, at * STEP_MS, ("b",))
        assert closed.keys == (CPU,)
        assert closed.values[0] == pytest.approx(0.4 if at == 1 else 0.6)
    (forecast, *_) = bank.forecasts(CPU)
    assert (forecast.value, forecast.scored) == (pytest.approx(0.6), 7)
    (forecast, *_) = bank.forecasts(("b", "cpu"))
    assert (forecast.value, forecast.scored) == (pytest.approx(0.4), 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.1, 1.1, 1e300])
def test_what_is_no_measurement_is_missing(value: float) -> None:
    """D6: it neither counts nor makes a series, and is counted."""
    bank = Bank(QUICK, max_series=10, tops={"cpu": 1.0})
    bank.observe([(CPU, value)])
    assert (bank.rows, bank.refused) == ({}, 1)
    fed(bank, [0.5, value, 0.5, value, 0.5])
    assert [one.value for one in bank.forecasts(CPU)] == [0.5] * 4


def test_no_more_series_are_kept_than_may_be() -> None:
    """D6: and those that are dropped make room, without what was there before."""
    bank = Bank(QUICK, max_series=40)
    for at in range(30):
        advanced(bank, at * STEP_MS)
        bank.observe([((f"a{number}", "cpu"), 0.9) for number in range(50)])
    assert len(bank.rows) == 40
    bank.drop([(f"a{number}", "cpu") for number in range(10)] + [("nobody", "cpu")])
    bank.advance(30 * STEP_MS)
    bank.observe([(CPU, 0.1)])
    bank.advance(31 * STEP_MS)
    assert len(bank.rows) == 31
    assert {(one.value, one.scored, one.outcomes) for one in bank.forecasts(CPU, "short")} == {
        (float(np.float32(0.1)), 0, ())
    }


@pytest.mark.parametrize("back_ms", [1, 5_000, 10 * 60_000])
def test_a_clock_that_goes_back_a_little_changes_nothing(back_ms: int) -> None:
    """D6: the step that is open stays open until its end."""
    bank = Bank(QUICK[:1], max_series=10)
    begin_ms = 10**9 * 1_000
    fed(bank, [0.5] * 20, begin_ms=begin_ms)
    now_ms = begin_ms + 20 * STEP_MS
    bank.advance(now_ms)
    if back_ms < HISTORY_STEPS * STEP_MS:
        assert bank.advance(now_ms - back_ms) is None
        # The longer distance is looked at every other step.
        assert [one.scored for one in bank.forecasts(CPU)] == [19, 7]
    else:
        assert bank.advance(now_ms - back_ms) is None
        assert list(bank.forecasts(CPU)) == []
        fed(bank, [0.5] * 20, begin_ms=now_ms - back_ms)
        assert [one.value for one in bank.forecasts(CPU)] == [0.5] * 2


@pytest.mark.parametrize("ahead_s", [1, 7, HISTORY_STEPS - 1, HISTORY_STEPS + 2, 10**9])
def test_a_clock_that_jumps_ahead_costs_no_more_than_the_past(ahead_s: int) -> None:
    """D6: what was before fills the gap, unless nothing of it would be left."""
    bank = Bank(QUICK[:1], max_series=10)
    fed(bank, [0.5] * 30)
    fed(bank, [0.7] * 3, begin_ms=(29 + ahead_s) * STEP_MS)
    (first, *_) = bank.forecasts(CPU)
    assert first.value == pytest.approx(0.7)
    past = bank.past(0, [CPU])[:, 0]
    assert past[-1] == pytest.approx(0.7)
    assert len(past) == (2 if ahead_s > HISTORY_STEPS else min(HISTORY_STEPS, 31 + ahead_s))


def test_a_successor_goes_on_from_what_was_closed() -> None:
    """D6: it says what its predecessor would have said, and knows how good that was."""
    series = shape("noisy sine", 400).tolist()
    before, after = Bank(QUICK, max_series=10), Bank(QUICK, max_series=10)
    for closed in sorted(fed(before, series), key=lambda one: (one.grid, one.number)):
        after.restore(closed)
    assert list(after.forecasts(CPU)) == list(before.forecasts(CPU))


def test_what_is_restored_is_not_believed_either() -> None:
    """D6: neither times that do not go on, nor values that are none."""
    bank = Bank(QUICK, max_series=1)
    bank.restore(Closed(0, 5, (CPU, ("b", "cpu")), np.array([0.5, 0.5])))
    bank.restore(Closed(0, 4, (CPU,), np.array([0.1])))
    bank.restore(Closed(0, 6, (CPU,), np.array([math.nan])))
    bank.restore(Closed(0, 7, (), np.array([])))
    assert list(bank.rows) == [CPU]
    assert bank.past(0, [CPU])[:, 0].tolist() == [0.5, 0.5, 0.5]


def test_only_what_has_proved_better_than_naive_is_told() -> None:
    """D6: at every distance of a horizon; NaN for a series that is not known, or that nobody foresees."""
    bank = Bank(QUICK, max_series=10)
    grid, keys = bank.grids[0], [CPU, ("b", "cpu"), ("nobody", "cpu")]

    def proved(lead: int) -> list[float]:
        return bank.proved(grid, lead, np.array([bank.rows.get(key, -1) for key in keys])).tolist()

    assert np.isnan(proved(1)).all()
    wave, noise = shape("sine", 200), np.random.default_rng(1).random(200)
    for at in range(200):
        advanced(bank, at * STEP_MS)
        bank.observe([(CPU, wave[at]), (("b", "cpu"), noise[at] < 0.5)])
        assert at > LEAST_SCORED or np.isnan([*proved(1), *proved(6)]).all()
    for lead in grid.horizon.leads:
        of_wave, of_noise, of_nobody = proved(lead)
        assert of_wave == pytest.approx(shape("sine", 300)[198 + lead], abs=0.02)
        shown = {one.key: one for key in keys for one in bank.forecasts(key, "short") if one.lead_s == lead}
        assert of_wave == shown[CPU].value
        assert math.isnan(of_noise) == (shown["b", "cpu"].model == "naive")
        assert math.isnan(of_nobody)


def test_what_is_known_is_told_although_more_series_have_come_since_the_step() -> None:
    """D6: a fleet that grew between two steps ended the leader's look at loads: a model said something of
    those series alone that there had been."""
    bank = Bank(QUICK, max_series=1_000)
    fed(bank, [0.5] * 20)
    bank.observe([((f"new-{at}", "cpu"), 0.5) for at in range(100)])
    rows = np.array(list(bank.rows.values()))
    assert len(rows) == 101
    for grid in bank.grids:
        for lead in grid.horizon.leads:
            assert len(bank.proved(grid, lead, rows)) == 101
    assert next(bank.forecasts(CPU, "short")).value == pytest.approx(0.5)


def test_room_is_made_for_one_grid_at_a_time() -> None:
    """D6, J4: thousands of agents that come at once must not hold the leader for as long as all grids."""
    bank = Bank(QUICK, max_series=1_000)
    fed(bank, [0.5] * 21)
    bank.observe([((f"new-{at}", "cpu"), 0.9) for at in range(1_000)])
    newest = max(bank.rows.values())
    assert [len(grid.top) > newest for grid in bank.grids] == [False, False]

    short, medium = 21 * STEP_MS, 24 * STEP_MS
    advanced(bank, short)
    assert [len(grid.top) > newest for grid in bank.grids] == [True, False]
    bank.drop([key for key, row in bank.rows.items() if row == newest])
    advanced(bank, medium)
    assert [len(grid.top) for grid in bank.grids] == [1_000, 1_000]
    assert [grid.age(newest) for grid in bank.grids] == [0, 0]


def test_a_change_of_the_series_is_told() -> None:
    """D6: that of their values is not."""
    bank = Bank(QUICK, max_series=1)
    bank.observe([(CPU, 0.5), (("b", "cpu"), 0.5)])
    assert bank.changes == 1
    bank.observe([(CPU, 0.6)])
    bank.drop([("b", "cpu")])
    assert bank.changes == 1
    bank.drop([CPU])
    assert bank.changes == 2


# --- anything -----------------------------------------------------------------------------------------------

samples = st.lists(
    st.tuples(
        st.sampled_from([("a", "cpu"), ("b", "cpu"), ("", "busy"), ("c", "cpu")]),
        st.one_of(st.floats(0, 1), st.floats(0, LARGEST), st.floats()),
    ),
    max_size=6,
)
moments = st.lists(
    st.tuples(samples, st.one_of(st.integers(0, 3_000), st.integers(-(10**6), 10**12))), max_size=80
)


@given(moments, st.lists(st.sampled_from(["a", "b", "c"]), max_size=3))
def test_whatever_comes_forecasts_are_finite_and_in_order(
    moments: list[tuple[list[tuple[Key, float]], int]], gone: list[str]
) -> None:
    """D6: never NaN, never below 0 or beyond what the quantity can be; low, value, high in this order."""
    bank, now_ms = Bank(QUICK, max_series=3, tops={"cpu": 1.0}), 0
    for at, (batch, passed_ms) in enumerate(moments):
        bank.observe(batch)
        now_ms = max(0, now_ms + passed_ms)
        for closed in advanced(bank, now_ms):
            assert np.isfinite(closed.values).all()
        if at % 20 == 19:
            bank.drop([(name, "cpu") for name in gone])
    assert len(bank.rows) <= 3
    for key in bank.rows:
        for one in bank.forecasts(key):
            top = 1.0 if key[1] == "cpu" else 2.5 * LARGEST
            assert 0 <= one.low <= one.value <= one.high <= top
            assert one.scored == 0 or one.error >= 0
            assert all(math.isfinite(part) for outcome in one.outcomes for part in outcome)


@given(st.floats(0, 1), st.integers(1, 60))
def test_constants_are_exact(value: float, steps: int) -> None:
    """D6: from the first step on."""
    bank = Bank(QUICK, max_series=3)
    fed(bank, [value] * (steps + 1))
    for one in bank.forecasts(CPU):
        assert one.low == one.value == one.high == float(np.float32(value))
