"""Tasks that read what others wrote: bytes that are moved, by the weight of communication (E1, E3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from bench.placement.fleet import Fleet
from bench.placement.platform import BANDWIDTH, Platform
from bench.placement.studies.streams import MEAN_WORK_S, task
from bench.placement.study import Axis, Figures, Point, Study, mean_point, weigh
from coordinator.core.model import AgentSpec, DagHeader, DataItem
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.weights import CHEAP_NETWORK, Policy, Weights

STUDY: Final = Study(
    "locality",
    "How much do pipelines move that read what is at some agent, and share what they make with another?",
    "weight of communication",
    Axis("makespan_s", "all done after", "s"),
    Axis("gigabytes", "data moved between agents", "GB", ".2f"),
    (Axis("communication_s", "time that it took, summed over transfers", "s"),),
)

WEIGHTS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)

PIPELINES: Final = 16
_AGENTS: Final = 12
_STAGES: Final = 6
_MEAN_BYTES: Final = 250e6
"""Two seconds on the way: half of what a task takes."""


def points(seeds: Sequence[int]) -> Iterator[Point]:
    """By weight, and the policy that is made for it."""
    policies = [
        (f"{weight:g}", Policy(f"communication-{weight:g}", Weights(communication=weight), rivals=1))
        for weight in WEIGHTS
    ]
    yield from weigh(STUDY.name, policies, seeds, run)
    yield mean_point(CHEAP_NETWORK.name, "", (run(CHEAP_NETWORK, seed) for seed in seeds))


def run(policy: Policy | Simple, seed: int, pipelines: int = PIPELINES) -> Figures:
    """One run."""
    agents = [
        AgentSpec(f"agent-{at:02}", "virtual", 1, 2, speed=speed)
        for at, speed in enumerate(Platform.of(_AGENTS).speeds.tolist())
    ]
    fleet = Fleet(agents, policy)
    fleet.submit(shared_pipelines(pipelines, [spec.agent_id for spec in agents], seed))
    fleet.run()
    moved = sum(one.moved for one in fleet.ran)
    return {
        "gigabytes": moved / 1e9,
        "makespan_s": fleet.now_s,
        "communication_s": moved / BANDWIDTH,
    }


def shared_pipelines(pipelines: int, agents: Sequence[str], seed: int) -> DagDraft:
    """Each begins with data that some agent holds; every second stage also reads what the next pipeline made
    in the stage before."""
    chance = np.random.default_rng(seed)
    tasks: list[TaskDraft] = []
    sizes: dict[str, DataItem] = {}
    for stage in range(_STAGES):
        for at in range(pipelines):
            work_s = MEAN_WORK_S * float(chance.lognormal(-0.08, 0.4))
            size = int(_MEAN_BYTES * chance.lognormal(-0.125, 0.5))
            made = DataItem(f"{stage}-{at}", size)
            if stage == 0:
                inputs = [DataItem(f"raw-{at}", size, (str(chance.choice(agents)),))]
            else:
                inputs = [sizes[f"{stage - 1}-{at}"]]
                if stage % 2:
                    inputs.append(sizes[f"{stage - 1}-{(at + 1) % pipelines}"])
            sizes[made.name] = made
            tasks.append(task(made.name, work_s, inputs=tuple(inputs), outputs=(made,)))
    return DagDraft(DagHeader("pipelines"), tasks)
