"""Flexible job shops by the real scheduler on virtual time: an agent is a machine, a DAG is all jobs.

An operation has a time of its own on each machine. Of tasks the scheduler knows how much work they are, of
agents how fast they are, and of a pair no more than whether it can be. So it is told what comes closest: the
work of each operation and the speed of each machine whose quotients fit the real times best, and, as skills,
which machines are worth it for which operation.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.placement.instances import SHORTEST_S, Floats
from bench.placement.jobshop import BEST_KNOWN, JobShop, Plan, Slot, makespan, violations
from bench.placement.quality import geometric_mean
from bench.placement.schedules import Problem
from bench.placement.virtual import VirtualCluster, agent_spec
from bench.placement.workload import LONGEST_MS, Workload, expected_ms
from coordinator.core.model import AgentSpec, Requirements, TaskBlock, TaskFamily, TaskProfile
from coordinator.scheduling.weights import Policy, Weights

POLICY: Final = Policy("job-shop", Weights(), rivals=1)
"""There is one workpiece: a second attempt beside the first cannot be."""

TOLERATED: Final = 2.0
"""Machines that take longer than so many times what the best one takes are not worth it."""

_FIT_STEPS: Final = 50
"""Of the fit of speeds: it converges fast."""


class ShopRun(msgspec.Struct, frozen=True):
    """What came of a shop; `ratio` is to the best known makespan, None where that is not known to us."""

    name: str
    operations: int
    machines: int
    makespan: float
    best_known: int | None
    ratio: float | None


class ShopReport(msgspec.Struct, frozen=True):
    """As written to a file; `ratio` is the geometric mean of those that there are."""

    ratio: float | None
    shops: list[ShopRun]
    machine: dict[str, str | int | float]


def shop_report(runs: list[ShopRun], machine: dict[str, str | int | float]) -> ShopReport:
    """Of these runs."""
    return ShopReport(geometric_mean(run.ratio for run in runs), runs, machine)


def run_shop(shop: JobShop) -> ShopRun:
    """Raises Stalled, and RuntimeError for a plan that cannot be."""
    plan = plan_of(shop)
    if wrong := violations(shop, plan):
        raise RuntimeError(f"{shop.name}: {wrong[0]}")
    took, best = makespan(plan), BEST_KNOWN.get(shop.name)
    ratio = None if best is None else round(took / best, 6)
    return ShopRun(shop.name, sum(map(len, shop.jobs)), shop.machines, took, best, ratio)


def plan_of(shop: JobShop) -> Plan:
    """What the scheduler makes of it."""
    problem = problem_of(shop)
    worth = problem.costs <= TOLERATED * problem.costs.min(axis=1, keepdims=True)
    work, speeds = fit(np.where(worth, problem.costs, np.inf))
    agents = [_machine(at, speed, worth[:, at]) for at, speed in enumerate(speeds.tolist())]
    schedule = VirtualCluster(problem, _workload(shop, problem, work), agents, POLICY).run().schedule
    # Times of these files are whole; sums of floats on the clock of a run may not be.
    slots = iter(
        Slot(agent, round(start), round(finish))
        for agent, start, finish in zip(schedule.agent, schedule.start, schedule.finish, strict=True)
    )
    return [[next(slots) for _ in job] for job in shop.jobs]


def problem_of(shop: JobShop) -> Problem:
    """Operations as tasks, one job after the other; infinite where a machine cannot do one."""
    operations = [operation for job in shop.jobs for operation in job]
    costs = np.full((len(operations), shop.machines), np.inf)
    for row, operation in enumerate(operations):
        for machine, seconds in operation.items():
            costs[row, machine] = seconds
    depends: list[tuple[int, ...]] = []
    for job in shop.jobs:
        first = len(depends)
        depends += [(first + at - 1,) if at else () for at in range(len(job))]
    return Problem.from_table(costs, depends, [(0.0,) * len(before) for before in depends])


def fit(costs: Floats) -> tuple[Floats, Floats]:
    """Work by row and speed by column whose quotients are closest to the finite costs, in logarithms."""
    known = np.isfinite(costs)
    logs = np.log(np.maximum(np.where(known, costs, 1.0), SHORTEST_S))
    work, speed = np.zeros(len(costs)), np.zeros(costs.shape[1])
    rows, columns = known.sum(axis=1), np.maximum(known.sum(axis=0), 1)
    for _ in range(_FIT_STEPS):
        work = (known * (logs + speed)).sum(axis=1) / rows
        speed = (known * (work[:, None] - logs)).sum(axis=0) / columns
    return np.exp(work), np.exp(speed)


def _machine(at: int, speed: float, worth: NDArray[np.bool_]) -> AgentSpec:
    skills = tuple((_skill(row), 1) for row in np.flatnonzero(worth).tolist())
    return msgspec.structs.replace(agent_spec(at, speed), capabilities=skills)


def _workload(shop: JobShop, problem: Problem, work: Floats) -> Workload:
    """Every operation is of a type of its own."""
    size = len(problem)
    needs = [Requirements(capabilities=((_skill(row), 1),)) for row in range(size)]
    profiles = [
        TaskProfile(_skill(row), TaskFamily.COMPUTE, some, timeout_ms=LONGEST_MS)
        for row, some in enumerate(needs)
    ]
    depends = [tuple(parent for parent, _ in edges) for edges in problem.before]
    ids = [str(row) for row in range(size)]
    expected = [expected_ms(seconds) for seconds in work.tolist()]
    block = TaskBlock(0, ids, list(range(size)), depends, [b""] * size, expected, {})
    return Workload(shop.name, profiles, block)


def _skill(row: int) -> str:
    return f"operation-{row:06}"
