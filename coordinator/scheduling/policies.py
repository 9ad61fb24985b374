"""Placement policies by name: those that weigh costs (`weights`), and the simple ones, which see nothing of
what tasks last and are the baselines. To add one: its line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coordinator.errors import InvalidRequest
from coordinator.scheduling.ledger import Ledger
from coordinator.scheduling.objectives import LeastLoaded, Objective, RoundRobin
from coordinator.scheduling.weights import BUILT_IN, Policy

Simple = Callable[[Ledger, int], Objective]
"""Makes the objective of one round, given its ledger and the row whose turn it is."""

DEFAULT: Final = "balanced"

SIMPLE: Final[Mapping[str, Simple]] = {"least-loaded": LeastLoaded, "round-robin": RoundRobin}

NAMES: Final = (*BUILT_IN, *SIMPLE)


def policy(name: str) -> Policy | Simple:
    """Raises InvalidRequest for a name that is not known."""
    found = BUILT_IN.get(name) or SIMPLE.get(name)
    if found is None:
        raise InvalidRequest(
            f"there is no placement policy {name!r}: give one of {', '.join(NAMES)}", value=name
        )
    return found
