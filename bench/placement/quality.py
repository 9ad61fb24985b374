"""From the runs to the report: geometric means over instances, the worst run, a table by instance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from bench.placement.cases import BASELINES, OURS, Case, Outcome
from bench.placement.instances import Instance, Unreadable
from bench.placement.knowledge import Knowledge

Figures = dict[str, float | None]
"""By knowledge; None where nothing was run."""

_DIGITS: Final = 6


class InstanceReport(msgspec.Struct):
    """One workflow: ratios, the mean over seeds. `took_s` is what all runs of our scheduler took on this
    machine, `begun` the attempts of the longest of them."""

    name: str
    application: str
    tasks: int
    ours: Figures
    baselines: dict[str, Figures]
    took_s: float
    begun: int
    failures: list[str]


class QualityReport(msgspec.Struct):
    """As written to a file. `ours` and `baselines` are means over the instances; under `noisy_warm` all are
    over those instances that have a history. `worst` are single runs."""

    ours: Figures
    baselines: dict[str, Figures]
    worst: dict[str, Figures]
    instances: list[InstanceReport]
    unreadable: list[Unreadable]
    settings: dict[str, object]
    machine: dict[str, str | int | float]


class Ratios:
    """Those of all runs, by instance, name of what ran and knowledge."""

    def __init__(self, only: Sequence[Knowledge]) -> None:
        self._only = only
        self._runs: dict[tuple[str, str, Knowledge], list[float]] = {}
        self._took_s: dict[str, float] = {}
        self._begun: dict[str, int] = {}
        self._failures: dict[str, list[str]] = {}

    def take(self, case: Case, outcome: Outcome) -> None:
        """What a case has given."""
        name = case.instance.name
        if outcome.failure:
            self._failures.setdefault(name, []).append(f"{case.title}: {outcome.failure}")
        if case.knowledge is not None:
            self._took_s[name] = self._took_s.get(name, 0.0) + outcome.took_s
            self._begun[name] = max(self._begun.get(name, 0), outcome.begun)
        for title, ratios in outcome.ratios.items():
            for knowledge in self._meant(case):
                self._runs.setdefault((name, title, knowledge), []).extend(ratios)

    def report(self, instance: Instance) -> InstanceReport:
        """Of one workflow."""
        return InstanceReport(
            instance.name,
            instance.application,
            len(instance),
            self._means([instance.name], OURS),
            {title: self._means([instance.name], title) for title in BASELINES},
            round(self._took_s.get(instance.name, 0.0), 3),
            self._begun.get(instance.name, 0),
            sorted(self._failures.get(instance.name, [])),
        )

    def means(self, instances: Iterable[Instance]) -> tuple[Figures, dict[str, Figures]]:
        """Of ours and of the baselines over all workflows."""
        names = [instance.name for instance in instances]
        return self._means(names, OURS), {title: self._means(names, title) for title in BASELINES}

    def worst(self) -> dict[str, Figures]:
        """The highest ratio of a single run."""
        found: dict[str, Figures] = {title: dict.fromkeys(Knowledge) for title in (OURS, *BASELINES)}
        for (_, title, knowledge), ratios in self._runs.items():
            found[title][knowledge] = round(max(*ratios, found[title][knowledge] or 0.0), _DIGITS)
        return found

    def _meant(self, case: Case) -> list[Knowledge]:
        """A baseline under noise is the same whatever is known: it stands beside all of ours."""
        if case.knowledge is not None:
            return [case.knowledge]
        return [one for one in self._only if case.like(one)]

    def _means(self, names: Sequence[str], title: str) -> Figures:
        figures: Figures = {}
        for knowledge in Knowledge:
            runs = (self._runs.get((name, title, knowledge), []) for name in names)
            figures[knowledge] = geometric_mean([geometric_mean(some) for some in runs])
        return figures


def geometric_mean(ratios: Iterable[float | None]) -> float | None:
    """Of those that there are; None if there is none."""
    logs = [math.log(ratio) for ratio in ratios if ratio is not None]
    return round(math.exp(math.fsum(logs) / len(logs)), _DIGITS) if logs else None
