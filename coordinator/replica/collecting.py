"""Python's cyclic garbage collector and a state of a million tasks: it would look at every object again and
again while they are made, and stop the event loop for that long, though there is no cycle among them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

from coordinator.core.model import State

_LARGE: Final = 50_000
"""Tasks from which the objects of a state are worth a place of their own."""


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
