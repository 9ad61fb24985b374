"""Who is highly loaded (D4): above one threshold, until below a lower one, never more than a share of all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.scheduling.load.settings import LoadSettings
from coordinator.scheduling.load.thresholds import FOLLOWS, Thresholds

EVERYBODY = LoadSettings(high=0.9, low=0.8, max_share=1.0)
ADAPTIVE = LoadSettings(mode="adaptive", high=0.9, low=0.8, k=1.0, floor=0.5, ceiling=0.95, max_share=1.0)


def marks(thresholds: Thresholds, scores: Sequence[float], absent: Sequence[int] = ()) -> list[int]:
    present = np.ones(len(scores), np.bool_)
    present[list(absent)] = False
    return np.flatnonzero(thresholds.update(np.array(scores), present).marks).tolist()


def test_an_agent_is_marked_above_the_one_until_below_the_other() -> None:
    thresholds = Thresholds(EVERYBODY)
    course = [
        (0.9, False),
        (0.91, True),
        (0.85, True),
        (0.8, True),
        (0.79, False),
        (0.85, False),
        (1.0, True),
    ]
    for load, marked in course:
        verdict = thresholds.update(np.array([load]), np.array([True]))
        assert verdict.marks.item() is marked is thresholds.marked(0), load
    assert not thresholds.marked(1)


def test_only_changes_are_told() -> None:
    thresholds = Thresholds(EVERYBODY)
    changed = [
        thresholds.update(np.array(scores), np.ones(3, np.bool_)).changed.tolist()
        for scores in ([0.1, 0.99, 0.99], [0.1, 0.85, 0.99], [0.95, 0.85, 0.7])
    ]
    assert changed == [[1, 2], [], [0, 2]]


def test_who_is_gone_is_not_marked_and_leaves_no_mark_to_its_row() -> None:
    thresholds = Thresholds(EVERYBODY)
    assert marks(thresholds, [0.95, 0.95]) == [0, 1]
    assert marks(thresholds, [0.95, 0.95], absent=[0]) == [1]
    thresholds.forget(1)
    thresholds.forget(7)
    assert not thresholds.marked(1)
    assert marks(thresholds, [0.85, 0.85, 0.95]) == [2]
    assert marks(thresholds, []) == []


def test_not_more_than_a_share_the_most_loaded_first_and_nobody_in_the_place_of_another() -> None:
    thresholds = Thresholds(LoadSettings(high=0.9, low=0.8, max_share=0.5))
    assert marks(thresholds, [0.95]) == []
    assert marks(thresholds, [0.93, 0.95, 0.94, 0.1]) == [1, 2]
    assert marks(thresholds, [1.0, 0.85, 0.85, 1.0]) == [1, 2]
    assert marks(thresholds, [1.0, 0.85, 0.7, 1.0]) == [0, 1]
    assert marks(thresholds, [1.0, 0.85, 0.7, 1.0], absent=[2, 3]) == [0]


def test_off_marks_nobody() -> None:
    assert marks(Thresholds(LoadSettings(mode="off", max_share=1.0)), [1.0, 1.0]) == []


def test_an_adaptive_threshold_finds_who_stands_out() -> None:
    thresholds = Thresholds(ADAPTIVE)
    assert marks(thresholds, [0.2, 0.2, 0.2, 0.7]) == [3]
    assert (thresholds.high, thresholds.low) == (
        pytest.approx(0.5415, abs=1e-4),
        pytest.approx(0.4415, abs=1e-4),
    )


def test_an_adaptive_threshold_follows_within_its_bounds() -> None:
    thresholds = Thresholds(ADAPTIVE)
    marks(thresholds, [0.1, 0.1])
    assert thresholds.high == 0.5
    marks(thresholds, [1.0, 1.0])
    assert thresholds.high == pytest.approx(0.5 + FOLLOWS * 0.45)
    for _ in range(50):
        marks(thresholds, [1.0, 1.0])
    assert thresholds.high == pytest.approx(0.95)
    marks(thresholds, [1.0, 1.0], absent=[0, 1])
    assert thresholds.high == pytest.approx(0.95)


SETTINGS = st.builds(
    LoadSettings,
    mode=st.sampled_from(["fixed", "adaptive"]),
    high=st.floats(0.6, 1),
    low=st.floats(0.2, 0.5),
    k=st.floats(0, 4),
    floor=st.floats(0.81, 0.9),
    ceiling=st.floats(0.9, 1),
    max_share=st.floats(0, 1),
)
COURSE = st.lists(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=6, max_size=6), min_size=1, max_size=12
)


@given(SETTINGS, COURSE)
def test_marks_never_flap_inside_the_gap_and_never_exceed_the_share(
    settings: LoadSettings, course: list[list[tuple[float, bool]]]
) -> None:
    thresholds = Thresholds(settings)
    before = np.zeros(6, np.bool_)
    for step in course:
        scores, present = np.array([one for one, _ in step]), np.array([is_there for _, is_there in step])
        verdict = thresholds.update(scores, present)
        most = math.floor(settings.max_share * int(present.sum()))
        assert verdict.marks.sum() <= most
        came, went = verdict.marks & ~before, before & ~verdict.marks
        assert (scores[came] > thresholds.high).all()
        assert present[verdict.marks].all()
        if (before & present).sum() <= most:
            assert (scores[went & present] < thresholds.low).all()
        assert verdict.changed.tolist() == np.flatnonzero(came | went).tolist()
        before = verdict.marks
