"""All series on the grid of one horizon: their past, the models, the scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from coordinator.forecast.history import FIRST_ROWS, BoolRow, FloatRow, Growing, History, IntRow
from coordinator.forecast.horizons import HISTORY_STEPS, Horizon
from coordinator.forecast.models import Outside, models_for
from coordinator.forecast.scoring import LEAST_SCORED, Scores

MODEL_REACH: Final = 4
"""A model that runs elsewhere says so many times the longest distance ahead, as it is asked rarely."""

INTERVAL: Final = 1.6
"""Half the width of the interval, in mean absolute errors: it holds four outcomes of five if errors are
normal."""


class Ahead(NamedTuple):
    """What is expected of every series at one distance; NaN where none is known."""

    value: FloatRow
    low: FloatRow
    high: FloatRow
    model: IntRow


class Grid:
    """The series by row; a row that is vacant is neither known nor fresh. `outside` names models that run
    elsewhere."""

    def __init__(self, horizon: Horizon, outside: Iterable[str] = ()) -> None:
        self.horizon = horizon
        self.top: FloatRow = np.full(FIRST_ROWS, np.inf)
        """What a series can be at most."""
        self._begin(outside)

    def _begin(self, outside: Iterable[str]) -> None:
        reach = MODEL_REACH * self.horizon.leads[-1]
        self.past = History(HISTORY_STEPS)
        self.outside = {name: Outside(name, reach) for name in outside}
        self.models = models_for(self.horizon, tuple(self.outside.values()))
        self.scores = {lead: Scores(lead, len(self.models)) for lead in self.horizon.leads}
        self._ahead: dict[int, Ahead] = {}

    def begin_anew(self) -> None:
        """Forget the past of all series."""
        self._begin(self.outside)
        for part in self._parts() if len(self.top) > FIRST_ROWS else ():
            part.grow(len(self.top))

    @property
    def number(self) -> int:
        """The latest step, -1 before the first."""
        return self.past.number

    def grow(self, size: int) -> None:
        """Make room for `size` series."""
        for part in self._parts():
            part.grow(size)
        self.top = np.concatenate([self.top, np.full(size - len(self.top), np.inf)])
        self._ahead.clear()

    def clear(self, row: int) -> None:
        """Begin this series anew, if there is room for it yet."""
        if row < len(self.top):
            for part in self._parts():
                part.clear(row)
            self._ahead.clear()

    def age(self, row: int) -> int:
        """Since how many steps this series has been known."""
        return int(self.past.age[row]) if row < len(self.top) else 0

    def step(self, number: int, values: FloatRow, known: BoolRow, fresh: BoolRow) -> None:
        """What happened in the step `number`, which is later than the latest. Only `fresh` values count as an
        outcome; of series that are not `known` there is none yet.

        A gap is filled with what was before it. After one that is longer than the past that is kept,
        everything begins anew.
        """
        if self.number >= 0 and number - self.number > HISTORY_STEPS:
            self.begin_anew()
        values = np.where(known, values, 0.0)
        self.past.push(number, values, known)
        for model in self.models:
            model.update(self.past)
        self._ahead.clear()
        for scores in self.scores.values():
            if scores.due(number):
                scores.settle(self.past, fresh)
                said = self._said(scores.lead)
                best = scores.best(said)
                scores.make(number, np.concatenate([said, _of(said, best)[None]]))

    def ahead(self, lead: int) -> Ahead:
        """What is expected `lead` steps after the latest, one of the horizon's leads. Computed once a
        step."""
        found = self._ahead.get(lead)
        if found is None:
            found = self._ahead[lead] = self._look(lead)
        return found

    def _parts(self) -> Iterator[Growing]:
        yield self.past
        yield from self.models
        yield from self.scores.values()

    def _look(self, lead: int) -> Ahead:
        scores, past = self.scores[lead], self.past
        said = self._said(lead)
        best = scores.best(said)
        value = _of(said, best)
        scored = scores.count[-1] >= LEAST_SCORED
        # Before there are outcomes, all that has been seen is what may come.
        half = np.where(scored, INTERVAL * scores.error[-1], past.highest - past.lowest)
        return Ahead(value, np.maximum(value - half, 0.0), np.minimum(value + half, self.top), best)

    def _said(self, lead: int) -> FloatRow:
        """What each model says, within what the series has ever been and as much again: no model runs
        away."""
        past = self.past
        width = past.highest - past.lowest
        low = np.where(past.age > 0, np.maximum(past.lowest - width, 0.0), np.nan)
        high = np.where(past.age > 0, np.minimum(past.highest + width, self.top), np.nan)
        said = np.stack([model.forecast(past, lead) for model in self.models])
        return np.clip(said, low, high)


def _of(said: FloatRow, best: IntRow) -> FloatRow:
    found: FloatRow = np.take_along_axis(said, best[None], axis=0)[0]
    return found
