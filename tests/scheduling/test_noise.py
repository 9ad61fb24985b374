"""What differs by chance is told from what agents are quick or slow at (E5)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.scheduling.learning.noise import noise

BELIEVED, VARIANCE = 3.0, 0.09


def of(ends: list[list[float]], factors: list[float] | None = None) -> float:
    """Of the logarithms of ends, agent by agent."""
    sums = np.array([[len(some), sum(some), sum(one * one for one in some)] for some in ends]).T
    return noise(sums.astype(float), np.array(factors or [0.0] * len(ends)), BELIEVED, VARIANCE)


def test_without_ends_it_is_what_is_believed() -> None:
    assert of([[], []]) == pytest.approx(VARIANCE)


def test_tasks_that_differ_are_no_slow_agents_although_each_has_had_one() -> None:
    drawn = np.random.default_rng(1).normal(0.0, 1.0, 40).tolist()
    assert of([[one] for one in drawn]) == pytest.approx(1.0, rel=0.4)
    assert of([[-1.0], [0.0], [1.0]]) > 3 * VARIANCE
    assert of([[one] for one in drawn], [-one for one in drawn]) < VARIANCE, "their speeds explain it"


@pytest.mark.parametrize("ends", [1, 2, 10])
def test_one_agent_that_is_far_from_all_others_is_no_chance(ends: int) -> None:
    honest = [[0.1 * at - 0.2] * ends for at in range(5)]
    assert of([*honest, [math.log(1_000)] * ends]) < 2 * VARIANCE


def test_ends_on_the_same_agents_say_it_without_doubt() -> None:
    """Two agents differ by far, and each has needed the same for all it had."""
    assert of([[0.0] * 40, [3.0] * 40]) < 0.01
    assert of([[0.0, 1.0] * 20, [3.0, 4.0] * 20]) == pytest.approx(0.25, rel=0.1)


@given(st.lists(st.lists(st.floats(-20, 20), max_size=5), max_size=300))
def test_it_is_finite_and_not_negative(ends: list[list[float]]) -> None:
    with np.errstate(all="raise", under="ignore"):
        assert 0 <= of(ends or [[]]) < 1e4
