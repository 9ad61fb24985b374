"""How far ahead forecasts reach, and how finely: short, medium and long."""

from __future__ import annotations

from typing import Final

import msgspec

from coordinator.core.limits import LOAD_STEPS

HISTORY_STEPS: Final = LOAD_STEPS
"""Steps of the past that are kept of each series on each grid: over an hour in steps of 10 s, half a day in
steps of two minutes, eight days in steps of half an hour."""


SLOW_MODELS: Final = {"arima": "short", "lstm": "medium", "prophet": "long"}
"""Models that run elsewhere, and the horizon that each serves."""


class Horizon(msgspec.Struct, frozen=True):
    """A grid of `step_s` seconds. `leads` are the distances of its forecasts and `seasons` the periods that
    it looks for, shorter than `HISTORY_STEPS`; both in steps, ascending."""

    name: str
    step_s: int
    leads: tuple[int, ...]
    seasons: tuple[int, ...]

    def number(self, at_ms: int) -> int:
        """The step that holds this time."""
        return at_ms // (self.step_s * 1000)

    def end_ms(self, number: int) -> int:
        """When the step ends."""
        return (number + 1) * self.step_s * 1000


def horizons(
    short_step_s: int = 10, medium_step_s: int = 120, long_step_s: int = 1_800
) -> tuple[Horizon, ...]:
    """With these steps, short is 1 to 10 minutes, medium 10 to 60 minutes, and long 1 to 24 hours, with the
    hour, the hour, the day and the week as seasons."""
    return (
        Horizon("short", short_step_s, (6, 12, 30, 60), (360,)),
        Horizon("medium", medium_step_s, (5, 10, 15, 30), (30,)),
        Horizon("long", long_step_s, (2, 6, 12, 48), (48, 336)),
    )
