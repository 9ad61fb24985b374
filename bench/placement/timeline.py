"""When an agent could run a task: the gaps in what was planned so far (insertion-based, as HEFT has it)."""

from __future__ import annotations

from bisect import bisect_right

from bench.placement.schedules import Problem, Schedule


class Timeline:
    """Plans task by task, each after those that it depends on."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._costs: list[list[float]] = problem.costs.tolist()
        count = len(problem)
        self._agent = [-1] * count
        self._start = [0.0] * count
        self._finish = [0.0] * count
        self._starts: list[list[float]] = [[] for _ in range(problem.agents)]
        self._ends: list[list[float]] = [[] for _ in range(problem.agents)]

    def finishes(self, task: int) -> list[float]:
        """By agent, the earliest end of the task there."""
        costs = self._costs[task]
        return [self._fit(at, ready, costs[at]) + costs[at] for at, ready in enumerate(self._arrivals(task))]

    def place(self, task: int, agent: int) -> None:
        """Run it on this agent, as early as possible."""
        cost = self._costs[task][agent]
        start = self._fit(agent, self._arrivals(task)[agent], cost)
        self._agent[task], self._start[task], self._finish[task] = agent, start, start + cost
        at = bisect_right(self._starts[agent], start)
        self._starts[agent].insert(at, start)
        self._ends[agent].insert(at, start + cost)

    def schedule(self) -> Schedule:
        """Once every task has its place."""
        return Schedule(self._agent, self._start, self._finish)

    def _arrivals(self, task: int) -> list[float]:
        """By agent, when all that the task reads is there."""
        apart = 0.0
        local: dict[int, float] = {}
        edges = self._problem.before[task]
        # An agent waits for all data that comes from others; its own is there at once.
        for parent, seconds in edges:
            apart = max(apart, self._finish[parent] + seconds)
        result = [apart] * self._problem.agents
        for parent, _ in edges:
            agent = self._agent[parent]
            if agent not in local:
                local[agent] = max(
                    self._finish[other] + (seconds if self._agent[other] != agent else 0.0)
                    for other, seconds in edges
                )
                result[agent] = local[agent]
        return result

    def _fit(self, agent: int, ready: float, cost: float) -> float:
        """The start of the first gap of this length from `ready` on."""
        starts, ends = self._starts[agent], self._ends[agent]
        at = bisect_right(ends, ready)
        free = ready
        while at < len(starts) and starts[at] < free + cost:
            free = max(free, ends[at])
            at += 1
        return free
