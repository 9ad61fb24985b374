"""The faults of a plan in their world: each strikes when its time has come, and ends when it is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

from chaos.sim.faults import strike
from chaos.sim.plan import Fault
from chaos.sim.world import Undo, World

_PATIENCE_S: Final = 2.0
_AGAIN_S: Final = 0.1
"""A fault that can do no harm when its time has come is tried again, this often and for so long."""


class Schedule:
    """Lays the faults out when it is made. `struck` counts by kind those that were brought about."""

    def __init__(self, world: World, faults: Sequence[Fault]) -> None:
        self.struck: Counter[str] = Counter()
        self._world = world
        self._undoings: dict[int, Undo] = {}
        for number, fault in enumerate(faults):
            world.scheduler.at(fault.at_s, partial(self._strike, number, fault))
        self._over = False

    def end(self) -> None:
        """Begin nothing more, and end all that lasts still."""
        self._over = True
        for undo in self._undoings.values():
            undo()
        self._undoings.clear()

    def _strike(self, number: int, fault: Fault) -> None:
        if self._over:
            return
        undo = strike(self._world, fault)
        if undo is None:
            if self._world.scheduler.now < fault.at_s + _PATIENCE_S:
                self._world.scheduler.after(_AGAIN_S, partial(self._strike, number, fault))
            return
        self.struck[fault.kind] += 1
        self._world.trace.note("fault", str(fault))
        self._undoings[number] = undo
        if fault.lasts_s:
            self._world.scheduler.after(fault.lasts_s, partial(self._undo, number))

    def _undo(self, number: int) -> None:
        undo = self._undoings.pop(number, None)
        if undo is not None:
            undo()
