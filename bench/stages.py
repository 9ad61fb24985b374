"""How long the leader was at each stage of its work while something ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from coordinator.stages import STAGES


class StageTime(NamedTuple):
    """How often a stage was gone through, and how long in all."""

    name: str
    times: int
    seconds: float


def stage_times(before: Mapping[str, float], after: Mapping[str, float]) -> list[StageTime]:
    """Between two readings of a node's counters (`NodeStatus.counters`)."""

    def grown(name: str) -> float:
        return after[name] - before[name]

    return [
        StageTime(name, round(grown(f"stage_{name}_times")), grown(f"stage_{name}_us") / 1e6)
        for name in STAGES
    ]


def table(stages: list[StageTime], lasted_s: float) -> str:
    """Lines to print: each stage's share of the time that it all lasted."""
    lines = [f"{'stage':<10}{'times':>10}{'us each':>10}{'% of the time':>15}"]
    for name, times, seconds in stages:
        each = f"{seconds / times * 1e6:,.0f}" if times else "-"
        lines.append(f"{name:<10}{times:>10,}{each:>10}{100 * seconds / lasted_s:>15.1f}")
    return "\n".join(lines)
