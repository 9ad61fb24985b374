"""Which agents are highly loaded, and take nothing new until they have recovered (D4)."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.scheduling.agents.rows import BoolRow, FloatRow
from coordinator.scheduling.load.settings import LoadSettings

FOLLOWS: Final = 0.3
"""Of the way from an adaptive threshold to where it should be, done in one update."""


class Verdict(NamedTuple):
    """`marks` over rows; `changed` are the rows that came to be marked, or ceased to be."""

    marks: BoolRow
    changed: NDArray[np.intp]


class Thresholds:
    """Remembers who is marked, and where an adaptive threshold stands: `high` and `low` are those of the last
    update."""

    def __init__(self, settings: LoadSettings) -> None:
        self._settings = settings
        self._gap = settings.gap
        self._marks: BoolRow = np.zeros(0, np.bool_)
        self._adapted: float | None = None

    @property
    def high(self) -> float:
        """Above it an agent is marked."""
        return self._settings.high if self._adapted is None else self._adapted

    @property
    def low(self) -> float:
        """Below it an agent has recovered."""
        return self.high - self._gap

    def marked(self, row: int) -> bool:
        """Whether the agent in this row was marked in the last update, and not forgotten since."""
        return row < len(self._marks) and bool(self._marks[row])

    def forget(self, row: int) -> None:
        """The row has another agent, or none."""
        if row < len(self._marks):
            self._marks[row] = False

    def update(self, scores: FloatRow, present: BoolRow) -> Verdict:
        """Judge the loads, from 0 to 1, of the rows in `present`; other rows are not marked. The higher loads
        come first where not all may be marked, but never in the place of an agent that is marked already."""
        before = np.zeros(len(scores), np.bool_)
        before[: len(self._marks)] = self._marks[: len(scores)]
        if self._settings.mode == "off":
            marks = np.zeros_like(before)
        else:
            self._adapt(scores[present])
            stay = before & present & (scores >= self.low)
            marks = self._at_most(stay, present & ~stay & (scores > self.high), scores, int(present.sum()))
        self._marks = marks
        return Verdict(marks.copy(), np.flatnonzero(marks != before))

    def _at_most(self, stay: BoolRow, come: BoolRow, scores: FloatRow, judged: int) -> BoolRow:
        marks = stay | come
        most = math.floor(self._settings.max_share * judged)
        if int(marks.sum()) > most:
            rows = np.flatnonzero(marks)
            order = np.lexsort((rows, -scores[rows], ~stay[rows]))
            marks = np.zeros_like(marks)
            marks[rows[order[:most]]] = True
        return marks

    def _adapt(self, scores: FloatRow) -> None:
        if self._settings.mode != "adaptive" or not len(scores):
            return
        aim = float(scores.mean() + self._settings.k * scores.std())
        aim = min(max(aim, self._settings.floor), self._settings.ceiling)
        self._adapted = aim if self._adapted is None else self._adapted + FOLLOWS * (aim - self._adapted)
