"""How load decides on who takes work: weights and thresholds, as an operator sets them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from coordinator.errors import InvalidRequest
from coordinator.families.built_in import MIXED_LOAD
from coordinator.families.load_weights import LoadWeights
from coordinator.scheduling.load.weights import chosen, parse_weights

Share = Annotated[float, Meta(ge=0, le=1)]


class LoadSettings(msgspec.Struct, frozen=True, kw_only=True):
    """An agent is overloaded above `high`, until it is below `low`. In the mode "adaptive" `high` is the mean
    of all loads plus `k` of their standard deviations, but from `floor` to `ceiling`, and `low` as far below
    it as of the fixed ones. At most `max_share` of the agents are overloaded at once. `weights`, as
    `cpu=2,memory=1`, take the place of those of every task family; empty: each has its own.
    """

    mode: Literal["fixed", "adaptive", "off"] = "fixed"
    high: Share = 0.95
    low: Share = 0.85
    k: Annotated[float, Meta(ge=0, le=100)] = 2.0
    floor: Share = 0.75
    ceiling: Share = 0.98
    max_share: Share = 0.5
    weights: str = ""

    @property
    def gap(self) -> float:
        """The hysteresis."""
        return self.high - self.low

    @property
    def operators(self) -> LoadWeights | None:
        """The operator's own weights. Raises InvalidRequest if those given are none."""
        return parse_weights(self.weights)

    @property
    def machine(self) -> LoadWeights:
        """Those by which agents are judged, whatever they run. Raises InvalidRequest."""
        return chosen(MIXED_LOAD, self.operators).machine

    def rules(self) -> list[tuple[str, bool, str]]:
        """The name of a setting, whether it agrees with the others, and what it should be."""
        wrong = self._wrong_weights()
        return [
            ("low", self.low < self.high, f"below load.high, {self.high}"),
            ("floor", self.floor > self.gap, f"above load.high - load.low, {self.gap:g}"),
            ("floor", self.floor <= self.ceiling, f"at most load.ceiling, {self.ceiling}"),
            ("weights", not wrong, f"NAME=NUMBER,... with weight on the agent's machine: {wrong}"),
        ]

    def _wrong_weights(self) -> str:
        try:
            _ = self.machine
        except InvalidRequest as error:
            return error.message
        return ""
