"""The models on series whose shape is known, and which of them is used because of that (D6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from coordinator.forecast.history import FloatRow, History
from coordinator.forecast.models import Outside
from coordinator.forecast.scoring import GAIN, LEAST_SCORED, Scores
from tests.forecast.conftest import PLAIN, shape

if TYPE_CHECKING:
    from coordinator.forecast.grid import Grid
    from tests.forecast.conftest import Feed

KINDS = ("constant", "sine", "noisy sine", "square", "trend", "step", "noise", "walk", "spikes")


@pytest.fixture(scope="module")
def said(feed: Feed) -> dict[tuple[str, int], FloatRow]:
    """What was forecast after each of 1,200 steps of each kind, by kind and lead."""
    seen: dict[int, list[FloatRow]] = {lead: [] for lead in PLAIN.leads}

    def note(grid: Grid) -> None:
        for lead in PLAIN.leads:
            seen[lead].append(grid.ahead(lead).value[: len(KINDS)])

    feed(*(shape(kind, 1_200) for kind in KINDS), after_each=note)
    return {
        (kind, lead): np.stack(rows)[:, row] for lead, rows in seen.items() for row, kind in enumerate(KINDS)
    }


def relative(said: FloatRow, series: FloatRow, lead: int) -> float:
    """The mean error of what was said in the second half, in parts of the naive one's."""
    half = len(series) // 2
    then = series[half + lead :]
    off = np.abs(said[half:-lead] - then).mean()
    return float(off / np.abs(series[half:-lead] - then).mean())


def used(grid: Grid, lead: int, row: int = 0) -> str:
    """The model in use."""
    return grid.models[grid.ahead(lead).model[row]].name


@pytest.mark.parametrize(
    ("kind", "lead", "at_most"),
    [
        ("sine", 1, 0.1),
        ("sine", 6, 0.1),
        ("noisy sine", 6, 0.2),
        ("square", 6, 0.1),
        ("noise", 1, 0.8),
        ("noise", 24, 0.8),
        ("trend", 6, 0.5),
        ("spikes", 6, 1.25),
        ("walk", 6, 1.1),
    ],
)
def test_what_is_said_is_better_than_naive_where_there_is_something_to_know(
    said: dict[tuple[str, int], FloatRow], kind: str, lead: int, at_most: float
) -> None:
    """D6: and hardly worse where there is not."""
    assert relative(said[kind, lead], shape(kind, 1_200), lead) <= at_most


def test_a_season_is_known_a_season_later(feed: Feed) -> None:
    """D6: the naive forecast of a whole season ahead is right by chance; nothing may be worse."""
    grid = feed(shape("sine", 300))
    error = grid.scores[24].error[:, 0]
    names = [model.name for model in grid.models]
    assert error[names.index("holt-winters")] < 0.02
    assert error[-1] < 0.02


def test_no_model_runs_away(feed: Feed) -> None:
    """D6: what a model says stays within what the series has been, and as much again."""
    series = [shape(kind, 2_000) for kind in KINDS]
    grid = feed(*series)
    for lead in PLAIN.leads:
        for model in grid.models:
            said = model.forecast(grid.past, lead)
            for kind, one, seen in zip(KINDS, said, series, strict=False):
                assert np.isfinite(one), (kind, model.name)
                assert abs(one) < 10 * seen.max(), (kind, model.name)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1.0, 123_456.0])
def test_a_constant_is_forecast_exactly(feed: Feed, value: float) -> None:
    """D6."""
    grid = feed(np.full(200, value))
    for lead in PLAIN.leads:
        ahead = grid.ahead(lead)
        assert {float(ahead.value[0]), float(ahead.low[0]), float(ahead.high[0])} == {
            float(np.float32(value))
        }
        assert used(grid, lead) == "naive"


def test_a_walk_is_left_to_the_naive_model(feed: Feed) -> None:
    """D6: nothing is known of it but where it is."""
    grid = feed(*(shape("walk", 600, seed) for seed in range(10)))
    names = [used(grid, 1, row) for row in range(10)]
    assert names.count("naive") >= 8


def test_series_do_not_mix(feed: Feed) -> None:
    """D6: what is said of one series is what would be said of it alone."""
    together = feed(*(shape(kind, 400) for kind in KINDS))
    for row, kind in enumerate(KINDS):
        alone = feed(shape(kind, 400))
        for lead in PLAIN.leads:
            assert together.ahead(lead).value[row] == pytest.approx(alone.ahead(lead).value[0], abs=1e-6)


def test_the_interval_holds_most_outcomes(feed: Feed) -> None:
    """D6: it is meant to hold four of five."""
    series = shape("noise", 1_000)
    ends = range(500, 1_000, 10)
    ahead, then = feed(*(series[end - 300 : end] for end in ends)).ahead(1), series[ends]
    held = (ahead.low[: len(ends)] <= then) & (then <= ahead.high[: len(ends)])
    assert 32 <= held.sum() <= 48


# --- the scores ---------------------------------------------------------------------------------------------


def scored(model_error: float, outcomes: int) -> Scores:
    """Two models; the naive one has always been wrong by 1, the other by this."""
    scores, past = Scores(1, 2), History(8)
    known = np.ones(16, np.bool_)
    for number in range(outcomes + 1):
        past.push(number, np.full(16, 5.0), known)
        scores.settle(past, known)
        said = np.array([4.0, 5 + model_error, 5 + model_error])
        scores.make(number, np.repeat(said[:, None], 16, axis=1))
    return scores


@pytest.mark.parametrize(
    ("error", "outcomes", "best"),
    [
        (0.5, LEAST_SCORED, 1),
        (0.5, LEAST_SCORED - 1, 0),
        (GAIN - 0.01, 100, 1),
        (GAIN + 0.01, 100, 0),
        (2.0, 100, 0),
    ],
)
def test_a_model_is_used_if_it_has_beaten_the_naive_one(error: float, outcomes: int, best: int) -> None:
    """D6: often enough, and by enough."""
    scores = scored(error, outcomes)
    assert scores.best(np.full((2, 16), 5.0)).tolist() == [best] * 16
    assert scores.count[1, 0] == outcomes
    assert scores.error[1, 0] == pytest.approx(error, rel=1e-6)


def test_a_model_that_says_nothing_now_is_not_used() -> None:
    """D6: however good it was."""
    said = np.full((2, 16), 5.0)
    said[1, 3] = np.nan
    assert scored(0.1, 50).best(said).tolist() == [1] * 3 + [0] + [1] * 12


def test_outcomes_are_kept_beside_what_was_said() -> None:
    """D6: the latest of them."""
    scores = scored(0.5, 10)
    assert sorted(scores.targets) == [7, 8, 9, 10]
    assert scores.outcomes[:, :, 0].tolist() == [[5.5, 4.0, 5.0]] * 4


def test_what_is_not_known_is_no_outcome() -> None:
    """D6: a series that has not been seen in a step is not scored on it."""
    scores, past = Scores(1, 1), History(8)
    known, fresh = np.ones(16, np.bool_), np.arange(16) < 8
    for number in range(5):
        past.push(number, np.full(16, 5.0), known)
        scores.settle(past, fresh)
        scores.make(number, np.full((2, 16), 4.0))
    assert scores.count[0].tolist() == [4] * 8 + [0] * 8


def test_a_model_that_runs_elsewhere_speaks_for_the_steps_that_it_spoke_of() -> None:
    """D6: later its word ends, and then there is none."""
    outside, past = Outside("other", 4), History(8)
    past.push(10, np.full(16, 5.0), np.ones(16, np.bool_))
    outside.take(2, 9, np.array([5.0, 2.0, np.inf]))
    said = [outside.forecast(past, lead)[2] for lead in (1, 2, 3, 4)]
    assert said[0] == 2.0
    assert np.isnan(said[1:]).all()
    # What has happened since counts half.
    outside.take(2, 9, np.array([4.0, 2.0, np.inf]))
    assert outside.forecast(past, 1)[2] == 2.5
    assert np.isnan(outside.forecast(past, 1)[0])
