"""Flexible job shops by the real scheduler on virtual time: an agent is a machine, a DAG is all jobs.

An operation has a time of its own on each machine. The scheduler knows of tasks how much work they are, of agents
how fast they are, and of both only what they can do: it is told the mean time of each operation over the machines
that can do it, and the speed of each machine by which these come closest to the real times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from bench.placement.instances import Floats
from bench.placement.jobshop import BEST_KNOWN, JobShop, Plan, Slot, makespan, violations
from bench.placement.schedules import Problem
from bench.placement.virtual import VirtualCluster, agent_spec
from bench.placement.workload import LONGEST_MS, Workload, expected_ms
from coordinator.core.model import AgentSpec, Requirements, TaskBlock, TaskFamily, TaskProfile
from coordinator.scheduling.weights import Policy, Weights

POLICY: Final = Policy("job-shop", Weights(), rivals=1)
"""There is one workpiece: a second attempt beside the first cannot be."""

_ROUNDS: Final = 50
"""Of the fit of speeds: it converges fast."""


class ShopRun(msgspec.Struct, frozen=True):
    """What came of a shop; `ratio` is to the best known makespan, None where that is not known to us."""

    name: str
    operations: int
    machines: int
    makespan: float
    best_known: int | None
    ratio: float | None


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
    work, speeds = fit(problem.costs)
    agents = [_machine(at, speeds, problem.costs) for at in range(shop.machines)]
    schedule = VirtualCluster(problem, _workload(shop, problem, work), agents, POLICY).run().schedule
    # Times of these files are whole; the clock of the run does not begin at 0.
    slots = iter(
        Slot(agent, round(start), round(finish))
        for agent, start, finish in zip(schedule.agent, schedule.start, schedule.finish, strict=True)
    )
    return [[next(slots) for _ in job] for job in shop.jobs]


def problem_of(shop: JobShop) -> Problem:
    """Operations of all jobs, one job after the other; infinite where a machine cannot do one."""
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
    logs = np.where(known, np.log(np.maximum(costs, 1e-3)), 0.0)
    work, speed = np.zeros(len(costs)), np.zeros(costs.shape[1])
    rows, columns = known.sum(axis=1), np.maximum(known.sum(axis=0), 1)
    for _ in range(_ROUNDS):
        work = (logs + known * speed).sum(axis=1) / rows
        speed = (known * work[:, None] - logs).sum(axis=0) / columns
    return np.exp(work), np.exp(speed)
