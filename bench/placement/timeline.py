"""When an agent could run a task: the gaps in what was planned so far (insertion-based, as HEFT has it)."""

from __future__ import annotations

from bisect import bisect_right
from math import inf

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
        # The gaps of each agent, in order; the last has no end.
        self._opens: list[list[float]] = [[0.0] for _ in range(problem.agents)]
        self._closes: list[list[float]] = [[inf] for _ in range(problem.agents)]

    def finishes(self, task: int) -> list[float]:
        """By agent, the earliest end of the task there."""
        costs = self._costs[task]
        return [
            self._fit(at, ready, costs[at])[1] + costs[at] for at, ready in enumerate(self._arrivals(task))
        ]

    def place(self, task: int, agent: int) -> None:
        """Run it on this agent, as early as possible."""
        cost = self._costs[task][agent]
        at, start = self._fit(agent, self._arrivals(task)[agent], cost)
        self._agent[task], self._start[task], self._finish[task] = agent, start, start + cost
        opens, closes = self._opens[agent], self._closes[agent]
        left = [(opens[at], start), (start + cost, closes[at])]
        rest = [(begin, end) for begin, end in left if begin < end]
        opens[at : at + 1] = [begin for begin, _ in rest]
        closes[at : at + 1] = [end for _, end in rest]

    def schedule(self) -> Schedule:
        """Once every task has its place."""
        return Schedule(self._agent, self._start, self._finish)

    def _arrivals(self, task: int) -> list[float]:
        """By agent, when all that the task reads is there."""
        edges = self._problem.before[task]
        result = [max((self._finish[parent] + seconds for parent, seconds in edges), default=0.0)]
        result *= self._problem.agents
        # What an agent wrote itself does not travel.
        for agent in {self._agent[parent] for parent, _ in edges}:
            result[agent] = max(
                self._finish[parent] + (seconds if self._agent[parent] != agent else 0.0)
                for parent, seconds in edges
            )
        return result

    def _fit(self, agent: int, ready: float, cost: float) -> tuple[int, float]:
        """The first gap that is this long from `ready` on, and the start in it."""
        opens, closes = self._opens[agent], self._closes[agent]
        at = bisect_right(closes, ready)
        start = max(ready, opens[at])
        while start + cost > closes[at]:
            at += 1
            start = opens[at]
        return at, start
