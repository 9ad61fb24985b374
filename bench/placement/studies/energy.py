"""Agents that are the dearer the faster they are: joules, by the weight of energy (E1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from bench.placement.fleet import Fleet
from bench.placement.platform import Platform
from bench.placement.studies.streams import MEAN_WORK_S, task
from bench.placement.study import Axis, Figures, Point, Study, mean_point, weigh
from coordinator.core.model import AgentSpec, DagHeader
from coordinator.dag.draft import DagDraft
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.weights import GREEN, Policy, Weights

STUDY: Final = Study(
    "energy",
    "What does it take to run layers of tasks on agents of which the fast ones need more energy per task?",
    "weight of energy",
    Axis("makespan_s", "all done after", "s"),
    Axis("kilojoules", "energy of all attempts", "kJ"),
)

WEIGHTS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
WATTS: Final = 60.0
"""Of a busy slot of speed 1; it grows with the square of the speed, so that the same work takes twice as much
energy at twice the speed."""

_AGENTS: Final = 16
LAYERS: Final = 12
_WIDTH: Final = 12
_PARENTS: Final = 2


def points(seeds: Sequence[int]) -> Iterator[Point]:
    """By weight, and the policy that is made for it."""
    policies = [
        (f"{weight:g}", Policy(f"energy-{weight:g}", Weights(energy=weight), rivals=1)) for weight in WEIGHTS
    ]
    yield from weigh(STUDY.name, policies, seeds, run)
    yield mean_point(GREEN.name, "", (run(GREEN, seed) for seed in seeds))


def run(policy: Policy | Simple, seed: int, layers: int = LAYERS) -> Figures:
    """One run."""
    agents = [
        AgentSpec(f"agent-{at:02}", "virtual", 1, 2, speed=speed, busy_watts=WATTS * speed**2)
        for at, speed in enumerate(Platform.of(_AGENTS).speeds.tolist())
    ]
    fleet = Fleet(agents, policy)
    fleet.submit(layered(layers, seed))
    fleet.run()
    watts = {spec.agent_id: spec.busy_watts for spec in agents}
    joules = sum(watts[one.agent] * (one.ended_s - one.began_s) for one in fleet.ran)
    return {"kilojoules": joules / 1_000, "makespan_s": fleet.now_s}


def layered(layers: int, seed: int) -> DagDraft:
    """Tasks that depend on some of the layer before."""
    chance = np.random.default_rng(seed)
    tasks = []
    for layer in range(layers):
        for at, work_s in enumerate((MEAN_WORK_S * chance.lognormal(-0.08, 0.4, _WIDTH)).tolist()):
            parents = sorted(chance.choice(_WIDTH, _PARENTS, replace=False).tolist()) if layer else []
            before = tuple(f"{layer - 1}-{parent}" for parent in parents)
            tasks.append(task(f"{layer}-{at}", work_s, depends_on=before))
    return DagDraft(DagHeader("layers"), tasks)
