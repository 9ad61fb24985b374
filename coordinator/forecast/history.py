"""The past of many series on one regular grid, in a ring."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

FloatRow = NDArray[np.float64]
BoolRow = NDArray[np.bool_]
IntRow = NDArray[np.int64]
FIRST_ROWS: Final = 16
"""Series that arrays have room for to begin with."""


class Growing(Protocol):
    """What holds something of every series."""

    def grow(self, size: int) -> None:
        """Make room for `size` series."""

    def clear(self, row: int) -> None:
        """Begin this series anew."""


class Columns:
    """Arrays whose last axis is the series. `_fills` names them, with what a new series begins with."""

    _fills: ClassVar[dict[str, float]] = {}

    def _shape(self, **shapes: tuple[int, ...]) -> None:
        """Make the arrays, of float64 unless they are made elsewhere, with these first axes."""
        for name, shape in shapes.items():
            setattr(self, name, np.full((*shape, FIRST_ROWS), self._fills[name]))

    def grow(self, size: int) -> None:
        for name, fill in self._fills.items():
            array: NDArray[Any] = getattr(self, name)
            more = np.full((*array.shape[:-1], size - array.shape[-1]), fill, array.dtype)
            setattr(self, name, np.concatenate([array, more], axis=-1))

    def clear(self, row: int) -> None:
        for name, fill in self._fills.items():
            getattr(self, name)[..., row] = fill


class History(Columns):
    """The last `steps` values of each series, and since how many steps it has been known (`age`). Before it
    was, it is taken to have been what it began with."""

    _fills: ClassVar[dict[str, float]] = {
        "values": 0.0,
        "age": 0,
        "lowest": np.inf,
        "highest": -np.inf,
        "now": 0.0,
    }

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.number = -1
        """The latest step, -1 before the first."""
        self.values: NDArray[np.float32] = np.zeros((steps, FIRST_ROWS), np.float32)
        self.age: IntRow = np.zeros(FIRST_ROWS, np.int64)
        self.lowest: FloatRow = np.full(FIRST_ROWS, np.inf)
        self.highest: FloatRow = np.full(FIRST_ROWS, -np.inf)
        self.now: FloatRow = np.zeros(FIRST_ROWS)

    def push(self, number: int, values: FloatRow, known: BoolRow) -> None:
        """The values of the step `number`, which is later than the latest; steps between are as the latest.
        Series that are not `known` yet have none."""
        row = values.astype(np.float32)
        if self.number >= 0:
            for missed in range(max(self.number + 1, number - self.steps), number):
                self.values[missed % self.steps] = self.values[self.number % self.steps]
        new = np.flatnonzero(known & (self.age == 0))
        if len(new):
            self.values[:, new] = row[new]
        self.values[number % self.steps] = row
        self.age[known] += number - self.number if self.number >= 0 else 1
        self.age[new] = 1
        self.number = number
        # What is computed from is what is stored, so that a constant stays one.
        self.now = row.astype(np.float64)
        np.minimum(self.lowest, self.now, out=self.lowest, where=known)
        np.maximum(self.highest, self.now, out=self.highest, where=known)

    def at(self, back: int) -> NDArray[np.float32]:
        """The values `back` steps before the latest."""
        row: NDArray[np.float32] = self.values[(self.number - back) % self.steps]
        return row

    def window(self, length: int, rows: IntRow) -> FloatRow:
        """The last `length` values of some series, oldest first."""
        steps = (self.number - length + 1 + np.arange(length)) % self.steps
        return self.values[np.ix_(steps, rows)].astype(np.float64)
