"""Who waits for whom: edges from explicit dependencies and from declared data, and the order that they
allow."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Final

from coordinator.dag.cycles import describe_cycle, find_cycle
from coordinator.dag.draft import TaskDraft
from coordinator.dag.limits import DagLimits
from coordinator.errors import DagCycle, DuplicateProducer, DuplicateTaskId, UnknownDependency

_COMPARED: Final = 2_000
"""Ids looked at for one that an unknown id may have meant: comparing is slow."""


def index_tasks(tasks: Sequence[TaskDraft]) -> dict[str, int]:
    """Positions by id. Raises DuplicateTaskId."""
    positions = {task.id: at for at, task in enumerate(tasks)}
    if len(positions) < len(tasks):
        seen: dict[str, int] = {}
        for at, task in enumerate(tasks):
            first = seen.setdefault(task.id, at)
            if first != at:
                raise DuplicateTaskId(
                    f"tasks {first + 1} and {at + 1} have the same id {task.id!r}: ids must be unique",
                    task_id=task.id,
                )
    return positions


def find_predecessors(
    tasks: Sequence[TaskDraft], limits: DagLimits, *, closed: bool = True
) -> list[tuple[int, ...]]:
    """Per task, the positions of those that it waits for, ascending: named ones and the producers of its
    inputs.

    An input that no task outputs comes from outside. In a `closed` list every named dependency must be in
    it; in an open one the others are left out of the result.

    Raises:
        DuplicateTaskId, DuplicateProducer, LimitExceeded
        UnknownDependency: with ids that may have been meant.
    """
    positions = index_tasks(tasks)
    producers = _find_producers(tasks)
    predecessors: list[tuple[int, ...]] = []
    edges = 0
    for task in tasks:
        before: set[int] = set()
        for name in task.depends_on:
            position = positions.get(name)
            if position is not None:
                before.add(position)
            elif closed:
                raise _unknown_dependency(task, name, positions)
        for item in task.inputs:
            if item.name in producers:
                before.add(producers[item.name])
        edges += len(before)
        predecessors.append(tuple(sorted(before)))
    limits.check("max_dag_edges", edges, "the number of dependencies in the DAG")
    return predecessors


def order_tasks(tasks: Sequence[TaskDraft], predecessors: Sequence[Sequence[int]]) -> list[int]:
    """Positions in topological order; where it leaves a choice, the task that was submitted first goes first.

    Raises:
        DagCycle: naming a cycle, each task before the one that depends on it.
    """
    if all(before[-1] < at for at, before in enumerate(predecessors) if before):
        return list(range(len(tasks)))
    waiting = [len(before) for before in predecessors]
    successors: list[list[int]] = [[] for _ in tasks]
    for at, before in enumerate(predecessors):
        for position in before:
            successors[position].append(at)
    ready = [at for at, count in enumerate(waiting) if not count]
    heapify(ready)
    order: list[int] = []
    while ready:
        position = heappop(ready)
        order.append(position)
        for at in successors[position]:
            waiting[at] -= 1
            if not waiting[at]:
                heappush(ready, at)
    if len(order) < len(tasks):
        raise _named_cycle(tasks, predecessors, waiting)
    return order


def _find_producers(tasks: Sequence[TaskDraft]) -> dict[str, int]:
    """Positions by the name of what they output."""
    producers: dict[str, int] = {}
    for at, task in enumerate(tasks):
        for item in task.outputs:
            other = producers.setdefault(item.name, at)
            if other != at:
                raise DuplicateProducer(
                    f"tasks {tasks[other].id!r} and {task.id!r} both declare the output {item.name!r}: "
                    "give each output to one task",
                    output=item.name,
                    first=tasks[other].id,
                    second=task.id,
                )
    return producers


def _unknown_dependency(task: TaskDraft, name: str, known: Iterable[str]) -> UnknownDependency:
    alike = (other for other in known if abs(len(other) - len(name)) <= 2)
    matches = difflib.get_close_matches(name, list(islice(alike, _COMPARED)))
    hint = f"; did you mean {' or '.join(map(repr, matches))}?" if matches else ""
    return UnknownDependency(
        f"task {task.id!r} depends on {name!r}, and no task of the DAG has this id{hint}",
        task_id=task.id,
        dependency=name,
        close_matches=",".join(matches),
    )


def _named_cycle(
    tasks: Sequence[TaskDraft], predecessors: Sequence[Sequence[int]], waiting: Sequence[int]
) -> DagCycle:
    cycle = find_cycle(predecessors, [at for at, count in enumerate(waiting) if count])
    named = describe_cycle([tasks[at].id for at in cycle])
    return DagCycle(
        f"the dependencies form a cycle: {named} (each depends on the one before it); remove one of these",
        cycle=named,
        length=len(cycle),
    )
