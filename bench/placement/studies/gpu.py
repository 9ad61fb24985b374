"""Model calls that need one of few GPUs, among computations that run anywhere: how long they wait. What keeps
others away from the GPUs is what their agents say they cost: the weight of energy (E1, E3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from bench.placement.fleet import Fleet
from bench.placement.studies.streams import ROUND_S, arrivals, task
from bench.placement.study import Axis, Figures, Point, Study, weigh
from coordinator.core.model import AgentSpec, DagHeader, Requirements, Resources, TaskFamily
from coordinator.dag.draft import DagDraft
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.weights import Policy, Weights

STUDY: Final = Study(
    "gpu",
    "How long does a model call wait for one of few GPUs, while other work would run there as well?",
    "weight of energy",
    Axis("others_s", "mean time from submitting other work to its end", "s", ".2f"),
    Axis("calls_s", "mean time from submitting a model call to its end", "s", ".2f"),
    (Axis("gpu_used", "GPUs in use by model calls", "%"), Axis("makespan_s", "all done after", "s")),
)

WEIGHTS: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 4.0)

COMES_FOR_S: Final = 120.0
CALLS: Final = 1.0
"""Of what the GPUs can do."""
OTHERS: Final = 1.1
"""Of what the agents without one can do."""

_PLAIN: Final = 9
_WITH_GPU: Final = 3
_GPU_BYTES: Final = 16 << 30
_PLAIN_WATTS: Final = 100.0
_GPU_WATTS: Final = 400.0


def points(seeds: Sequence[int]) -> Iterator[Point]:
    """By weight."""
    policies = [
        (f"{weight:g}", Policy(f"gpu-{weight:g}", Weights(energy=weight), rivals=1)) for weight in WEIGHTS
    ]
    return weigh(STUDY.name, policies, seeds, run)


def run(policy: Policy | Simple, seed: int, comes_for_s: float = COMES_FOR_S) -> Figures:
    """One run."""
    with_gpu = Resources(gpu_memory_bytes=_GPU_BYTES)
    agents = [
        AgentSpec(f"gpu-{at}", "virtual", 1, 2, resources=with_gpu, busy_watts=_GPU_WATTS)
        for at in range(_WITH_GPU)
    ]
    agents += [AgentSpec(f"plain-{at}", "virtual", 1, 2, busy_watts=_PLAIN_WATTS) for at in range(_PLAIN)]
    fleet = Fleet(agents, policy, round_s=ROUND_S)
    chance = np.random.default_rng(seed)
    call = {"type": "model.call", "family": TaskFamily.MODEL, "requirements": Requirements(with_gpu)}
    streams = {"call": (CALLS * _WITH_GPU, call), "other": (OTHERS * _PLAIN, {})}
    for name, (work_per_s, more) in streams.items():
        for at, (when_s, work_s) in enumerate(arrivals(work_per_s, comes_for_s, chance)):
            fleet.submit(DagDraft(DagHeader(f"{name}-{at:05}"), [task("only", work_s, **more)]), when_s)
    fleet.run()
    took: dict[str, list[float]] = {name: [] for name in streams}
    for dag_id, came_s in fleet.submitted_s.items():
        took[dag_id.partition("-")[0]].append(fleet.finished_s[dag_id] - came_s)
    calls = [one for one in fleet.ran if one.dag_id.startswith("call")]
    busy_s = sum(one.ended_s - one.began_s for one in calls)
    return {
        "gpu_used": 100 * busy_s / (_WITH_GPU * max(one.ended_s for one in calls)),
        "calls_s": float(np.mean(took["call"])),
        "others_s": float(np.mean(took["other"])),
        "makespan_s": fleet.now_s,
    }
