"""What is said of a workload: its figures over all runs, and what they cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

MIB: Final = 1 << 20


class Usage(NamedTuple):
    """What one run cost, by kind of process: CPU time in microseconds per task or write, and the peak of
    resident memory in MiB."""

    cpu_us: Mapping[str, float]
    peak_mib: Mapping[str, float]


class Kind(NamedTuple):
    """A kind of figure, by its key in reports."""

    key: str
    title: str
    unit: str


class Outcome(NamedTuple):
    """One run: its figures by key, and what those cost of which that is asked."""

    values: Mapping[str, float]
    costs: Mapping[str, Usage] = {}

    @classmethod
    def at(cls, usage: Usage, values: Mapping[str, float]) -> Outcome:
        """Figures of one and the same work, which has cost this."""
        return cls(values, dict.fromkeys(values, usage))


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One figure over all runs. `cpu_us` has medians, `peak_mib` the highest of the peaks."""

    median: float
    min: float
    max: float
    unit: str
    runs: list[float]
    cpu_us: dict[str, float] = {}
    peak_mib: dict[str, float] = {}

    def __str__(self) -> str:
        return f"{self.median:10,.2f} {self.unit:8} [{self.min:,.2f} .. {self.max:,.2f}]  n={len(self.runs)}"

    def cost(self, per: str) -> str:
        """What each task or write cost, in words; empty if that is not known."""
        if not self.cpu_us:
            return ""
        cpu = ", ".join(f"{process} {us:,.0f}" for process, us in self.cpu_us.items())
        peak = ", ".join(f"{process} {mib:,.0f}" for process, mib in self.peak_mib.items())
        return f"CPU us per {per}: {cpu}; peak MiB: {peak}"


def figure(runs: Sequence[float], unit: str, usages: Iterable[Usage] = ()) -> Figure:
    """The figure of these runs, at least one, and what they cost."""
    costs = list(usages)
    return Figure(
        median=statistics.median(runs),
        min=min(runs),
        max=max(runs),
        unit=unit,
        runs=list(runs),
        cpu_us=_by_process([one.cpu_us for one in costs], statistics.median),
        peak_mib=_by_process([one.peak_mib for one in costs], max),
    )


def figures(outcomes: Sequence[Outcome], kinds: Iterable[Kind]) -> dict[Kind, Figure]:
    """The figures of the runs of one workload."""
    return {
        kind: figure(
            [outcome.values[kind.key] for outcome in outcomes],
            kind.unit,
            [outcome.costs[kind.key] for outcome in outcomes if kind.key in outcome.costs],
        )
        for kind in kinds
    }


def _by_process(
    runs: Sequence[Mapping[str, float]], merge: Callable[[list[float]], float]
) -> dict[str, float]:
    kinds = dict.fromkeys(kind for run in runs for kind in run)
    return {kind: round(merge([run[kind] for run in runs if kind in run]), 1) for kind in kinds}
