"""What each objective gains by its weight, on virtual time: one module for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from bench.placement.studies import balance, deadline, energy, fairness, gpu, locality, rhythm
from bench.placement.study import Point, Study

Points = Callable[[Sequence[int]], Iterable[Point]]
"""The points of a study, each the mean over these seeds."""

STUDIES: Final[dict[str, tuple[Study, Points]]] = {
    study.STUDY.name: (study.STUDY, study.points)
    for study in (balance, energy, locality, fairness, deadline, gpu, rhythm)
}
