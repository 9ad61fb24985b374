"""A failing schedule is cut down to what it takes to fail, in a bounded number of tries."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.sim.shrinking import shrink


class Needs:
    """Fails when all of these are there; counts how often it was asked."""

    def __init__(self, *culprits: int) -> None:
        self.culprits = set(culprits)
        self.asked = 0

    def __call__(self, parts: Sequence[int]) -> bool:
        self.asked += 1
        return self.culprits <= set(parts)


@given(
    st.lists(st.integers(0, 40), min_size=1, unique=True).flatmap(
        lambda parts: st.tuples(st.just(parts), st.sets(st.sampled_from(parts)))
    )
)
def test_what_is_left_is_exactly_what_it_takes(drawn: tuple[list[int], set[int]]) -> None:
    parts, culprits = drawn
    assert shrink(parts, Needs(*culprits), tries=10_000) == tuple(part for part in parts if part in culprits)


def test_one_culprit_among_many_is_found_by_halving() -> None:
    needs = Needs(700)
    assert shrink(range(1_000), needs, tries=10_000) == (700,)
    assert needs.asked < 50


def test_what_is_left_fails_although_less_need_not() -> None:
    """An odd number of parts fails: no smaller schedule than one part does."""
    assert len(shrink(range(9), lambda parts: len(parts) % 2 == 1, tries=100)) == 1


@pytest.mark.parametrize("tries", [0, 1, 5, 20])
def test_the_tries_are_bounded_and_what_is_left_still_fails(tries: int) -> None:
    needs = Needs(3, 50, 97)
    left = shrink(range(100), needs, tries=tries)
    assert needs.asked <= tries
    assert needs(left)


def test_a_failure_that_needs_nothing_leaves_nothing() -> None:
    assert shrink(range(8), lambda parts: True, tries=100) == ()
