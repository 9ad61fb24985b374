"""Upward ranks and transfers against their definitions, over random graphs that may grow."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.lifecycle import TERMINAL
from coordinator.core.model import (
    Dag,
    DagHeader,
    DagRecord,
    DagState,
    DataItem,
    Task,
    TaskExtras,
    TaskProfile,
    TaskState,
)
from coordinator.scheduling.tasks import ranks
from coordinator.scheduling.tasks.graphs import Graph
from coordinator.scheduling.tasks.ranks import upward_ranks
from coordinator.scheduling.tasks.transfers import BANDWIDTH, Transfers


def task(index: int, depends: tuple[int, ...], state: TaskState = TaskState.PENDING) -> Task:
    return Task(index, f"t{index}", TaskProfile("t"), depends, b"", index + 1, state)


def linked(tasks: list[Task]) -> list[Task]:
    for one in tasks:
        one.successors = tuple(other.index for other in tasks if one.index in other.depends)
    return tasks


@st.composite
def graphs(draw: st.DrawFn) -> list[Task]:
    tasks = []
    for index in range(draw(st.integers(1, 12))):
        depends = draw(st.sets(st.integers(0, index - 1), max_size=3)) if index else set()
        tasks.append(task(index, tuple(sorted(depends)), draw(st.sampled_from(list(TaskState)))))
    return linked(tasks)


def completed(steps: Iterator[list[float]]) -> list[float]:
    return list(steps)[-1]


@given(graphs(), st.sampled_from([1, 3, 5_000]))
def test_a_rank_is_the_longest_way_to_the_end(tasks: list[Task], step: int) -> None:
    def duration(one: Task) -> float:
        return 1.0 + one.index % 4

    def transfer(before: int, after: int) -> float:
        return ((before + 3 * after) % 5) / 2

    @cache
    def longest(index: int) -> float:
        if tasks[index].state in TERMINAL:
            return 0.0
        follows = [transfer(index, after) + longest(after) for after in tasks[index].successors]
        return duration(tasks[index]) + max(follows, default=0.0)

    patched = pytest.MonkeyPatch()
    with patched.context() as patch:
        patch.setattr(ranks, "RANKED_AT_ONCE", step)
        steps = list(upward_ranks(tasks, duration, transfer))
    assert steps[-1] == pytest.approx([longest(index) for index in range(len(tasks))])
    assert len(steps) == 1 + len(tasks) // step


def test_a_dag_may_grow_while_its_ranks_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "RANKED_AT_ONCE", 1)
    tasks = linked([task(0, ()), task(1, (0,))])
    steps = upward_ranks(tasks, lambda one: 1.0, lambda before, after: 0.0)
    next(steps)
    tasks.append(task(2, (0,)))
    linked(tasks)
    assert completed(steps)[:2] == [2.0, 1.0]


def dag_of(tasks: list[Task], extras: dict[int, TaskExtras]) -> Dag:
    record = DagRecord(0, DagHeader("d"), [TaskProfile("t")], DagState.RUNNING, 0)
    return Dag(record, tasks, [], extras)


def test_ranks_that_are_not_complete_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "RANKED_AT_ONCE", 1)
    graph = Graph(dag_of(linked([task(0, ()), task(1, (0,)), task(2, (1,))]), {}))
    for _ in graph.rank_steps(lambda one: 1.0, 1):
        pass
    steps = graph.rank_steps(lambda one: 2.0, 2)
    next(steps)
    assert [graph.rank(index) for index in range(3)] == [3.0, 2.0, 1.0]
    assert list(steps)
    assert [graph.rank(index) for index in range(4)] == [6.0, 4.0, 2.0, 0.0]
    assert graph.ranked == 2


def test_bytes_are_those_of_items_that_a_predecessor_writes() -> None:
    extras = {
        0: TaskExtras(outputs=(DataItem("x"), DataItem("y"))),
        1: TaskExtras(outputs=(DataItem("z"),)),
        2: TaskExtras(
            inputs=(
                DataItem("x", 100),
                DataItem("y", 20),
                DataItem("z", 7),
                DataItem("far", 5, ("zone-a",)),
                DataItem("nowhere", 5),
                DataItem("nothing", 0, ("zone-a",)),
                DataItem("negative", -5, ("zone-a",)),
            )
        ),
    }
    dag = dag_of(linked([task(0, ()), task(1, ()), task(2, (0,))]), extras)
    transfers = Transfers(dag)
    assert dict(transfers.edges(2)) == {0: 120}, "task 1 is no predecessor"
    assert transfers.outside(2) == [(5, ("far", "zone-a"))]
    assert transfers.any()
    assert not transfers.edges(0)
    dag.tasks.append(task(3, (2,)))
    dag.extras[2] = extras[2]
    dag.extras[3] = TaskExtras(inputs=(DataItem("x", 1),))
    linked(dag.tasks)
    assert not transfers.edges(3), "task 0 is no direct predecessor"
    dag.tasks.append(task(4, (0, 3)))
    dag.extras[4] = TaskExtras(inputs=(DataItem("x", 9),))
    linked(dag.tasks)
    assert dict(transfers.edges(4)) == {0: 9}
    assert BANDWIDTH > 0


def test_a_dag_of_which_nothing_moves_has_no_transfers() -> None:
    extras = {0: TaskExtras(labels=(("a", "b"),))}
    assert not Transfers(dag_of([task(0, ())], extras)).any()
