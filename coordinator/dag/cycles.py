"""Naming a cycle: one is found by walking backwards, then shortened by breadth-first searches through its
members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SEARCHES: Final = 64
"""Members of the first cycle from which a shorter one is looked for, at most."""

VISITS: Final = 1_000_000
"""Tasks that these searches may visit in all."""

NAMES_SHOWN: Final = 12
"""Members of a cycle that a message names."""


def find_cycle(predecessors: Sequence[Sequence[int]], remaining: Sequence[int]) -> list[int]:
    """A short cycle among the `remaining` tasks, each before the one that depends on it; it begins with the
    lowest.

    `remaining` are tasks that no topological order can take, so that each has a predecessor among them.
    """
    members = set(remaining)
    best = _walk_back(predecessors, members, min(remaining))
    searches = min(SEARCHES, VISITS // len(members))
    for start in sorted(best)[:searches]:
        shorter = _shortest_through(predecessors, members, start, len(best))
        best = shorter or best
    lowest = best.index(min(best))
    return best[lowest:] + best[:lowest]


def describe_cycle(names: Sequence[str]) -> str:
    """ "a -> b -> c -> a"; the middle of a very long cycle is left out and counted."""
    if len(names) > NAMES_SHOWN:
        half = NAMES_SHOWN // 2
        skipped = f"({len(names) - NAMES_SHOWN:,} more)"
        names = [*names[:half], skipped, *names[-half:]]
    return " -> ".join([*names, names[0]])


def _walk_back(predecessors: Sequence[Sequence[int]], members: set[int], start: int) -> list[int]:
    """The cycle that is met when predecessors are followed from `start`, in the direction of the edges."""
    seen: dict[int, int] = {}
    path: list[int] = []
    task = start
    while task not in seen:
        seen[task] = len(path)
        path.append(task)
        task = next(p for p in predecessors[task] if p in members)
    return path[seen[task] :][::-1]


def _shortest_through(
    predecessors: Sequence[Sequence[int]], members: set[int], start: int, below: int
) -> list[int] | None:
    """The shortest cycle through `start` if it has fewer than `below` members."""
    successor: dict[int, int] = {}
    frontier = [start]
    for _ in range(below - 1):
        reached: list[int] = []
        for task in frontier:
            for before in predecessors[task]:
                if before == start:
                    return _follow(successor, start, task)
                if before in members and before not in successor:
                    successor[before] = task
                    reached.append(before)
        frontier = reached
    return None


def _follow(successor: dict[int, int], start: int, first: int) -> list[int]:
    """`start`, then the way from `first`, which depends on it, up to the last task before `start` again."""
    cycle = [start]
    task = first
    while task != start:
        cycle.append(task)
        task = successor[task]
    return cycle
