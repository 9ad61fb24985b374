"""Two namespaces that both want more than there is: what one of them gets by its weight, and what the other
one pays (E8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from bench.placement.fleet import Fleet
from bench.placement.platform import Platform
from bench.placement.studies.streams import MEAN_WORK_S, ROUND_S, task
from bench.placement.study import BASELINE, Axis, Figures, Point, Study, baseline, mean_point
from coordinator.core.commands import SetNamespace
from coordinator.core.model import AgentSpec, DagHeader
from coordinator.dag.draft import DagDraft
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.weights import BALANCED, Policy

STUDY: Final = Study(
    "fairness",
    "What does a namespace get by its weight, and what does the other one pay?",
    "weight",
    Axis("other_s", "mean time from submitting a task of the other namespace to its end", "s"),
    Axis("share", "work of the first namespace while both want more", "%"),
    (Axis("due", "its part of the weights", "%"), Axis("makespan_s", "all done after", "s")),
    higher=True,
)

WEIGHTS: Final = (1.0, 2.0, 3.0, 5.0, 9.0)
_AGENTS: Final = 12
TASKS: Final = 200
"""Of each namespace, all of them there from the beginning."""
_COUNTED: Final = 0.8
"""Of the time until one of them has nothing more to be placed."""

_FIRST: Final = "first"


def points(seeds: Sequence[int]) -> Iterator[Point]:
    """By weight, and of the baseline at two of them."""
    once = Policy(BALANCED.name, BALANCED.weights, rivals=1)
    for weight in WEIGHTS:
        yield mean_point(STUDY.name, f"{weight:.0f}", (run(once, seed, weight) for seed in seeds))
    for weight in (1.0, 3.0):
        yield mean_point(BASELINE, f"{weight:.0f}", (run(baseline(), seed, weight) for seed in seeds))


def run(policy: Policy | Simple, seed: int, weight: float, tasks: int = TASKS) -> Figures:
    """One run."""
    speeds = Platform.of(_AGENTS).speeds.tolist()
    agents = [AgentSpec(f"agent-{at:02}", "virtual", 1, 2, speed=speed) for at, speed in enumerate(speeds)]
    fleet = Fleet(agents, policy, round_s=ROUND_S)
    fleet.order(SetNamespace("", _FIRST, weight=weight))
    chance = np.random.default_rng(seed)
    for namespace in (_FIRST, "other"):
        for at in range(tasks):
            work_s = MEAN_WORK_S * float(chance.uniform(0.5, 1.5))
            fleet.submit(DagDraft(DagHeader(f"{namespace}-{at:04}", namespace), [task("only", work_s)]))
    fleet.run()
    ends = {
        mine: [end_s for name, end_s in fleet.finished_s.items() if name.startswith(_FIRST) is mine]
        for mine in (True, False)
    }
    until_s = _COUNTED * min(max(ends[True]), max(ends[False]))
    busy = {True: 0.0, False: 0.0}
    for one in fleet.ran:
        busy[one.dag_id.startswith(_FIRST)] += max(0.0, min(one.ended_s, until_s) - one.began_s)
    return {
        "share": 100 * busy[True] / (busy[True] + busy[False]),
        "due": 100 * weight / (weight + 1),
        "other_s": float(np.mean(ends[False])),
        "makespan_s": fleet.now_s,
    }
