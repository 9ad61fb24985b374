"""Python's cyclic garbage collector stops the event loop for as long as it looks at objects. It is kept from
what stays and has no cycles: what was imported, and a state of a million tasks while that is made. What a
state is made of, and the events that are kept, are of types that it does not look at (`gc=False`)."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

from coordinator.core.state import State

_LARGE: Final = 50_000
"""Tasks from which the objects of a state are worth a place of their own."""


_SELDOM: Final = (10_000, 20, 20)
"""Thresholds of the three generations (`gc.set_threshold`). An entry of a few hundred tasks makes some
thousands of objects that outlive it by little: by Python's 700 each would be looked at several times, which
took a twelfth of a busy leader's time."""


def spare_what_is_there() -> None:
    """Never look again at what there is by now, and less often at what will be."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_SELDOM)


def load_uncollected(load: Callable[[], State]) -> State:
    """The state that `load` makes, while no collection runs; the objects of a large one are never looked
    at after that. They go when nothing refers to them, as all others."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        state = load()
        if sum(len(dag.tasks) for dag in state.dags.values()) >= _LARGE:
            gc.freeze()
    finally:
        if collecting:
            gc.enable()
    return state
