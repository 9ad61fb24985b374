"""Placement policies by name. To add one: an `Objective`, and its line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from coordinator.errors import InvalidRequest
from coordinator.scheduling.ledger import Ledger
from coordinator.scheduling.objectives import LeastLoaded, Objective, RoundRobin

Policy = Callable[[Ledger, int], Objective]
"""Makes the objective of one round, given its ledger and the row whose turn it is."""

DEFAULT: Final = "least-loaded"

POLICIES: Final[Mapping[str, Policy]] = {DEFAULT: LeastLoaded, "round-robin": RoundRobin}


def policy(name: str) -> Policy:
    """Raises InvalidRequest for a name that is not known."""
    found = POLICIES.get(name)
    if found is None:
        raise InvalidRequest(
            f"there is no placement policy {name!r}: give one of {', '.join(POLICIES)}", value=name
        )
    return found
