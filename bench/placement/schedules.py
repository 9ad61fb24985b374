"""What a static planner gets and gives, and whether a schedule can be: no agent at two tasks at once, no task
before its inputs are there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from bench.placement.instances import Floats, Instance

Edges = list[tuple[tuple[int, float], ...]]
"""By task: the other end, and the seconds that the data takes between two agents."""

_ROUNDING: Final = 1e-9
"""Relative to the makespan: by so much may sums of floats disagree."""


class Problem(msgspec.Struct, frozen=True):
    """`costs[task, agent]` in seconds; a task depends on lower indexes alone. `before` leads to the tasks
    that it needs, `after` to those that need it."""

    costs: Floats
    before: Edges
    after: Edges

    @classmethod
    def of(cls, instance: Instance, work: Floats, speeds: Floats, bandwidth: float) -> Problem:
        """The instance with this work on agents of these speeds, in a full mesh of this many bytes per
        second."""
        transfers = [tuple(size / bandwidth for size in sizes) for sizes in instance.edge_bytes]
        return cls.from_table(work[:, None] / speeds[None, :], instance.depends, transfers)

    @classmethod
    def from_table(
        cls, costs: Floats, depends: list[tuple[int, ...]], transfers: list[tuple[float, ...]]
    ) -> Problem:
        """Costs of any kind; `transfers[t][k]` are the seconds from `depends[t][k]` to `t`."""
        before = [tuple(zip(*edges, strict=True)) for edges in zip(depends, transfers, strict=True)]
        after: list[list[tuple[int, float]]] = [[] for _ in before]
        for task, edges in enumerate(before):
            for parent, seconds in edges:
                after[parent].append((task, seconds))
        return cls(np.asarray(costs, np.float64), before, [tuple(edges) for edges in after])

    def __len__(self) -> int:
        return len(self.before)

    @property
    def agents(self) -> int:
        """How many there are."""
        return int(self.costs.shape[1])


class Schedule(msgspec.Struct, frozen=True):
    """By task: its agent, and when it runs, in seconds."""

    agent: list[int]
    start: list[float]
    finish: list[float]

    @property
    def makespan(self) -> float:
        """When the last task ends."""
        return max(self.finish)

    def order(self) -> list[int]:
        """Tasks as they start, each after those that it depends on."""
        return sorted(range(len(self.agent)), key=lambda task: (self.start[task], self.finish[task], task))

    def by_agent(self, agents: int) -> list[list[int]]:
        """The tasks of each agent, in the order in which it runs them."""
        rows: list[list[int]] = [[] for _ in range(agents)]
        for task in self.order():
            rows[self.agent[task]].append(task)
        return rows


def violations(problem: Problem, schedule: Schedule) -> list[str]:
    """What is wrong with a schedule, empty if nothing is."""
    slack = _ROUNDING * max(1.0, schedule.makespan)
    return [*_of_tasks(problem, schedule, slack), *_of_agents(problem, schedule, slack)]


def lower_bound(instance: Instance, work: Floats, speeds: Floats) -> float:
    """No schedule is shorter: the critical path on the fastest agent, or all work on all agents."""
    seconds = (work / speeds.max()).tolist()
    path: list[float] = []
    for own, before in zip(seconds, instance.depends, strict=True):
        path.append(own + max((path[parent] for parent in before), default=0.0))
    return max(*path, float(work.sum() / speeds.sum()))


def _of_tasks(problem: Problem, schedule: Schedule, slack: float) -> Iterator[str]:
    costs = problem.costs.tolist()
    for task, edges in enumerate(problem.before):
        agent, start, finish = schedule.agent[task], schedule.start[task], schedule.finish[task]
        if start < -slack or abs(start + costs[task][agent] - finish) > slack:
            yield f"task {task} runs {start} .. {finish} on agent {agent}, and takes {costs[task][agent]}"
        for parent, seconds in edges:
            arrival = schedule.finish[parent] + (seconds if schedule.agent[parent] != agent else 0.0)
            if start < arrival - slack:
                yield f"task {task} starts at {start}, before its data of task {parent} at {arrival}"


def _of_agents(problem: Problem, schedule: Schedule, slack: float) -> Iterator[str]:
    for agent, row in enumerate(schedule.by_agent(problem.agents)):
        for earlier, later in itertools.pairwise(row):
            if schedule.start[later] < schedule.finish[earlier] - slack:
                yield f"agent {agent} starts task {later} before task {earlier} has ended"
