"""Who goes first: priority, share, rank and age, deadlines, and that nobody waits for ever (E3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.model import Priority, TaskProfile
from coordinator.scheduling.tasks.order import STARVATION_S, Place, place_in_line
from coordinator.scheduling.tasks.waiting import AGEING, WaitingTask

NOW_MS = 1_700_000_000_000
HOUR_MS = int(STARVATION_S * 1_000)

priorities = st.sampled_from(list(Priority))
ages = st.integers(0, 6 * HOUR_MS)


def place(
    profile: TaskProfile | None = None,
    *,
    waited_ms: int = 0,
    rank_s: float = 0.0,
    key: int = 1,
    share: float = 0.0,
) -> Place:
    ready_ms = NOW_MS - waited_ms
    task = WaitingTask.ranked(ready_ms, ready_ms, key, 1, "", 0, rank_s)
    return place_in_line(profile or TaskProfile("t"), task, share, NOW_MS)


@given(priorities, priorities, st.integers(0, HOUR_MS), st.integers(0, HOUR_MS), st.floats(0, 1e6))
def test_a_higher_priority_goes_first_whatever_hangs_on_the_other(
    one: Priority, other: Priority, waited: int, waited_too: int, rank_s: float
) -> None:
    first = place(TaskProfile("t", priority=one), waited_ms=waited)
    second = place(
        TaskProfile("t", priority=other, deadline_ms=1), waited_ms=waited_too, rank_s=rank_s, key=2
    )
    if one != other:
        assert (first < second) == (one > other)


@given(priorities, st.integers(1, 4))
def test_each_hour_of_waiting_is_worth_a_level(priority: Priority, hours: int) -> None:
    waited = place(TaskProfile("t", priority=priority), waited_ms=hours * HOUR_MS + 1)
    level = min(int(priority) + hours, int(Priority.URGENT))
    assert waited[0] == -level
    fresh = place(TaskProfile("t", priority=Priority(level)), key=2)
    assert waited < fresh


@given(ages, ages)
def test_of_two_alike_the_one_that_has_waited_longer_goes_first(one: int, other: int) -> None:
    if one != other:
        assert (place(waited_ms=one) < place(waited_ms=other, key=2)) == (one > other)


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_of_two_that_came_together_the_one_on_which_more_hangs_goes_first(one: float, other: float) -> None:
    if abs(one - other) > 0.001:
        assert (place(rank_s=one) < place(rank_s=other, key=2)) == (one > other)


def test_age_makes_up_for_rank_at_its_rate() -> None:
    rank_s = 30.0
    worth_ms = round(rank_s / AGEING * 1_000)
    assert place(waited_ms=worth_ms + 1) < place(rank_s=rank_s, key=2) < place(waited_ms=worth_ms - 1)


def test_a_smaller_share_goes_before_rank_and_age_but_after_priority() -> None:
    assert place(share=1.0) < place(share=2.0, waited_ms=100_000, rank_s=1e4)
    assert place(TaskProfile("t", priority=Priority.HIGH), share=9.0) < place(share=0.0)


@pytest.mark.parametrize("rank_s", [0.0, 10.0, 500.0])
def test_a_deadline_presses_the_more_the_nearer_it_is(rank_s: float) -> None:
    orders = [
        place(TaskProfile("t", deadline_ms=NOW_MS + round(1_000 * (rank_s + spare_s))), rank_s=rank_s)[2]
        for spare_s in (1e6, 400.0, 50.0, 20.0, 1.0, 0.0, -1.0, -1e6)
    ]
    assert orders == sorted(orders, reverse=True)
    assert orders[0] == place(rank_s=rank_s)[2], "a far deadline does not count"
    assert orders[-1] == orders[-2] == orders[-3], "one that is missed presses no more than one that is due"
    assert orders[2] > orders[-1]
