"""MinMin and MaxMin (Ibarra and Kim 1977) on DAGs: of the ready tasks that which could end first, or last, on
its best agent. Agents run tasks in the order of planning, without insertion."""

from __future__ import annotations

import numpy as np

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
    free = np.zeros(problem.agents)
    waiting = [len(edges) for edges in problem.before]
    ready = [task for task, left in enumerate(waiting) if not left]
    arrivals = np.zeros_like(problem.costs)
    while ready:
        ends = np.maximum(arrivals[ready], free) + problem.costs[ready]
        best = ends.min(axis=1)
        at = int(best.argmax() if longest_first else best.argmin())
        task, where = ready.pop(at), int(ends[at].argmin())
        agent[task], finish[task] = where, float(ends[at, where])
        start[task] = max(float(arrivals[task, where]), float(free[where]))
        free[where] = finish[task]
        for child, _ in problem.after[task]:
            waiting[child] -= 1
            if not waiting[child]:
                arrivals[child] = _arrivals(problem, child, agent, finish)
                ready.append(child)
    return Schedule(agent, start, finish)


def _arrivals(problem: Problem, task: int, agent: list[int], finish: list[float]) -> Floats:
    """By agent, when all that the task reads is there."""
    result = np.zeros(problem.agents)
    for parent, seconds in problem.before[task]:
        there = np.full(problem.agents, finish[parent] + seconds)
        there[agent[parent]] = finish[parent]
        np.maximum(result, there, out=result)
    return result
