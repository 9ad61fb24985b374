"""The weights of a LoadScore, a1 to a5: how much each part of an agent's load tells a task (D3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from coordinator.errors import InvalidRequest

TERMS: Final = ("cpu", "memory", "network", "match", "history")
"""The terms of a LoadScore, a1 to a5, as they are named in settings."""


class LoadWeights(msgspec.Struct, frozen=True):
    """a1 to a5; they are brought to a sum of 1. With `gpu` the GPU counts, too: as CPU its use, as memory its
    memory.

    Raises:
        InvalidRequest: one is negative or not finite, or all are 0.
    """

    cpu: float = 0.0
    memory: float = 0.0
    network: float = 0.0
    match: float = 0.0
    history: float = 0.0
    gpu: bool = False

    def __post_init__(self) -> None:
        values = self.terms
        for name, value in zip(TERMS, values, strict=True):
            if not 0 <= value < math.inf:
                raise InvalidRequest(
                    f"the weight {name} of a LoadScore is {value}; give a number from 0 on",
                    weight=name,
                    value=value,
                )
        largest = max(values)
        if not largest:
            raise InvalidRequest(f"the weights of a LoadScore are all 0; give one of {', '.join(TERMS)}")
        # In two steps: their sum may be more than a float can hold, or a quotient of tiny ones.
        scaled = [value / largest for value in values]
        for name, value in zip(TERMS, scaled, strict=True):
            msgspec.structs.force_setattr(self, name, value / sum(scaled))

    @property
    def terms(self) -> tuple[float, ...]:
        """In the order of `TERMS`."""
        return (self.cpu, self.memory, self.network, self.match, self.history)

    @property
    def machine(self) -> LoadWeights:
        """The same without what depends on the task. Raises InvalidRequest if nothing is left."""
        return LoadWeights(self.cpu, self.memory, self.network, gpu=self.gpu)


def weights_of(terms: Iterable[float], *, gpu: bool) -> LoadWeights:
    """From a1 to a5. Raises InvalidRequest."""
    cpu, memory, network, match, history = terms
    return LoadWeights(cpu, memory, network, match, history, gpu)


def mean_weights(some: Sequence[LoadWeights]) -> LoadWeights:
    """The mean of several, in which the GPU counts."""
    return weights_of((sum(column) for column in zip(*(one.terms for one in some), strict=True)), gpu=True)
