"""Weights and policies: what they may be, and what is said of those that may not (E1)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.errors import InvalidRequest
from coordinator.scheduling.costs.weights import BUILT_IN, LARGEST_WEIGHT, MOST_RIVALS, Policy, Weights

NAMES = ("time", "balance", "communication", "energy")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "weight", [-1e-9, -1.0, math.nan, math.inf, -math.inf, LARGEST_WEIGHT * 1.000001, 1e308]
)
def test_a_weight_out_of_range_is_refused_by_name_and_value(name: str, weight: float) -> None:
    with pytest.raises(InvalidRequest, match=rf"weight of {name} is .*allowed: 0 to 1000"):
        Weights(**{name: weight})


def test_weights_that_are_all_0_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="all weights are 0"):
        Weights(0.0, 0.0, 0.0, 0.0)


@given(st.tuples(*[st.floats(0, LARGEST_WEIGHT) for _ in NAMES]).filter(any))
def test_any_others_will_do(given_weights: tuple[float, float, float, float]) -> None:
    made = Weights(*given_weights)
    assert (made.time, made.balance, made.communication, made.energy) == given_weights


@pytest.mark.parametrize("rivals", [-1, 0, MOST_RIVALS + 1, 1 << 40])
def test_rivals_out_of_range_are_refused(rivals: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"policy 'mine' allows {rivals} attempts.*allowed: 1 to 4"):
        Policy("mine", rivals=rivals)


def test_foresight_below_0_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"policy 'mine'.*foresight"):
        Policy("mine", foresight=-1)
    assert Policy("mine", foresight=0).foresight == 0


def test_built_in_policies_are_known_by_their_names() -> None:
    assert all(name == policy.name for name, policy in BUILT_IN.items())
    assert next(iter(BUILT_IN)) == "balanced"
