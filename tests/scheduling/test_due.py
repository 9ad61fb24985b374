"""Which attempts may end at any moment (principle 7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.due import AT_ONCE_S, Due
from tests.scheduling.test_planner import NOW_S, PLAIN

Crew = Callable[..., Snapshot]


def test_there_is_one_until_all_have_ended() -> None:
    due = Due()
    assert not due.any(NOW_S)
    due.given(1, 1, 0.0, NOW_S)
    due.given(2, 1, AT_ONCE_S, NOW_S)
    due.over(1, 1)
    assert due.any(NOW_S)
    due.over(2, 1)
    due.over(3, 1)
    assert not due.any(NOW_S)


@pytest.mark.parametrize("later_s", [1.0, -1.0])
def test_what_does_not_end_is_forgotten_whatever_the_clock_does(later_s: float) -> None:
    due = Due()
    due.given(1, 1, 0.0, NOW_S)
    assert due.any(NOW_S + 0.1)
    assert not due.any(NOW_S + later_s)
    due.given(2, 1, 0.0, NOW_S + later_s)
    assert due.any(NOW_S + later_s)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans())))
def test_it_is_those_that_were_given_and_are_not_over(steps: list[tuple[int, bool]]) -> None:
    due, left = Due(), set[int]()
    for key, given_now in steps:
        if given_now:
            due.given(key, 1, 0.0, NOW_S)
            left.add(key)
        else:
            due.over(key, 1)
            left.discard(key)
        assert due.any(NOW_S) == bool(left)


@pytest.mark.parametrize(("expected_ms", "is_due"), [(1, True), (100, False), (60_000, False)])
def test_an_agent_that_holds_an_instant_task_is_about_to_tell_of_its_end(
    crew: Crew, expected_ms: int, is_due: bool
) -> None:
    snapshot = crew(a={})
    snapshot.hold("a", 9, 1, PLAIN, expected_ms, NOW_S)
    assert snapshot.due.any(NOW_S) == is_due
    snapshot.release("a", 9, 1)
    assert not snapshot.due.any(NOW_S)
