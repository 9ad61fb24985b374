"""What one objective gains when its weight grows, and what that costs: by setting, means over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from bench.placement.tables import facts, table
from coordinator.scheduling.costs.policies import SIMPLE, Simple
from coordinator.scheduling.costs.weights import Policy

BASELINE: Final = "least-loaded"
"""The simple policy that everything is compared with."""

Figures = Mapping[str, float]
"""By the name of an axis."""


class Axis(msgspec.Struct, frozen=True):
    """A figure by its `name` in reports, what it is called in words, its unit, and how it is written."""

    name: str
    words: str
    unit: str
    form: str = ".1f"

    @property
    def title(self) -> str:
        """With the unit."""
        return f"{self.words} [{self.unit}]" if self.unit else self.words


class Point(msgspec.Struct, frozen=True):
    """One setting: a `label` for it, in a `series` of settings that differ in one thing."""

    series: str
    label: str
    figures: dict[str, float]


class Study(msgspec.Struct, frozen=True):
    """What is compared with what: `cost` is what the `gain` is paid with; both are better the lower, unless
    `higher` says that more is gained. `required` is the least, or the most, that is asked of the gain."""

    name: str
    question: str
    varied: str
    cost: Axis
    gain: Axis
    others: tuple[Axis, ...] = ()
    higher: bool = False
    required: float | None = None

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All figures of a point."""
        return (self.gain, self.cost, *self.others)

    @property
    def bound_words(self) -> str:
        """What `required` is."""
        return "at least" if self.higher else "at most"


class StudyReport(msgspec.Struct, frozen=True):
    """As written to a file."""

    study: Study
    settings: dict[str, object]
    points: list[Point]


def baseline() -> Simple:
    """The policy of that name."""
    return SIMPLE[BASELINE]


def mean_point(series: str, label: str, runs: Iterable[Figures]) -> Point:
    """The mean of each figure over runs that differ in their seed."""
    some = list(runs)
    means = {name: round(sum(one[name] for one in some) / len(some), 6) for name in some[0]}
    return Point(series, label, means)


def weigh(
    series: str,
    policies: Sequence[tuple[str, Policy]],
    seeds: Sequence[int],
    run: Callable[[Policy | Simple, int], Figures],
) -> Iterator[Point]:
    """A point for each of the policies, and one for the baseline."""
    for label, policy in policies:
        yield mean_point(series, label, (run(policy, seed) for seed in seeds))
    yield mean_point(BASELINE, "", (run(baseline(), seed) for seed in seeds))


def study_lines(report: StudyReport) -> Iterator[str]:
    """The whole report."""
    study = report.study
    yield study.question
    yield facts("settings", report.settings)
    yield ""
    rows = [
        [
            " ".join(part for part in (point.series, point.label) if part),
            *(f"{point.figures[axis.name]:{axis.form}}" for axis in study.axes),
        ]
        for point in report.points
    ]
    yield from table([study.varied, *(axis.title for axis in study.axes)], rows)
    if study.required is not None:
        bound = f"{study.bound_words} {study.required:{study.gain.form}} {study.gain.unit}"
        yield f"required: {study.gain.words} {bound}"
