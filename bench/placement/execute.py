"""A static plan meets reality: agents and their order stay, times do not."""

from __future__ import annotations

from bench.placement.schedules import Problem, Schedule


def execute(plan: Schedule, real: Problem) -> Schedule:
    """Each agent runs its tasks in the planned order at their real costs: as soon as the one before has ended
    and the inputs are there, which set out when they are written."""
    costs: list[list[float]] = real.costs.tolist()
    start, finish = [0.0] * len(real), [0.0] * len(real)
    free = [0.0] * real.agents
    for task in plan.order():
        agent = plan.agent[task]
        ready = free[agent]
        for parent, seconds in real.before[task]:
            ready = max(ready, finish[parent] + (seconds if plan.agent[parent] != agent else 0.0))
        start[task], finish[task] = ready, ready + costs[task][agent]
        free[agent] = finish[task]
    return Schedule(list(plan.agent), start, finish)
