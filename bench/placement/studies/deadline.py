"""Tasks with deadlines among tasks without, more than the agents can do for a while: the share of deadlines
that are met, by how much is said of them (B4, E4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from bench.placement.fleet import START_S, Fleet
from bench.placement.platform import Platform
from bench.placement.studies.streams import MEAN_WORK_S, ROUND_S, arrivals, task
from bench.placement.study import BASELINE, Axis, Figures, Point, Study, baseline, mean_point
from coordinator.core.model import AgentSpec, DagHeader
from coordinator.dag.draft import DagDraft
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.weights import BALANCED, Policy

STUDY: Final = Study(
    "deadline",
    "How many deadlines are met while more comes than can be done, and what do others lose by it?",
    "deadlines that are said",
    Axis("others_s", "mean time from submitting a task without a deadline to its end", "s"),
    Axis("met", "deadlines met", "%"),
    (
        Axis("per_minute", "tasks done by the time the last one has come", "1/min"),
        Axis("makespan_s", "all done after", "s"),
    ),
    higher=True,
)

SAID: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of all deadlines: the others are there, and the scheduler is not told."""

COMES_FOR_S: Final = 90.0
UTILISATION: Final = 1.3
_AGENTS: Final = 12
_DEADLINES: Final = 0.5
"""Share of tasks that have one."""
_SLACK: Final = (1.0, 5.0)
"""A deadline is so many times the mean work of a task away, at least and at most."""


def points(seeds: Sequence[int]) -> Iterator[Point]:
    """By what is said, and of the baseline, which is told everything."""
    once = Policy(BALANCED.name, BALANCED.weights, rivals=1)
    for said in SAID:
        yield mean_point(STUDY.name, f"{100 * said:.0f} %", (run(once, seed, said) for seed in seeds))
    yield mean_point(BASELINE, "100 %", (run(baseline(), seed, 1.0) for seed in seeds))


def run(policy: Policy | Simple, seed: int, said: float, comes_for_s: float = COMES_FOR_S) -> Figures:
    """One run."""
    speeds = Platform.of(_AGENTS).speeds.tolist()
    agents = [AgentSpec(f"agent-{at:02}", "virtual", 1, 2, speed=speed) for at, speed in enumerate(speeds)]
    fleet = Fleet(agents, policy, round_s=ROUND_S)
    chance = np.random.default_rng(seed)
    due_s: dict[str, float] = {}
    for at, (when_s, work_s) in enumerate(arrivals(UTILISATION * sum(speeds), comes_for_s, chance)):
        header = DagHeader(f"job-{at:05}")
        has_one, tells, slack = chance.random(), chance.random(), chance.uniform(*_SLACK)
        if has_one < _DEADLINES:
            due_s[header.dag_id] = when_s + slack * MEAN_WORK_S
            if tells < said:
                header.deadline_ms = round(1_000 * (START_S + due_s[header.dag_id]))
        fleet.submit(DagDraft(header, [task("only", work_s)]), when_s)
    fleet.run()
    ended = fleet.finished_s
    others = [ended[one] - came_s for one, came_s in fleet.submitted_s.items() if one not in due_s]
    return {
        "met": 100 * float(np.mean([ended[one] <= due for one, due in due_s.items()])),
        "per_minute": 60 / comes_for_s * sum(end_s <= comes_for_s for end_s in ended.values()),
        "others_s": float(np.mean(others)),
        "makespan_s": fleet.now_s,
    }
