"""CPoP (Topcuoglu, Hariri and Wu 2002): the critical path on one agent, all else where it ends first."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from bench.placement.heft import upward_ranks
from bench.placement.schedules import Problem, Schedule
from bench.placement.timeline import Timeline


def downward_ranks(problem: Problem) -> list[float]:
    """By task, the length of the longest path to it, without itself, on mean costs."""
    means: list[float] = problem.costs.mean(axis=1).tolist()
    ranks: list[float] = []
    for edges in problem.before:
        ranks.append(max((ranks[parent] + means[parent] + seconds for parent, seconds in edges), default=0.0))
    return ranks


def cpop(problem: Problem) -> Schedule:
    """Ready tasks by the length of the longest path through them."""
    upward, downward = upward_ranks(problem), downward_ranks(problem)
    priority = [up + down for up, down in zip(upward, downward, strict=True)]
    critical = _critical_path(problem, priority)
    favourite = int(problem.costs[critical].sum(axis=0).argmin())
    path = set(critical)
    timeline = Timeline(problem)
    for task in ready_first(problem, priority):
        finishes = timeline.finishes(task)
        timeline.place(task, favourite if task in path else finishes.index(min(finishes)))
    return timeline.schedule()


def _critical_path(problem: Problem, priority: list[float]) -> list[int]:
    entries = [task for task, edges in enumerate(problem.before) if not edges]
    path = [max(entries, key=priority.__getitem__)]
    while edges := problem.after[path[-1]]:
        path.append(max((child for child, _ in edges), key=priority.__getitem__))
    return path


def ready_first(problem: Problem, priority: list[float]) -> list[int]:
    """All tasks, each after those that it needs, of the ready ones that of the highest priority first."""
    waiting = [len(edges) for edges in problem.before]
    ready = [(-priority[task], task) for task, count in enumerate(waiting) if not count]
    heapify(ready)
    order = []
    while ready:
        _, task = heappop(ready)
        order.append(task)
        for child, _ in problem.after[task]:
            waiting[child] -= 1
            if not waiting[child]:
                heappush(ready, (-priority[child], child))
    return order
