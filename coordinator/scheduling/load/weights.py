"""An operator's own weights of the LoadScore, which go before those of all families (D3)."""

from __future__ import annotations

import msgspec

from coordinator.errors import InvalidRequest
from coordinator.families.load_weights import TERMS, LoadWeights, weights_of


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


def chosen(own: LoadWeights, operators: LoadWeights | None) -> LoadWeights:
    """The operator's where there are any, else the family's own. Whether the GPU counts is always the
    family's."""
    return own if operators is None else msgspec.structs.replace(operators, gpu=own.gpu)
