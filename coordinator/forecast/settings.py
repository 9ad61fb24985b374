"""What an operator may set."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from coordinator.forecast.horizons import SLOW_MODELS


class ForecastSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Forecasts of load, in steps that are as long as `short_step_s`, `medium_step_s` and `long_step_s`; the
    distances are a number of steps. Memory holds at most `max_series`, three for each agent. With `placement`
    the short ones count where tasks are placed.

    `extras` names models that are installed apart, separated by commas. Each is asked about `extra_series`
    series every `extra_interval_s`, and ended if it takes longer than `extra_timeout_s`.
    """

    enabled: bool = True
    placement: bool = True
    short_step_s: Annotated[int, Meta(ge=1, le=60)] = 10
    medium_step_s: Annotated[int, Meta(ge=1, le=600)] = 120
    long_step_s: Annotated[int, Meta(ge=1, le=7_200)] = 1_800
    max_series: Annotated[int, Meta(ge=2, le=100_000)] = 10_000
    extras: str = ""
    extra_series: Annotated[int, Meta(ge=1, le=1_000)] = 16
    extra_interval_s: Annotated[int, Meta(ge=1, le=86_400)] = 60
    extra_timeout_s: Annotated[int, Meta(ge=1, le=3_600)] = 60

    @property
    def models(self) -> list[str]:
        """`extras`, one by one."""
        return [name.strip() for name in self.extras.split(",") if name.strip()]

    def rules(self) -> list[tuple[str, bool, str]]:
        """The key of a setting, whether it agrees with the others, and what it should be."""
        known = len(set(self.models) & SLOW_MODELS.keys()) == len(self.models)
        short, medium = self.short_step_s, self.medium_step_s
        return [
            ("forecast.medium_step_s", medium >= short, f"at least forecast.short_step_s, {short}"),
            (
                "forecast.long_step_s",
                self.long_step_s >= medium,
                f"at least forecast.medium_step_s, {medium}",
            ),
            ("forecast.extras", known, f"some of {','.join(SLOW_MODELS)}, each once, or nothing"),
        ]
