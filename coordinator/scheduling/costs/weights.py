"""What a plan is worth: the weights of its objectives, and policies that name them (E1).

Minimise `time x ExecutionTime + balance x LoadImbalance + communication x CommunicationCost + energy x
Energy`, all four in seconds: until the task has ended; of work per slot that its agent has before it; of
moving its inputs; of running at the mean power of those agents that say theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from coordinator.errors import InvalidRequest

LARGEST_WEIGHT: Final = 1_000.0
"""Of an objective: beyond, sums of costs would lose the small terms that decide between equals."""

MOST_SCHEDULES: Final = 128
"""In one search."""

MOST_RIVALS: Final = 4
"""Attempts of a task at once that a policy may ask for."""


class Weights(msgspec.Struct, frozen=True):
    """Each 0 to `LARGEST_WEIGHT`, and not all 0."""

    time: float = 1.0
    balance: float = 0.0
    communication: float = 0.0
    energy: float = 0.0

    def __post_init__(self) -> None:
        """Raises InvalidRequest."""
        given = msgspec.structs.asdict(self)
        for name, weight in given.items():
            if not (math.isfinite(weight) and 0 <= weight <= LARGEST_WEIGHT):
                raise InvalidRequest(
                    f"the weight of {name} is {weight}; allowed: 0 to {LARGEST_WEIGHT:g}", value=weight
                )
        if not any(given.values()):
            raise InvalidRequest("all weights are 0: nothing would tell one plan from another", value=given)


class Policy(msgspec.Struct, frozen=True):
    """`rivals` are the attempts that a task may have at once where agents would else be idle, the next of
    them once those before have lasted for `patience` times what was expected of them; `foresight` bounds the
    places that a round keeps for tasks that wait for a better one than is free, or cannot begin yet; of
    what is left to do, where it is little, so many `schedules` are made whenever there is something to
    decide, 0 for none (`plans/search.py`)."""

    name: str
    weights: Weights = Weights()
    rivals: int = 2
    patience: float = 1.5
    foresight: int = 256
    schedules: int = 0

    def __post_init__(self) -> None:
        """Raises InvalidRequest."""
        if not 1 <= self.rivals <= MOST_RIVALS:
            raise InvalidRequest(
                f"policy {self.name!r} allows {self.rivals} attempts of a task at once; allowed: 1 to "
                f"{MOST_RIVALS}",
                value=self.rivals,
            )
        if not self.patience >= 0:
            raise InvalidRequest(f"policy {self.name!r} has a patience below 0", value=self.patience)
        if self.foresight < 0:
            raise InvalidRequest(f"policy {self.name!r} has a foresight below 0", value=self.foresight)
        if not 0 <= self.schedules <= MOST_SCHEDULES:
            raise InvalidRequest(
                f"policy {self.name!r} makes {self.schedules} schedules in a search; allowed: 0 to "
                f"{MOST_SCHEDULES}",
                value=self.schedules,
            )
        other = self.weights.balance, self.weights.communication, self.weights.energy
        if self.schedules and any(other):
            raise InvalidRequest(
                f"policy {self.name!r} searches for schedules, which are compared by time alone, and weighs "
                f"balance, communication and energy {other}: leave these at 0",
                value=other,
            )


FAST: Final = Policy("fast", Weights(), rivals=MOST_RIVALS, patience=0.0)
BALANCED: Final = Policy("balanced", Weights(1.0, 1.5, 0.25, 0.1))
GREEN: Final = Policy("green", Weights(0.25, 0.1, 0.25, 1.0), rivals=1)
CHEAP_NETWORK: Final = Policy("cheap-network", Weights(0.5, 0.25, 4.0, 0.1), rivals=1)

SEARCH: Final = Policy("search", Weights(), rivals=1, schedules=64)

BUILT_IN: Final[Mapping[str, Policy]] = {
    one.name: one for one in (BALANCED, FAST, GREEN, CHEAP_NETWORK, SEARCH)
}
