"""Sustained load on unequal agents: how evenly they are used, by the weight of balance (J3, E1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from bench.placement.fleet import Fleet
from bench.placement.platform import Platform
from bench.placement.studies.streams import COMES_FOR_S, ROUND_S, SETTLED_S, busy_share, stream
from bench.placement.study import Axis, Figures, Point, Study, mean_point, weigh
from coordinator.core.model import AgentSpec
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.weights import BALANCED, Policy, Weights

STUDY: Final = Study(
    "balance",
    "How evenly are unequal agents used under sustained load, and what does it cost each task?",
    "weight of balance",
    Axis("response_s", "mean time from submitting a task to its end", "s", ".2f"),
    Axis("spread", "spread of load over agents (deviation over mean)", "%"),
    (Axis("makespan_s", "all done after", "s"), Axis("used", "slots in use", "%")),
    required=15.0,
)

WEIGHTS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
UTILISATION: Final = 0.7
"""Of all that the agents can do; the work that comes is what needs so much."""

FULLER: Final = (0.85, 0.95)
"""Utilisations at which the policy `balanced` runs, too."""

_AGENTS: Final = 12
_SLOTS: Final = 2
_LOAD_EVERY_S: Final = 1.0


def points(seeds: Sequence[int]) -> Iterator[Point]:
    """By weight; and those of `balanced`, by load."""
    policies = [
        (f"{weight:g}", Policy(f"balance-{weight:g}", Weights(balance=weight), rivals=1))
        for weight in WEIGHTS
    ]
    yield from weigh(STUDY.name, policies, seeds, run)
    once = msgspec.structs.replace(BALANCED, rivals=1)
    for load in FULLER:
        runs = (run(once, seed, load) for seed in seeds)
        yield mean_point("balanced", f"at {100 * load:.0f} %", runs)


def run(
    policy: Policy | Simple, seed: int, utilisation: float = UTILISATION, comes_for_s: float = COMES_FOR_S
) -> Figures:
    """One run."""
    speeds = Platform.of(_AGENTS).speeds.tolist()
    agents = [
        AgentSpec(f"agent-{at:02}", "virtual", _SLOTS, 2 * _SLOTS, speed=speed)
        for at, speed in enumerate(speeds)
    ]
    fleet = Fleet(agents, policy, round_s=ROUND_S, load_every_s=_LOAD_EVERY_S)
    for draft, when_s in stream(utilisation * _SLOTS * sum(speeds), comes_for_s, seed):
        fleet.submit(draft, when_s)
    fleet.run()
    used = np.array([busy_share(fleet.ran, spec, SETTLED_S, comes_for_s) for spec in agents])
    took = [fleet.finished_s[dag_id] - came_s for dag_id, came_s in fleet.submitted_s.items()]
    return {
        "response_s": float(np.mean(took)),
        "spread": 100 * float(used.std() / used.mean()),
        "makespan_s": max(fleet.finished_s.values()),
        "used": 100 * float(used.mean()),
    }
