"""Which agents fail what others do: by row, the share of attempts that come to nothing by the agent's fault.

What everybody fails of a kind is the fault of its tasks: an agent is blamed for what it fails beyond that."""

from __future__ import annotations

import numpy as np

from coordinator.core.kinds import Kind
from coordinator.core.limits import HISTORY_WINDOW
from coordinator.scheduling.agents.rows import FloatRow, IntRow

PRIOR_TRIES = 3.0
"""Attempts that went well are taken to have been before any was seen."""


class Blame:
    """Failures by kind and row; how many completed is the caller's to know, in arrays over all rows. Older
    failures lose weight, so that no more than a window of ends counts."""

    def __init__(self) -> None:
        self._failures: dict[Kind, FloatRow] = {}
        """How many failed, and for how many of them the agent is to blame, of kinds of which any has."""
        self._tried: FloatRow = np.zeros(0)
        self._blamed: FloatRow = np.zeros(0)
        """Of all kinds."""

    def fit(self, rows: int) -> None:
        """Rows were added."""
        lacking = rows - len(self._tried)
        self._tried = np.pad(self._tried, (0, lacking))
        self._blamed = np.pad(self._blamed, (0, lacking))
        for kind, of_kind in self._failures.items():
            self._failures[kind] = np.pad(of_kind, ((0, 0), (0, lacking)))

    def completed(self, kind: Kind, row: int, before: float) -> None:
        """One has, after so many others."""
        self._try(row)
        if (of_kind := self._failures.get(kind)) is not None:
            self._fade(of_kind, row, before)

    def failed(self, kind: Kind, row: int, completed: float) -> None:
        """One has, and so many have completed."""
        self._try(row)
        of_kind = self._of(kind)
        self._fade(of_kind, row, completed)
        of_kind[0, row] += 1

    def remember(self, kind: Kind, rows: IntRow, completed: FloatRow, failed: FloatRow) -> None:
        """What there has been in these rows before anything else."""
        if failed.any():
            self._of(kind)[0, rows] = failed
        self._tried[rows] = np.minimum(self._tried[rows] + completed + failed, HISTORY_WINDOW)

    def forget_row(self, row: int) -> None:
        """The row is another agent's from now on."""
        self._tried[row] = self._blamed[row] = 0
        for of_kind in self._failures.values():
            of_kind[:, row] = 0

    def forget_kind(self, kind: Kind) -> None:
        """Nothing is known of the kind any more."""
        if (of_kind := self._failures.pop(kind, None)) is not None:
            self._blamed -= of_kind[1]

    def renew(self, kind: Kind, completed: FloatRow) -> None:
        """Compare the agents anew."""
        if (of_kind := self._failures.get(kind)) is None:
            return
        failed, blamed = of_kind
        tried = completed + failed
        elsewhere = (failed.sum() - failed) / (tried.sum() - tried + PRIOR_TRIES)
        self._blamed -= blamed
        blamed[:] = np.maximum(failed - elsewhere * tried, 0.0)
        self._blamed += blamed

    def shares(self, size: int) -> FloatRow:
        """Of the first `size` rows, 0 to below 1, shrunk towards none."""
        # Sums of differences may come to just less than nothing.
        blamed = np.maximum(self._blamed[:size], 0.0)
        share: FloatRow = blamed / (np.maximum(self._tried[:size], blamed) + PRIOR_TRIES)
        return share

    def _of(self, kind: Kind) -> FloatRow:
        of_kind = self._failures.get(kind)
        if of_kind is None:
            of_kind = self._failures[kind] = np.zeros((2, len(self._tried)))
        return of_kind

    def _try(self, row: int) -> None:
        if self._tried[row] < HISTORY_WINDOW:
            self._tried[row] += 1

    @staticmethod
    def _fade(of_kind: FloatRow, row: int, completed: float) -> None:
        if completed + of_kind[0, row] >= HISTORY_WINDOW:
            of_kind[0, row] *= 1 - 1 / HISTORY_WINDOW
