"""What a DAG's shape says about its run: layers, critical path, slack, parallelism, and who depends on whom
(C3).

Tasks are named by their index. Durations are `expected_ms`; a task without an estimate counts as instant.
Nothing here knows of agents: times are those of a run where every task starts as soon as its dependencies
allow.
"""

from __future__ import annotations

from collections import Counter
from typing import cast

import msgspec
import networkx as nx

from coordinator.dag.builder import BuiltDag


class Schedule(msgspec.Struct, frozen=True):
    """Per task, in ms from the start: the earliest end of its run, and the latest that delays nothing."""

    earliest_end: list[int]
    latest_end: list[int]
    length_ms: int


class CriticalPath(msgspec.Struct, frozen=True):
    """The chain of tasks that bounds the makespan from below, and its length."""

    tasks: list[int]
    length_ms: int


def layers(built: BuiltDag) -> list[list[int]]:
    """Tasks by the length, in edges, of the longest chain before them: none depends on another of its
    layer."""
    depth: list[int] = []
    for before in built.block.depends:
        depth.append(1 + max(map(depth.__getitem__, before), default=-1))
    result: list[list[int]] = [[] for _ in range(1 + max(depth))]
    for index, level in enumerate(depth):
        result[level].append(index)
    return result


def schedule(built: BuiltDag) -> Schedule:
    """The critical path method, forward and backward (Kelley and Walker 1959)."""
    depends, durations = built.block.depends, built.block.expected_ms
    earliest: list[int] = []
    for before, duration in zip(depends, durations, strict=True):
        earliest.append(duration + max(map(earliest.__getitem__, before), default=0))
    length = max(earliest)
    latest = [length] * len(earliest)
    for index in range(len(latest) - 1, -1, -1):
        start = latest[index] - durations[index]
        for predecessor in depends[index]:
            latest[predecessor] = min(latest[predecessor], start)
    return Schedule(earliest, latest, length)


def slack(built: BuiltDag) -> list[int]:
    """Per task, by how many ms it may end later without delaying the DAG."""
    plan = schedule(built)
    return [latest - earliest for earliest, latest in zip(plan.earliest_end, plan.latest_end, strict=True)]


def critical_path(built: BuiltDag) -> CriticalPath:
    """The longest chain by duration; of several, the one that ends in the lowest indexes."""
    plan = schedule(built)
    ends = plan.earliest_end
    task = ends.index(plan.length_ms)
    path = [task]
    while built.block.depends[task]:
        task = max(built.block.depends[task], key=lambda before: (ends[before], -before))
        path.append(task)
    return CriticalPath(path[::-1], plan.length_ms)


def parallelism(built: BuiltDag) -> list[tuple[int, int]]:
    """How many tasks run at once: (from this ms on, tasks running) at every change, until 0 at the end."""
    change: Counter[int] = Counter()
    for end, duration in zip(schedule(built).earliest_end, built.block.expected_ms, strict=True):
        change[end - duration] += 1
        change[end] -= 1
    profile: list[tuple[int, int]] = []
    running = 0
    for at in sorted(change):
        running += change[at]
        if change[at]:
            profile.append((at, running))
    return profile


def graph(built: BuiltDag) -> nx.DiGraph[int]:
    """The DAG for networkx: nodes are indexes, edges go from a task to those that depend on it."""
    result: nx.DiGraph[int] = nx.DiGraph()
    result.add_nodes_from(range(len(built.block.ids)))
    result.add_edges_from(
        (before, index) for index, all_ in enumerate(built.block.depends) for before in all_
    )
    return result


def ancestors(built: BuiltDag, index: int) -> set[int]:
    """All that must complete before this task may start."""
    return cast("set[int]", nx.ancestors(graph(built), index))


def descendants(built: BuiltDag, index: int) -> set[int]:
    """All that cannot start before this task has completed."""
    return cast("set[int]", nx.descendants(graph(built), index))
