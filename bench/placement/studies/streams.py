"""Work that keeps coming, and how busy it keeps the agents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from bench.placement.fleet import Ran
from coordinator.core.model import AgentSpec, DagHeader, TaskFamily
from coordinator.dag.draft import DagDraft, TaskDraft

COMES_FOR_S: Final = 160.0
SETTLED_S: Final = 30.0
"""What happens before is not counted: agents begin idle."""

ROUND_S: Final = 0.02
"""Placement decides no more often than this: streams are long."""

MEAN_WORK_S: Final = 4.0
_WORK_SIGMA: Final = 0.6


def task(task_id: str, seconds: float, **more: object) -> TaskDraft:
    """A computation of so much work, which its client knows."""
    given: dict[str, object] = {"type": "work", "family": TaskFamily.COMPUTE, **more}
    return TaskDraft(
        task_id,
        payload=f"{seconds:.6f}".encode(),
        expected_ms=max(1, round(1_000 * seconds)),
        **given,  # type: ignore[arg-type]
    )


def arrivals(
    work_per_s: float, comes_for_s: float, chance: np.random.Generator
) -> Iterator[tuple[float, float]]:
    """When something comes, and how much work it is: at any time as likely, log-normal, so much work per
    second in the mean."""
    now_s = 0.0
    while True:
        now_s += float(chance.exponential(MEAN_WORK_S / work_per_s))
        if now_s >= comes_for_s:
            return
        yield now_s, MEAN_WORK_S * float(chance.lognormal(-(_WORK_SIGMA**2) / 2, _WORK_SIGMA))


def stream(work_per_s: float, comes_for_s: float, seed: int) -> Iterator[tuple[DagDraft, float]]:
    """Single tasks, each a DAG of its own, and when they come."""
    some = arrivals(work_per_s, comes_for_s, np.random.default_rng(seed))
    for at, (when_s, seconds) in enumerate(some):
        yield DagDraft(DagHeader(f"job-{at:05}"), [task("only", seconds)]), when_s


def busy_share(ran: Iterable[Ran], spec: AgentSpec, from_s: float, to_s: float) -> float:
    """Of the agent's slots, in the mean of this time."""
    busy_s = sum(
        max(0.0, min(one.ended_s, to_s) - max(one.began_s, from_s))
        for one in ran
        if one.agent == spec.agent_id
    )
    return busy_s / (spec.slots * (to_s - from_s))
