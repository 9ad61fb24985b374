"""A search for schedules: each can be carried out and is the one that Giffler and Thompson's procedure gives;
the best is never lost, and the same search finds the same (E1, E2)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.scheduling.plans.search import NEVER_S, Schedules, Work, schedules, search


@st.composite
def works(draw: st.DrawFn) -> Work:
    """Up to nine tasks in up to four slots, each of which can go somewhere."""
    size, slots = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    takes = st.sampled_from([NEVER_S, 1.0, 1.0, 2.0, 3.5, 7.0])
    seconds = np.array(
        draw(st.lists(st.lists(takes, min_size=slots, max_size=slots), min_size=size, max_size=size))
    )
    seconds[seconds.min(axis=1) >= NEVER_S, 0] = 2.0
    before = [
        draw(st.lists(st.integers(0, at - 1), max_size=3, unique=True)) if at else [] for at in range(size)
    ]
    after = [[other for other in range(size) if at in before[other]] for at in range(size)]
    soon = st.sampled_from([0.0, 0.0, 1.5, 4.0])
    return Work(
        seconds,
        filled(before, size),
        filled(after, size),
        np.array(draw(st.lists(soon, min_size=size, max_size=size))),
        np.array(draw(st.lists(soon, min_size=slots, max_size=slots))),
        np.array(draw(st.lists(st.floats(0.1, 9), min_size=size, max_size=size))),
    )


def filled(rows: list[list[int]], size: int) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    wide = max(1, *map(len, rows))
    return np.array([row + [size] * (wide - len(row)) for row in rows], np.intp)


def one_by_one(work: Work, priority: list[float], thrift: list[float]) -> list[tuple[float, float, int]]:
    """The procedure of Giffler and Thompson as it is told: (begin, end, slot) by task."""
    size = len(work)
    free = work.free_s.tolist()
    made: dict[int, tuple[float, float, int]] = {}
    while len(made) < size:
        looks = []
        for task in range(size):
            before = [one for one in work.before[task].tolist() if one < size]
            if task in made or not all(one in made for one in before):
                continue
            ready = max([work.ready_s.item(task), *(made[one][1] for one in before)])
            choices = []
            for slot, seconds in enumerate(work.seconds[task].tolist()):
                begin = max(ready, free[slot])
                choices.append((begin + seconds + thrift[slot] * seconds, slot, begin, begin + seconds))
            _, slot, begin, end = min(choices)
            looks.append((task, slot, begin, end))
        first = min(looks, key=lambda look: (look[3], look[0]))
        rivals = [look for look in looks if look[1] == first[1] and look[2] < first[3]] or [first]
        task, slot, begin, end = max(rivals, key=lambda look: (priority[look[0]], -look[0]))
        made[task] = begin, end, slot
        free[slot] = end
    return [made[task] for task in range(size)]


def of(made: Schedules, at: int) -> list[tuple[float, float, int]]:
    return list(zip(made.start_s[at].tolist(), made.end_s[at].tolist(), made.slot[at].tolist(), strict=True))


@given(works(), st.data())
def test_schedules_made_side_by_side_are_those_that_are_made_one_by_one(
    work: Work, data: st.DataObject
) -> None:
    some = st.floats(0.0, 2.0)
    size, slots = work.seconds.shape
    priority = data.draw(st.lists(st.lists(some, min_size=size, max_size=size), min_size=3, max_size=3))
    thrift = data.draw(st.lists(st.lists(some, min_size=slots, max_size=slots), min_size=3, max_size=3))
    made = schedules(work, np.array(priority), np.array(thrift))
    for at in range(3):
        assert of(made, at) == one_by_one(work, priority[at], thrift[at])


@given(works())
def test_a_schedule_can_be_carried_out(work: Work) -> None:
    found = search(work, np.zeros(len(work)), None, 6, 0)
    spans: dict[int, list[tuple[float, float]]] = {}
    for task, slot in enumerate(found.slot.tolist()):
        begin, end = found.start_s.item(task), found.end_s.item(task)
        assert work.seconds.item(task, slot) < NEVER_S
        assert end == pytest.approx(begin + work.seconds.item(task, slot))
        assert begin >= max(work.ready_s.item(task), work.free_s.item(slot))
        for before in work.before[task].tolist():
            assert before == len(work) or found.end_s.item(before) <= begin
        spans.setdefault(slot, []).append((begin, end))
    for some in spans.values():
        some.sort()
        assert all(one[1] <= next_[0] for one, next_ in itertools.pairwise(some))


@given(works(), st.integers(0, 99))
def test_what_was_found_is_never_lost(work: Work, turn: int) -> None:
    best = search(work, np.zeros(len(work)), None, 4, turn)
    for later in range(turn + 1, turn + 4):
        found = search(work, best.bias, best.thrift, 4, later)
        assert found.end_s.max() <= best.end_s.max() * 1.01
        best = found


def test_a_search_is_repeatable_and_another_turn_looks_elsewhere() -> None:
    rng = np.random.default_rng(1)
    size = 12
    nothing = np.full((size, 1), size, np.intp)
    work = Work(rng.uniform(1, 9, (size, 3)), nothing, nothing, np.zeros(size), np.zeros(3), np.ones(size))
    first, again, other = (search(work, np.zeros(size), None, 16, turn) for turn in (5, 5, 6))
    for one, same in zip(first, again, strict=True):
        assert np.array_equal(one, same)
    assert not np.array_equal(first.bias, other.bias)


def test_it_finds_what_no_single_pass_by_rank_does() -> None:
    """Five jobs of four operations each on three machines, which are all quick at some and slow at others."""
    rng = np.random.default_rng(7)
    jobs, length = 5, 4
    size = jobs * length
    seconds = rng.integers(1, 10, (size, 3)).astype(float)
    before = [[at - 1] if at % length else [] for at in range(size)]
    after = [[at + 1] if (at + 1) % length else [] for at in range(size)]
    mean = seconds.mean(axis=1).reshape(jobs, length)
    ranks = mean[:, ::-1].cumsum(axis=1)[:, ::-1].ravel()
    work = Work(seconds, filled(before, size), filled(after, size), np.zeros(size), np.zeros(3), ranks)
    once = schedules(
        work, np.repeat(ranks[None], 5, axis=0), np.array([[0.0], [0.25], [0.5], [1.0], [2.0]]) + np.zeros(3)
    )
    found = search(work, np.zeros(size), None, 32, 0)
    for turn in range(1, 8):
        found = search(work, found.bias, found.thrift, 32, turn)
    assert found.end_s.max() < once.end_s.max(axis=1).min()
