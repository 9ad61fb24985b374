"""Brief tasks and such that last, in one round of many: who comes first has the free slots (B4, E8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.model import AgentSpec, Priority, Requirements, TaskProfile
from coordinator.scheduling.costs.weights import BALANCED
from coordinator.scheduling.plans.bulk import MANY
from coordinator.scheduling.plans.claims import Claims
from coordinator.scheduling.plans.crowd import crowd_of
from coordinator.scheduling.plans.turns import most_urgent
from coordinator.scheduling.snapshot import Snapshot
from tests.scheduling.test_planner import NOW_MS, NOW_S, PLAIN, made, wait

BRIEF_MS = 4
FEW = settings(max_examples=max(15, settings().max_examples // 4))
WELD = Requirements(capabilities=(("weld", 2),))


@FEW
@given(
    st.lists(
        st.tuples(
            st.sampled_from([Priority.LOW, Priority.URGENT]),
            st.sampled_from([BRIEF_MS, 3_000]),
            st.integers(1, 60),
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 12),
    st.sampled_from([1, 2]),
)
def test_who_comes_first_has_the_free_slots_and_nothing_brief_stands_behind_what_comes_later(
    groups: list[tuple[Priority, int, int]], free: int, slots: int
) -> None:
    """With brief tasks among them, a round looks at more tasks than there are slots: B4."""
    snapshot = Snapshot()
    for at in range(12):
        snapshot.agents.put(AgentSpec(f"a{at}", "i", slots, 99), 1)
        for number in range(slots * (at >= free)):
            snapshot.hold(f"a{at}", 9_000 + 10 * at + number, 1, PLAIN, 3_000, NOW_S)
    tasks = [(priority, expected_ms) for priority, expected_ms, count in groups for _ in range(count)]
    for key, (priority, expected_ms) in enumerate(tasks):
        wait(snapshot, key, TaskProfile("t", priority=priority), expected_ms=expected_ms)
    # By the first task of a class it is found out whether any are brief, by their number that they are many.
    for key in range(len(tasks), len(tasks) + MANY):
        wait(snapshot, key, TaskProfile("u", priority=Priority.LOW), expected_ms=BRIEF_MS)
    in_line = sorted(range(len(tasks)), key=lambda key: (-tasks[key][0], key))
    place = {key: at for at, key in enumerate([*in_line, *range(len(tasks), len(tasks) + MANY)])}
    choices = made(snapshot, BALANCED).choices
    assert set(in_line[: free * slots]) <= {choice.key for choice in choices}
    behind: dict[str, list[int]] = {}
    for choice in choices:
        if choice.key < len(tasks) and tasks[choice.key][1] > BRIEF_MS:
            behind.setdefault(choice.agent, []).append(place[choice.key])
        else:
            assert all(one < place[choice.key] for one in behind.get(choice.agent, ()))


@pytest.mark.parametrize("brief", [1, 39, 41, 70])
def test_brief_tasks_that_must_queue_take_no_slots_from_others(
    crew: Callable[..., Snapshot], brief: int
) -> None:
    """They come first, and nobody who has a free slot can take them."""
    welders = {f"w{at}": {"slots": 4, "credit": 99, "capabilities": (("weld", 2),)} for at in range(10)}
    snapshot = crew(**welders, **{f"a{at}": {"slots": 4, "credit": 99} for at in range(10)})
    for at in range(40):
        snapshot.hold(f"w{at // 4}", 9_000 + at, 1, PLAIN, BRIEF_MS, NOW_S)
    weld = TaskProfile("t", requirements=WELD, priority=Priority.URGENT)
    for key in range(brief):
        wait(snapshot, key, weld, expected_ms=BRIEF_MS)
    for key in range(100, 200):
        wait(snapshot, key, expected_ms=3_000)
        wait(snapshot, key + 100, TaskProfile("u", priority=Priority.LOW), expected_ms=BRIEF_MS)
    given = Counter((choice.key // 100, choice.agent[0]) for choice in made(snapshot, BALANCED).choices)
    assert given[0, "w"] == brief
    assert given[1, "a"] == 40


def test_tasks_that_alternate_very_often_go_by_priority() -> None:
    """Behind the stretches that are told apart what lasts goes first, but not before what is more urgent."""
    snapshot = Snapshot()
    for at in range(4):
        snapshot.agents.put(AgentSpec(f"a{at}", "i", 10, 99), 1)
    profiles = [Priority.URGENT] * 30 + [Priority.LOW] * 120
    for key, priority in enumerate(profiles):
        profile = TaskProfile(f"t{key}", priority=priority)
        wait(snapshot, key, profile, expected_ms=3_000 if key % 2 else BRIEF_MS)
    choices = [choice.key for choice in made(snapshot, BALANCED).choices]
    assert sorted(choices[:30]) == list(range(30))
    claims = Claims(snapshot, NOW_S, snapshot.waiting.owners)
    crowd = crowd_of(snapshot, most_urgent(snapshot.waiting, np.arange(150), 150, NOW_MS, claims))
    stretches = [one for level in crowd.levels() for one in level.stretches()]
    assert [key for one in stretches for key in one.keys.tolist()] == list(range(150))
    assert [len(one) for one in stretches] == [*[1] * 8, 22, *[1] * 8, 112]


def test_urgent_brief_tasks_do_not_stand_behind_others_that_last(crew: Callable[..., Snapshot]) -> None:
    snapshot = crew(**{f"a{at}": {"credit": 20} for at in range(7)})
    for key in range(MANY):
        wait(snapshot, key, TaskProfile("t", priority=Priority.LOW), expected_ms=5_000)
    urgent = range(100, 107)
    for key in urgent:
        wait(snapshot, key, TaskProfile("t", priority=Priority.URGENT), expected_ms=BRIEF_MS)
    choices = made(snapshot, BALANCED).choices
    assert [choice.key for choice in choices] == [*urgent]
    assert len({choice.agent for choice in choices}) == 7
