"""MinMin and MaxMin (Ibarra and Kim 1977) on DAGs: of the ready tasks that which could end first, or last, on
its best agent. Agents run tasks in the order of planning, without insertion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.placement.instances import Floats
from bench.placement.schedules import Problem, Schedule


def minmin(problem: Problem) -> Schedule:
    """Short tasks first."""
    return _plan(problem, longest_first=False)


def maxmin(problem: Problem) -> Schedule:
    """Long tasks first."""
    return _plan(problem, longest_first=True)


def _plan(problem: Problem, *, longest_first: bool) -> Schedule:
    count = len(problem)
    agent, start, finish = [-1] * count, [0.0] * count, [0.0] * count
    arrivals = np.zeros_like(problem.costs)
    free = np.zeros(problem.agents)
    never = -np.inf if longest_first else np.inf
    # By task, its earliest end and where that is; kept for the ready ones.
    best, where = np.full(count, never), np.full(count, -1)

    def look(tasks: NDArray[np.intp]) -> None:
        ends = np.maximum(arrivals[tasks], free) + problem.costs[tasks]
        where[tasks], best[tasks] = ends.argmin(axis=1), ends.min(axis=1)

    waiting = [len(edges) for edges in problem.before]
    look(np.array([task for task, left in enumerate(waiting) if not left]))
    for _ in range(count):
        task = int(best.argmax() if longest_first else best.argmin())
        chosen = int(where[task])
        agent[task], finish[task] = chosen, float(best[task])
        start[task] = max(float(arrivals[task, chosen]), float(free[chosen]))
        free[chosen], best[task], where[task] = finish[task], never, -1
        # Whoever ends soonest elsewhere still does: nobody is free earlier than before.
        look(np.flatnonzero(where == chosen))
        for child, _ in problem.after[task]:
            waiting[child] -= 1
            if not waiting[child]:
                arrivals[child] = _arrivals(problem, child, agent, finish)
                look(np.array([child]))
    return Schedule(agent, start, finish)


def _arrivals(problem: Problem, task: int, agent: list[int], finish: list[float]) -> Floats:
    """By agent, when all that the task reads is there."""
    result = np.zeros(problem.agents)
    for parent, seconds in problem.before[task]:
        there = np.full(problem.agents, finish[parent] + seconds)
        there[agent[parent]] = finish[parent]
        np.maximum(result, there, out=result)
    return result
