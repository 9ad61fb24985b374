"""What rounds of many ask of each class of waiting tasks, by column: kept as tasks come and go, so that no
round has to visit classes of which there may be as many as tasks."""

from __future__ import annotations

from struct import Struct
from typing import Final

import numpy as np

from coordinator.scheduling.agents.rows import RESOURCE_FIELDS, IntRow

UNKNOWN: Final = -1

_FIRST_ROWS: Final = 64


class Columns:
    """A row for each class, without gaps and in no particular order. Of its tasks `count`, `steady_ms`, and
    of the first of them `order_ms`, `key`, `attempt` and `hint`, as in `WaitingTask`. Of the class codes of
    its `family` and `kind`, which are equal where these are, `level`, whether it `shares` more of an agent
    than resources, whether it has `fixed` predicates, and `demand`, what a task takes of each resource.

    What others have found is noted beside it, UNKNOWN of a new class: `capable` is where the cache of
    feasibility has it (`FeasibilityCache.positions`), `alike` the touch of the table of agents up to which
    these do not differ for it (`Affinity.alike_until`)."""

    def __init__(self) -> None:
        self._size = 0
        self._records = np.zeros(_FIRST_ROWS, _RECORD)
        self._memory = self._records.data.cast("B")

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, name: str) -> IntRow:
        """The column of this name, until a class comes or goes. Only what is noted is to be written to."""
        column: IntRow = self._records[name][: self._size]
        return column

    def add(self, family: int, kind: int, rest: bytes) -> int:
        """A row for a class, which has no tasks so far, given its codes and all else that is known of it
        (`packed`): returns which."""
        at = self._size
        if at == len(self._records):
            self._grow()
        self._size += 1
        _CLASS.pack_into(self._memory, at * _BYTES + _TASKS.size, family, kind, rest)
        return at

    def set_tasks(
        self, at: int, count: int, order_ms: int, key: int, attempt: int, hint: int, steady_ms: int
    ) -> None:
        """The tasks of the class in this row are these now."""
        _TASKS.pack_into(self._memory, at * _BYTES, count, order_ms, key, attempt, hint, steady_ms)

    def remove(self, at: int) -> None:
        """The class in this row is gone: the last row takes its place."""
        self._size = last = self._size - 1
        if at < last:
            begin, end = at * _BYTES, last * _BYTES
            self._memory[begin : begin + _BYTES] = self._memory[end : end + _BYTES]

    def _grow(self) -> None:
        known = self._memory
        self._records = np.zeros(2 * self._size, _RECORD)
        self._memory = self._records.data.cast("B")
        self._memory[: len(known)] = known


def packed(level: int, shares: bool, fixed: bool, demand: bytes) -> bytes:
    """What `Columns` has of a class beside its codes."""
    return _REST.pack(level, shares, fixed, UNKNOWN, UNKNOWN, demand)


_OF_TASKS: Final = ("count", "order_ms", "key", "attempt", "hint", "steady_ms")
_CODES: Final = ("family", "kind")
_OF_CLASS: Final = ("level", "shares", "fixed")
_NOTED: Final = ("capable", "alike")
_RECORD: Final = np.dtype(
    [(name, np.int64) for name in (*_OF_TASKS, *_CODES, *_OF_CLASS, *_NOTED)]
    + [("demand", np.int64, (len(RESOURCE_FIELDS),))]
)
_BYTES: Final = _RECORD.itemsize
_TASKS: Final = Struct(f"={len(_OF_TASKS)}q")
_REST: Final = Struct(f"={len(_OF_CLASS) + len(_NOTED)}q{8 * len(RESOURCE_FIELDS)}s")
_CLASS: Final = Struct(f"={len(_CODES)}q{_REST.size}s")
"""How a row lies in memory: to pack it takes a fraction of the time that to set each field does."""
