"""The weights of a LoadScore, a1 to a5: of each task family, or an operator's own (D3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from coordinator.core.model import TaskFamily
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


def parse_weights(text: str) -> LoadWeights | None:
    """`cpu=2,memory=1,...` with the names of `TERMS`, those that are not named being 0; None for "". Raises
    InvalidRequest."""
    if not text.strip():
        return None
    given: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in TERMS or name in given:
            raise InvalidRequest(
                f"{part.strip()!r} is no weight of a LoadScore; give NAME=NUMBER,..., each of "
                f"{', '.join(TERMS)} once at most"
            )
        try:
            given[name] = float(value)
        except ValueError as error:
            raise InvalidRequest(f"the weight {name} of a LoadScore is {value!r}, not a number") from error
    return weights_of((given.get(name, 0.0) for name in TERMS), gpu=False)


def weights_of(terms: Iterable[float], *, gpu: bool) -> LoadWeights:
    """From a1 to a5. Raises InvalidRequest."""
    cpu, memory, network, match, history = terms
    return LoadWeights(cpu, memory, network, match, history, gpu)


def _mean(weights: list[LoadWeights]) -> LoadWeights:
    return weights_of((sum(column) for column in zip(*(one.terms for one in weights), strict=True)), gpu=True)


_FAMILIES: Final[Mapping[TaskFamily, LoadWeights]] = {
    TaskFamily.MODEL: LoadWeights(0.30, 0.40, 0.05, 0.15, 0.10, gpu=True),
    TaskFamily.TOOL: LoadWeights(0.20, 0.20, 0.20, 0.20, 0.20),
    TaskFamily.COMPUTE: LoadWeights(0.55, 0.20, 0.05, 0.10, 0.10),
    TaskFamily.IO: LoadWeights(0.10, 0.15, 0.50, 0.15, 0.10),
    TaskFamily.COMMUNICATION: LoadWeights(0.10, 0.10, 0.55, 0.10, 0.15),
}

MIXED: Final = _mean(list(_FAMILIES.values()))
"""The mean of all families, for hybrid tasks and for those without a family."""

DEFAULT_WEIGHTS: Final[Mapping[TaskFamily, LoadWeights]] = {
    **_FAMILIES,
    TaskFamily.HYBRID: MIXED,
    TaskFamily.UNSPECIFIED: MIXED,
}
"""What counts for a family while nobody says otherwise."""


def weights_by_family(override: LoadWeights | None) -> dict[TaskFamily, LoadWeights]:
    """The weights of every family: the operator's where there are any. Whether the GPU counts is always the
    family's."""
    if override is None:
        return dict(DEFAULT_WEIGHTS)
    return {family: msgspec.structs.replace(override, gpu=own.gpu) for family, own in DEFAULT_WEIGHTS.items()}
