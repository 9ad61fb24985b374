"""What the runs of two sides say about each other. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bench.peers.measures import Measure

Figures = Mapping[str, float | None]
"""Of one run, by the measures' keys; None did not come about in time."""


class Spread(NamedTuple):
    """Of some runs; infinite where something did not come about in time."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        known = list(values)
        return cls(statistics.median(known), min(known), max(known))

    def as_json(self) -> dict[str, float | None]:
        """JSON has no infinity."""
        return {name: _finite(value) for name, value in self._asdict().items()}


class Comparison(NamedTuple):
    """One figure beside one peer. `better` is how many times better ours is, run by run: more than 1 where
    ours is ahead."""

    measure: Measure
    peer: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def better(self) -> Spread:
        """The median is that of the medians, which are had of more runs than a pair of them."""
        ours, theirs = Spread.of(self.ours).median, Spread.of(self.theirs).median
        pairs = [self._ratio(*pair) for pair in zip(self.ours, self.theirs, strict=True)]
        return Spread(self._ratio(ours, theirs), min(pairs), max(pairs))

    def as_json(self) -> dict[str, object]:
        """As `python -m bench` has its figures, of both sides, and the ratio."""
        sides = {"ours": self.ours, "theirs": self.theirs}
        return {
            **{name: self._side_as_json(values) for name, values in sides.items()},
            "better": self.better.as_json(),
        }

    def _side_as_json(self, values: Sequence[float]) -> dict[str, object]:
        runs = [_finite(value) for value in values]
        return {**Spread.of(values).as_json(), "unit": self.measure.unit, "runs": runs}

    def _ratio(self, ours: float, theirs: float) -> float:
        if ours == theirs == math.inf:
            return 1.0
        return ours / theirs if self.measure.more else theirs / ours


def compare(
    peer: str, measures: Iterable[Measure], runs: Sequence[tuple[Figures, Figures]]
) -> list[Comparison]:
    """The figures that all runs of both sides, ours first, have."""
    found = []
    for measure in measures:
        if all(measure.key in side for run in runs for side in run):
            ours, theirs = (
                [_number(side[measure.key]) for side in sides] for sides in zip(*runs, strict=True)
            )
            found.append(Comparison(measure, peer, tuple(ours), tuple(theirs)))
    return found


def table(comparisons: Iterable[Comparison], titles: Mapping[str, str]) -> str:
    """For people: a line for each figure and peer."""
    lines = [
        f"{'':12} {'':38} {'':8} {'ours: median and spread':>31} {'theirs: median and spread':>31}  "
        "times better, by pairs of runs"
    ]
    for one in sorted(comparisons, key=lambda one: one.measure.key):
        better = one.better
        lines.append(
            f"{one.measure.key:12} {one.measure.title:38} {titles[one.peer]:8} {_side(one.ours):>31} "
            f"{_side(one.theirs):>31}  {amount(better.median)} [{amount(better.min)} .. {amount(better.max)}]"
            f"  {one.measure.unit}"
        )
    return "\n".join(lines)


def amount(value: float) -> str:
    """Three digits, or as many as stand before the point."""
    if value == math.inf:
        return "inf"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def _side(values: Sequence[float]) -> str:
    spread = Spread.of(values)
    if spread.median == math.inf:
        return "not in time"
    return f"{amount(spread.median)} [{amount(spread.min)} .. {amount(spread.max)}]"


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def _finite(value: float) -> float | None:
    return None if value == math.inf else round(value, 4)
