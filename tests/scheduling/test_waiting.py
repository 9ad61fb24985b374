"""Waiting tasks: classes of what is alike, in the order of readiness, whatever comes and goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.model import Priority, TaskProfile
from coordinator.scheduling.tasks.waiting import WaitingTable, WaitingTask

PROFILES = [TaskProfile("t"), TaskProfile("u"), TaskProfile("t", priority=Priority.HIGH)]


def test_a_class_ends_with_its_last_task() -> None:
    table = WaitingTable()
    table.add(PROFILES[0], WaitingTask(5, 1))
    assert table.get(1) == (PROFILES[0], WaitingTask(5, 1))
    table.add(PROFILES[1], WaitingTask(6, 1, 2, "a"))
    assert (len(table), list(table.classes), table.get(1)) == (
        1,
        [PROFILES[1]],
        (PROFILES[1], WaitingTask(6, 1, 2, "a")),
    )
    table.discard([1, 99])
    assert (len(table), table.classes, 1 in table, table.get(1)) == (0, {}, False, None)


KEYS = st.integers(0, 30)
ADDED = st.tuples(st.integers(0, 2), st.lists(st.tuples(KEYS, st.integers(0, 5)), min_size=1, max_size=20))
TAKEN = st.sets(KEYS, max_size=20)


@given(st.lists(ADDED | TAKEN, max_size=30))
def test_it_is_what_a_plain_dict_says(steps: list[tuple[int, list[tuple[int, int]]] | set[int]]) -> None:
    """Whatever is added or taken at once, what is named twice among it."""
    table = WaitingTable()
    model: dict[int, tuple[TaskProfile, WaitingTask]] = {}
    for step in steps:
        if isinstance(step, set):
            table.discard(step)
            for key in step:
                model.pop(key, None)
        else:
            profile = PROFILES[step[0]]
            tasks = [WaitingTask(order_ms, key) for key, order_ms in step[1]]
            model.update((task.key, (profile, task)) for task in tasks)
            table.add(profile, *tasks)
    assert len(table) == len(model)
    assert all(table.get(key) == model.get(key) and (key in table) == (key in model) for key in range(31))
    assert {profile: members.tasks for profile, members in table.classes.items()} == {
        profile: sorted(task for other, task in model.values() if other == profile)
        for profile in {profile for profile, _ in model.values()}
    }
