"""HEFT (Topcuoglu, Hariri and Wu 2002): by upward rank, each to the agent where it ends first."""

from __future__ import annotations

from bench.placement.schedules import Problem, Schedule
from bench.placement.timeline import Timeline


def upward_ranks(problem: Problem) -> list[float]:
    """By task, the length of the longest path to the end, itself included, on mean costs."""
    ranks: list[float] = problem.costs.mean(axis=1).tolist()
    for task in range(len(problem) - 1, -1, -1):
        ranks[task] += max((seconds + ranks[child] for child, seconds in problem.after[task]), default=0.0)
    return ranks


def heft(problem: Problem) -> Schedule:
    """Of agents where it ends equally soon, the first."""
    ranks = upward_ranks(problem)
    timeline = Timeline(problem)
    # Indexes are topological, so that those of equal rank keep an order that can be.
    for task in sorted(range(len(problem)), key=lambda one: (-ranks[one], one)):
        finishes = timeline.finishes(task)
        timeline.place(task, finishes.index(min(finishes)))
    return timeline.schedule()
