"""PEFT (Arabnejad and Barbosa 2014): each task where it and the best that can follow end first."""

from __future__ import annotations

import numpy as np

from bench.placement.cpop import ready_first
from bench.placement.instances import Floats
from bench.placement.schedules import Problem, Schedule
from bench.placement.timeline import Timeline


def optimistic_costs(problem: Problem) -> Floats:
    """By task and agent, the longest path from the task's end there to the end of all, were every agent
    free."""
    table = np.zeros_like(problem.costs)
    for task in range(len(problem) - 1, -1, -1):
        for child, seconds in problem.after[task]:
            onwards = table[child] + problem.costs[child]
            # Where it is, or on the best of all agents after the transfer.
            np.maximum(table[task], np.minimum(onwards, onwards.min() + seconds), out=table[task])
    return table


def peft(problem: Problem) -> Schedule:
    """Ready tasks by mean optimistic cost."""
    table = optimistic_costs(problem)
    rows: list[list[float]] = table.tolist()
    timeline = Timeline(problem)
    for task in ready_first(problem, table.mean(axis=1).tolist()):
        ends = [finish + after for finish, after in zip(timeline.finishes(task), rows[task], strict=True)]
        timeline.place(task, ends.index(min(ends)))
    return timeline.schedule()
