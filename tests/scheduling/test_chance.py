"""Chances against the standard library's normal distribution and plain numeric integration."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.scheduling.learning.chance import below, quantile, remaining

NORMAL = NormalDist()
STEPS = 6_000


def one_remaining(log_mean: float, sigma: float, elapsed: float) -> float:
    return remaining(np.array([log_mean]), np.array([sigma]), np.array([elapsed])).item(0)


def integrated(log_mean: float, sigma: float, elapsed: float) -> float:
    """E[X - e | X > e] = integral of P(X > x) over x from e on, over P(X > e), by the trapezoidal rule in the
    logarithm of x."""
    z = (math.log(elapsed) - log_mean) / sigma if elapsed > 0 else -9.0
    points = np.linspace(z, max(z, 0.0) + sigma + 9.0, STEPS)
    survive = np.array([NORMAL.cdf(-point) for point in points.tolist()])
    x = np.exp(log_mean + sigma * points)
    area = float(np.sum(0.5 * (survive[1:] + survive[:-1]) * np.diff(x)))
    head = x.item(0) if elapsed <= 0 else 0.0
    return (area + head) / survive.item(0)


@given(st.floats(-8, 8))
def test_below_is_the_distribution_and_quantile_its_inverse(deviations: float) -> None:
    chance = below(np.array([deviations])).item(0)
    assert chance == pytest.approx(NORMAL.cdf(max(-6.0, min(6.0, deviations))), rel=2e-4, abs=1e-12)
    if abs(deviations) < 4:
        assert quantile(np.array([chance])).item(0) == pytest.approx(deviations, abs=1e-6)


@given(st.floats(0.001, 0.999))
def test_quantile_then_below_gives_the_chance_back(chance: float) -> None:
    found = quantile(np.array([chance])).item(0)
    assert found == pytest.approx(NORMAL.inv_cdf(chance), abs=1e-4)
    assert below(np.array([found])).item(0) == pytest.approx(chance, rel=1e-9)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.8, 1.5])
@pytest.mark.parametrize("z", [-6.0, -3.0, -1.0, 0.0, 1.0, 2.0, 2.5, 2.9])
def test_what_remains_is_the_mean_excess(sigma: float, z: float) -> None:
    elapsed = math.exp(1.0 + sigma * z)
    assert one_remaining(1.0, sigma, elapsed) == pytest.approx(integrated(1.0, sigma, elapsed), rel=0.02)


@given(st.floats(-10, 10), st.floats(0.02, 1.5), st.floats(-7, 2.8))
def test_what_remains_is_the_mean_excess_for_any_duration(log_mean: float, sigma: float, z: float) -> None:
    elapsed = math.exp(log_mean + sigma * z)
    assert one_remaining(log_mean, sigma, elapsed) == pytest.approx(
        integrated(log_mean, sigma, elapsed), rel=0.02, abs=2e-9
    )


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("z", [3.0, 3.5, 5.0])
def test_far_in_the_tail_its_order_is_right(sigma: float, z: float) -> None:
    elapsed = math.exp(sigma * z)
    assert one_remaining(0.0, sigma, elapsed) == pytest.approx(integrated(0.0, sigma, elapsed), rel=0.3)


@given(st.floats(-5, 5))
def test_nothing_elapsed_leaves_the_mean(log_mean: float) -> None:
    assert one_remaining(log_mean, 0.5, 0.0) == pytest.approx(math.exp(log_mean + 0.125), rel=1e-3)


@given(st.floats(-30, 30), st.floats(0, 5), st.floats(0, 1e12))
def test_it_is_never_negative_nor_undefined(log_mean: float, sigma: float, elapsed: float) -> None:
    left = one_remaining(log_mean, sigma, elapsed)
    assert left > 0
    assert math.isfinite(left)


@given(st.floats(-3, 8), st.floats(0.02, 1.2), st.floats(0, 1e4), st.floats(0.01, 3))
def test_a_longer_task_has_more_left(log_mean: float, sigma: float, elapsed: float, more: float) -> None:
    shorter = one_remaining(log_mean, sigma, elapsed)
    assert one_remaining(log_mean + more, sigma, elapsed) >= shorter * 0.85 - 2e-9


@given(st.floats(-2, 5))
def test_a_known_duration_counts_down(log_mean: float) -> None:
    lasts = math.exp(log_mean)
    assert one_remaining(log_mean, 0.0, 0.25 * lasts) == pytest.approx(0.75 * lasts, rel=1e-3)
    assert one_remaining(log_mean, 0.0, 2 * lasts) < 1e-3 * lasts
