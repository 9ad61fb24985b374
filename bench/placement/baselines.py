"""What users have today: policies that know neither run times nor the graph, on virtual time.

An agent runs one task at a time. Decisions take no time. The inputs of a task set out for its agent once it
is bound there, and the agent waits for them; what it wrote itself is there at once.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final

import msgspec

from bench.placement.instances import Floats
from bench.placement.schedules import Problem, Schedule

Loads = Sequence[int]
"""By agent, the tasks that wait for it or run there."""

Choose = Callable[[Loads, random.Random], int]


class Policy(msgspec.Struct, frozen=True):
    """With `choose`, a task is bound as soon as it is ready; without, it waits for an idle agent to take it,
    the oldest first. With `steals`, an idle agent takes over the last of the longest queue. Of several idle
    agents any is the first, or with `fastest_first` that of the highest advertised speed."""

    choose: Choose | None = None
    steals: bool = False
    fastest_first: bool = False


def _anyone(loads: Loads, chance: random.Random) -> int:
    return chance.randrange(len(loads))


def _shorter_of_two(loads: Loads, chance: random.Random) -> int:
    return min(chance.sample(range(len(loads)), min(2, len(loads))), key=loads.__getitem__)


def _least_loaded(loads: Loads, chance: random.Random) -> int:
    least = min(loads)
    return chance.choice([agent for agent, load in enumerate(loads) if load == least])


POLICIES: Final[Mapping[str, Policy]] = {
    "random": Policy(_anyone),
    "power_of_two": Policy(_shorter_of_two),
    "least_loaded": Policy(_least_loaded),
    "least_loaded_stealing": Policy(_least_loaded, steals=True),
    "fifo_pull": Policy(fastest_first=True),
}


def simulate(problem: Problem, policy: Policy, advertised: Floats, seed: int | str) -> Schedule:
    """A run at the real costs of the problem on agents that advertise these speeds. The seed decides what the
    policy leaves open: one for every workflow, or their luck is the same."""
    return _Run(problem, policy, advertised.tolist(), random.Random(seed)).schedule()


class _Run:
    """The queues, and which tasks run until when."""

    def __init__(
        self, problem: Problem, policy: Policy, advertised: list[float], chance: random.Random
    ) -> None:
        self._problem = problem
        self._policy = policy
        self._advertised = advertised
        self._chance = chance
        self._costs: list[list[float]] = problem.costs.tolist()
        count = len(problem)
        self._agent = [-1] * count
        self._bound = [0.0] * count
        self._start, self._finish = [0.0] * count, [0.0] * count
        self._waiting = [len(edges) for edges in problem.before]
        self._unbound: deque[int] = deque()
        self._queues: list[deque[int]] = [deque() for _ in range(problem.agents)]
        self._loads = [0] * problem.agents
        self._idle = list(range(problem.agents))
        self._ends: list[tuple[float, int]] = []

    def schedule(self) -> Schedule:
        self._release([task for task, left in enumerate(self._waiting) if not left], 0.0)
        self._start_idle(0.0)
        while self._ends:
            now = self._ends[0][0]
            ready: list[int] = []
            while self._ends and self._ends[0][0] == now:
                ready += self._end(heappop(self._ends)[1])
            self._release(ready, now)
            self._start_idle(now)
        return Schedule(self._agent, self._start, self._finish)

    def _end(self, task: int) -> list[int]:
        """Those that become ready."""
        agent = self._agent[task]
        self._loads[agent] -= 1
        self._idle.append(agent)
        ready = []
        for child, _ in self._problem.after[task]:
            self._waiting[child] -= 1
            if not self._waiting[child]:
                ready.append(child)
        return ready

    def _release(self, ready: list[int], now: float) -> None:
        choose = self._policy.choose
        for task in ready:
            if choose is None:
                self._unbound.append(task)
            else:
                self._bind(task, choose(self._loads, self._chance), now)

    def _bind(self, task: int, agent: int, now: float) -> None:
        self._agent[task], self._bound[task] = agent, now
        self._queues[agent].append(task)
        self._loads[agent] += 1

    def _start_idle(self, now: float) -> None:
        if self._policy.fastest_first:
            self._idle.sort(key=self._advertised.__getitem__, reverse=True)
        else:
            self._chance.shuffle(self._idle)
        # Nobody steals what its owner can begin now.
        self._idle = [agent for agent in self._idle if not self._run_next(agent, now)]
        self._idle = [
            agent for agent in self._idle if not (self._fetch(agent, now) and self._run_next(agent, now))
        ]

    def _fetch(self, agent: int, now: float) -> bool:
        """Whether the idle agent got a task into its empty queue."""
        if self._unbound:
            self._bind(self._unbound.popleft(), agent, now)
            return True
        if not self._policy.steals:
            return False
        victim = max(range(len(self._queues)), key=lambda one: len(self._queues[one]))
        if not self._queues[victim]:
            return False
        self._loads[victim] -= 1
        self._bind(self._queues[victim].pop(), agent, now)
        return True

    def _run_next(self, agent: int, now: float) -> bool:
        """Whether the idle agent had a task in its queue."""
        if not self._queues[agent]:
            return False
        task = self._queues[agent].popleft()
        start = now
        for parent, seconds in self._problem.before[task]:
            if self._agent[parent] != agent:
                start = max(start, self._bound[task] + seconds)
        self._start[task], self._finish[task] = start, start + self._costs[task][agent]
        heappush(self._ends, (self._finish[task], task))
        return True
