"""What decisions cost: the real planner and scheduler on snapshots of many agents and waiting tasks.

Before every measured decision time goes on and an agent gets and loses a task, so that nothing is answered
from caches that a leader would not have. The least of all repeats tells what a decision would cost if nothing
else ran.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import numpy as np

from coordinator.core.kinds import kind_of
from coordinator.core.model import (
    AgentSpec,
    Priority,
    Requirements,
    Resources,
    TaskFamily,
    TaskProfile,
)
from coordinator.scheduling.costs.weights import Policy
from coordinator.scheduling.plans.planner import plan_by_cost
from coordinator.scheduling.plans.solver import Plan, PlanLimits
from coordinator.scheduling.scheduler import Scheduler
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import WaitingTask

CLASSES: Final = 100
AGENT_COUNTS: Final = (100, 1_000, 10_000)
TASK_COUNTS: Final = (1_000, 10_000, 100_000)
SINGLE_REPEATS: Final = 1_000
"""Of one task by itself: enough for a 99th percentile."""

_SLOTS: Final = 3
_SLOWEST: Final = 0.5
_QUICKEST: Final = 2.0
_SKILLS: Final = 7
_TYPES: Final = 20
_FAMILIES: Final = (
    TaskFamily.MODEL,
    TaskFamily.TOOL,
    TaskFamily.COMPUTE,
    TaskFamily.IO,
    TaskFamily.COMMUNICATION,
)
_WARM_UP: Final = 3
_SEED: Final = 1
_STEP_S: Final = 0.1
_ENDED_S: Final = (0.9, 1.1)
_LOOP: Final = 100_000
_DOUBLES: Final = 1_000
_PRODUCTS: Final = 10_000


class Cost(msgspec.Struct, frozen=True):
    """Microseconds per decision: of a round, its time over the tasks that it placed."""

    what: str
    agents: int
    waiting: int
    classes: int
    placed: int
    median_us: float
    p99_us: float
    least_us: float
    repeats: int


class Calibration(msgspec.Struct, frozen=True):
    """What the machine does at this hour, so that figures of slow and fast days can be compared: a turn of an
    empty Python loop, and numpy's product of 1,000 doubles."""

    loop_ns: float
    multiply_ns: float


class SpeedReport(msgspec.Struct, frozen=True):
    """As written to a file; `calibration` before and after all that was measured."""

    machine: dict[str, str | int | float]
    calibration: tuple[Calibration, Calibration]
    settings: dict[str, object]
    decisions: list[Cost]
    growth: list[Cost]


def calibrate() -> Calibration:
    """Medians."""
    left, right, product = (np.full(_DOUBLES, value) for value in (1.5, 0.5, 0.0))

    def loop() -> None:
        for _ in range(_LOOP):
            pass

    def multiply() -> None:
        for _ in range(_PRODUCTS):
            np.multiply(left, right, out=product)

    loops, products = ([_seconds(what) for _ in range(20)] for what in (loop, multiply))
    return Calibration(
        round(float(np.median(loops)) / _LOOP * 1e9, 2),
        round(float(np.median(products)) / _PRODUCTS * 1e9, 1),
    )


def decisions(agents: int, tasks: int, policy: Policy, repeats: int, zones: int = 1) -> Iterator[Cost]:
    """Full rounds of tasks that are alike by hundreds and that are all distinct, and one urgent task."""
    most = PlanLimits().max_choices
    for waiting, classes in ((most, CLASSES), (tasks, CLASSES), (most, most)):
        yield measure_round(agents, waiting, classes, policy, repeats, zones)
    yield from measure_single(agents, policy)


def growth(policy: Policy, repeats: int) -> Iterator[Cost]:
    """Full rounds by the numbers of agents and of waiting tasks."""
    for agents in AGENT_COUNTS:
        for tasks in TASK_COUNTS:
            yield measure_round(agents, tasks, CLASSES, policy, repeats)


def measure_round(
    agents: int, tasks: int, classes: int, policy: Policy, repeats: int, zones: int = 1
) -> Cost:
    """Rounds, by all that a leader does to decide."""
    snapshot = snapshot_of(agents, tasks, classes, zones)
    scheduler = Scheduler(snapshot, policy, PlanLimits())
    return _cost("round", snapshot, lambda now_s: scheduler.decide(now_s).plan, repeats)


def measure_single(agents: int, policy: Policy, repeats: int = SINGLE_REPEATS) -> Iterator[Cost]:
    """One urgent task that waits alone: by the planner, by all that a leader does to decide, and by the same
    after an end, which teaches something."""
    snapshot, limits = snapshot_of(agents, 1, 1), PlanLimits()
    scheduler = Scheduler(snapshot, policy, limits)

    def whole(now_s: float) -> Plan:
        return scheduler.decide(now_s).plan

    yield _cost("single", snapshot, lambda now_s: plan_by_cost(snapshot, limits, policy, now_s), repeats)
    yield _cost("single, whole decision", snapshot, whole, repeats)
    yield _cost("single, after an end", snapshot, whole, repeats, ends=True)


def snapshot_of(agents: int, tasks: int, classes: int, zones: int = 1) -> Snapshot:
    """Agents of three slots, of which one is taken, and tasks of so many classes that ask for cores, memory
    and a skill. Each zone has a part of the range of speeds for itself."""
    chance, snapshot = np.random.default_rng(_SEED), Snapshot()
    running = _profile(0, Priority.MEDIUM)
    for at in range(agents):
        spec = AgentSpec(
            f"agent-{at:05}",
            "bench",
            _SLOTS,
            2 * _SLOTS,
            speed=_SLOWEST + (_QUICKEST - _SLOWEST) * (at % zones + float(chance.uniform())) / zones,
            zone=f"zone-{at % zones}",
            busy_watts=float(chance.uniform(50, 300)),
            capabilities=((f"skill-{at % _SKILLS}", 3),),
            resources=Resources(32_000, 64 << 30),
        )
        snapshot.agents.put(spec, epoch=1)
        snapshot.hold(spec.agent_id, tasks + at, 1, running, int(chance.uniform(500, 5_000)), 0.0)
    profiles = [_profile(at, Priority.URGENT if tasks == 1 else Priority.MEDIUM) for at in range(classes)]
    for at in range(tasks):
        expected_ms, rank_s = int(chance.uniform(500, 5_000)), float(chance.uniform(1, 100))
        snapshot.waiting.add(
            profiles[at % classes], WaitingTask.ranked(1_000, 1_000, at, 1, "", expected_ms, rank_s)
        )
    return snapshot


def _profile(at: int, priority: Priority) -> TaskProfile:
    needs = Requirements(Resources(100 + at, 1 << 20), ((f"skill-{at % _SKILLS}", at % 3),))
    return TaskProfile(f"type-{at % _TYPES}", _FAMILIES[at % len(_FAMILIES)], needs, priority)


def _cost(
    what: str, snapshot: Snapshot, decide: Callable[[float], Plan], repeats: int, *, ends: bool = False
) -> Cost:
    """Each decision by the tasks that it placed itself, after a task has completed if there are `ends`."""
    agent_id, taken = snapshot.agents.agent_id(0), _profile(0, Priority.MEDIUM)
    took_us, placed = [], 0
    gc.collect()
    for at in range(_WARM_UP + repeats):
        now_s, key = 1.0 + at * _STEP_S, -1 - at
        snapshot.hold(agent_id, key, 1, taken, 1_000, now_s)
        snapshot.release(agent_id, key, 1)
        if ends:
            snapshot.estimates.observe(kind_of(taken, 1_000), 0, agent_id, _ENDED_S[at % 2], 1_000)
        began = time.perf_counter()
        plan = decide(now_s)
        seconds, placed = time.perf_counter() - began, plan.placed
        took_us.append(seconds / max(1, placed) * 1e6)
    median_us, p99_us, least_us = np.percentile(took_us[_WARM_UP:], (50, 99, 0))
    waiting = snapshot.waiting
    return Cost(
        what,
        len(snapshot.agents.rows),
        len(waiting),
        len(waiting.classes),
        placed,
        round(float(median_us), 2),
        round(float(p99_us), 2),
        round(float(least_us), 2),
        repeats,
    )


def _seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began
