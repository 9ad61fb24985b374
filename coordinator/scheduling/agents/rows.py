"""What is counted of the agents of a snapshot, in arrays by row."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import Resources

RESOURCE_FIELDS: Final = Resources.__struct_fields__
"""The order of the columns of `total` and `free`."""

_FIRST_ROWS: Final = 64

BoolRow = NDArray[np.bool_]
IntRow = NDArray[np.int64]
FloatRow = NDArray[np.float64]
Rows = NDArray[np.intp] | slice


class AgentRows:
    """Arrays over rows, `size` of them; rows without an agent have `present` False. `free` and `total` have a
    column for each of `RESOURCE_FIELDS`."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        """Of the agent in this row, "" if it is vacant."""
        self.version: IntRow = np.zeros(_FIRST_ROWS, np.int64)
        self.touched: IntRow = np.zeros(_FIRST_ROWS, np.int64)
        """Per row the latest change of anything that families see, numbered as they happen."""
        self.present: BoolRow = np.zeros(_FIRST_ROWS, np.bool_)
        self.accepting: BoolRow = np.zeros(_FIRST_ROWS, np.bool_)
        self.epochs: IntRow = np.zeros(_FIRST_ROWS, np.int64)
        self.slots: IntRow = np.zeros(_FIRST_ROWS, np.int64)
        self.credit: IntRow = np.zeros(_FIRST_ROWS, np.int64)
        self.held: IntRow = np.zeros(_FIRST_ROWS, np.int64)
        self.held_s: FloatRow = np.zeros(_FIRST_ROWS, np.float64)
        self.speed: FloatRow = np.ones(_FIRST_ROWS, np.float64)
        self.busy_watts: FloatRow = np.zeros(_FIRST_ROWS, np.float64)
        self.load: FloatRow = np.zeros(_FIRST_ROWS, np.float64)
        self.latency_ms: FloatRow = np.zeros(_FIRST_ROWS, np.float64)
        self.total: IntRow = np.zeros((_FIRST_ROWS, len(RESOURCE_FIELDS)), np.int64)
        self.free: IntRow = np.zeros((_FIRST_ROWS, len(RESOURCE_FIELDS)), np.int64)

    @property
    def size(self) -> int:
        """Rows in use or vacant; arrays may be longer."""
        return len(self.ids)

    def add_row(self) -> bool:
        """Append a row that is vacant; whether every array was made anew, twice as long, to have it."""
        self.ids.append("")
        if self.size <= len(self.version):
            return False
        for name in _ARRAYS:
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.zeros_like(array)]))
        return True


_ARRAYS: Final = (
    "version", "touched", "present", "accepting", "epochs", "slots", "credit", "held", "held_s", "speed",
    "busy_watts", "load", "latency_ms", "total", "free",
)  # fmt: skip
