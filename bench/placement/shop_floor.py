"""Flexible job shops by the real scheduler on virtual time: an agent is a machine, a DAG is all jobs.

An operation has a time of its own on each machine, and times are known: clients say what the best machine
takes, and every operation has been done before on each machine that can do it (`teach`), which is how a
user's cluster would know what the others take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.placement.jobshop import BEST_KNOWN, JobShop, Plan, Slot, makespan, violations
from bench.placement.quality import geometric_mean
from bench.placement.schedules import Problem
from bench.placement.virtual import VirtualCluster, agent_spec
from bench.placement.workload import LONGEST_MS, Workload, expected_ms
from coordinator.core.kinds import kind_of
from coordinator.core.model import AgentSpec, Requirements, TaskBlock, TaskFamily, TaskProfile
from coordinator.scheduling.costs.weights import SEARCH
from coordinator.scheduling.learning.estimates import Estimates

_DONE_BEFORE: Final = 10
"""Times that each operation has been done on each of its machines."""

_BEFORE: Final = 0
"""The number of the DAG in which they were: no run has it."""


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
    schedule = cluster_of(shop).run().schedule
    # Times of these files are whole; sums of floats on the clock of a run may not be.
    slots = iter(
        Slot(agent, round(start), round(finish))
        for agent, start, finish in zip(schedule.agent, schedule.start, schedule.finish, strict=True)
    )
    return [[next(slots) for _ in job] for job in shop.jobs]


def cluster_of(shop: JobShop) -> VirtualCluster:
    """Its machines, which have done all of its operations before, and all jobs as a workload."""
    problem = problem_of(shop)
    agents = [_machine(at, np.isfinite(problem.costs[:, at])) for at in range(shop.machines)]
    workload = _workload(shop, problem)
    cluster = VirtualCluster(problem, workload, agents, SEARCH)
    teach(cluster.snapshot.estimates, problem, workload, agents)
    return cluster


def teach(estimates: Estimates, problem: Problem, workload: Workload, agents: Sequence[AgentSpec]) -> None:
    """Let every operation have been done on each of its machines, some times over."""
    known = [
        (kind_of(profile, expected), agents[machine].agent_id, problem.costs.item(row, machine), expected)
        for row, (profile, expected) in enumerate(
            zip(workload.profiles, workload.block.expected_ms, strict=True)
        )
        for machine in np.flatnonzero(np.isfinite(problem.costs[row])).tolist()
    ]
    for _ in range(_DONE_BEFORE):
        for kind, agent_id, seconds, expected in known:
            estimates.observe(kind, _BEFORE, agent_id, seconds, expected)
        while estimates.renew():
            pass
    estimates.forget_dag(_BEFORE)


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


def _machine(at: int, can: NDArray[np.bool_]) -> AgentSpec:
    skills = tuple((_skill(row), 1) for row in np.flatnonzero(can).tolist())
    return msgspec.structs.replace(agent_spec(at), capabilities=skills)


def _workload(shop: JobShop, problem: Problem) -> Workload:
    """Every operation is of a type of its own."""
    size = len(problem)
    needs = [Requirements(capabilities=((_skill(row), 1),)) for row in range(size)]
    profiles = [
        TaskProfile(_skill(row), TaskFamily.COMPUTE, some, timeout_ms=LONGEST_MS)
        for row, some in enumerate(needs)
    ]
    depends = [tuple(parent for parent, _ in edges) for edges in problem.before]
    ids = [str(row) for row in range(size)]
    expected = [expected_ms(seconds) for seconds in problem.costs.min(axis=1).tolist()]
    block = TaskBlock(0, ids, list(range(size)), depends, [b""] * size, expected, {})
    return Workload(shop.name, profiles, block)


def _skill(row: int) -> str:
    return f"operation-{row:06}"
