"""200 junctions in ten regions: incidents are seen at one, planned for in its region, and answered at its
neighbours, by tasks that are made at run time."""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec.structs import replace

from bench.placement.fleet import Fleet
from bench.placement.studies.streams import task
from coordinator.core.model import AgentSpec, DagHeader, DataItem, Priority, Requirements, Task
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.scheduling.costs.policies import Simple, policy
from coordinator.scheduling.costs.weights import BALANCED, CHEAP_NETWORK, Policy
from examples.scenarios.findings import Finding, Scenario

JUNCTIONS: Final = 200

_REGION: Final = 20
"""Junctions of one region, which stand in a ring."""
_SEED: Final = 1
_COMES_FOR_S: Final = 8.0
_PER_S: Final = 0.09
"""Incidents of each junction, in the mean."""
_CROWDED: Final = 0.6
"""Share of incidents that are in the first region: nearly what its servers can plan for."""
_SEE_S: Final = 0.2
_PLAN_S: Final = 0.5
_SWITCH_S: Final = 0.1
_VIDEO_BYTES: Final = 25_000_000
_NEIGHBOURS: Final = (-2, -1, 1, 2)
_PLANNERS: Final = 2
"""Servers of a region, of which one is twice as fast as the other."""


def run(junctions: int = JUNCTIONS) -> Scenario:
    """Three policies on the same incidents."""
    ours = _run(replace(BALANCED, rivals=1), junctions)
    near = _run(CHEAP_NETWORK, junctions)
    theirs = _run(policy("least-loaded"), junctions)
    return Scenario(
        "traffic",
        f"{junctions} junctions in regions of {_REGION}; tasks are made at run time",
        [
            Finding("response", ours["p99_s"], "s", "p99, to the last switch; balanced", at_most=2),
            Finding("response, mean", ours["mean_s"], "s", "balanced"),
            Finding("response, mean", near["mean_s"], "s", "cheap-network"),
            Finding("response, mean", theirs["mean_s"], "s", "least-loaded"),
            Finding("moved", ours["moved_gb"], "GB", "between junctions and servers; balanced"),
            Finding("moved", near["moved_gb"], "GB", "cheap-network"),
            Finding("moved", theirs["moved_gb"], "GB", "least-loaded"),
            Finding("made at run time", ours["made"], "% of tasks", "added by tasks that ran"),
        ],
    )


def _run(placement: Policy | Simple, junctions: int) -> dict[str, float]:
    fleet = Fleet(_agents(junctions), placement, adds=_adds, round_s=0.02)
    chance = np.random.default_rng(_SEED)
    when_s, incidents = 0.0, 0
    while (when_s := when_s + float(chance.exponential(1 / (_PER_S * junctions)))) < _COMES_FOR_S:
        junction = int(chance.integers(_REGION if chance.random() < _CROWDED else junctions))
        header = DagHeader(f"incident-{incidents:04}", priority=Priority.URGENT)
        fleet.submit(DagDraft(header, [_at(junction, "see", _SEE_S)]), when_s)
        incidents += 1
    fleet.run()
    took = [fleet.finished_s[one] - came_s for one, came_s in fleet.submitted_s.items()]
    return {
        "p99_s": float(np.percentile(took, 99)),
        "mean_s": float(np.mean(took)),
        "moved_gb": sum(one.moved for one in fleet.ran) / 1e9,
        "made": 100 * (len(fleet.ran) - incidents) / len(fleet.ran),
    }


def _agents(junctions: int) -> list[AgentSpec]:
    agents = [
        AgentSpec(f"junction-{at:03}", "virtual", 2, 8, labels=(("junction", f"{at}"),), zone=_region(at))
        for at in range(junctions)
    ]
    for region in dict.fromkeys(map(_region, range(junctions))):
        for at in range(_PLANNERS):
            skills = (("plan", 1),)
            agents.append(
                AgentSpec(
                    f"{region}-server-{at}", "virtual", 2, 8, capabilities=skills, speed=1.0 + at, zone=region
                )
            )
    return agents


def _region(junction: int) -> str:
    return f"region-{junction // _REGION}"


def _adds(seen: Task) -> list[TaskDraft]:
    """What an incident needs is known when it has been seen: a plan, which may be made anywhere, best where
    the pictures are, and then the neighbours' switches."""
    step, _, place = seen.id.partition("-")
    if step != "see":
        return []
    junction = int(place)
    first = junction // _REGION * _REGION
    video = DataItem(f"video-{junction}", _VIDEO_BYTES, (_region(junction),))
    plan = task(
        "plan", _PLAN_S, type="plan", requirements=Requirements(capabilities=(("plan", 1),)), inputs=(video,)
    )
    around = [first + (junction - first + by) % _REGION for by in _NEIGHBOURS]
    return [plan, *(_at(one, "switch", _SWITCH_S, depends_on=("plan",)) for one in around)]


def _at(junction: int, step: str, seconds: float, **more: object) -> TaskDraft:
    """A task for this very junction."""
    here = Requirements(labels=(("junction", f"{junction}"),))
    return task(f"{step}-{junction}", seconds, type=step, requirements=here, **more)
