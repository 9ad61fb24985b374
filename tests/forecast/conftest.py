"""Series with a known shape, and a grid that is fed with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from coordinator.forecast.grid import Grid
from coordinator.forecast.history import FloatRow
from coordinator.forecast.horizons import Horizon

PLAIN = Horizon("plain", 10, (1, 6, 24), (24,))
"""A season of 24 steps, forecast one step, a quarter and a whole season ahead."""

Feed = Callable[..., Grid]


def shape(kind: str, steps: int, seed: int = 1) -> FloatRow:
    """Load over time."""
    at, chance = np.arange(steps), np.random.default_rng(seed)
    noise = 0.02 * chance.standard_normal(steps)
    shapes: dict[str, FloatRow] = {
        "constant": np.full(steps, 0.3),
        "sine": 0.5 + 0.3 * np.sin(2 * np.pi * at / 24),
        "noisy sine": 0.5 + 0.3 * np.sin(2 * np.pi * at / 24) + noise,
        "square": 0.2 + 0.5 * (at % 24 < 6),
        "trend": 0.1 + 0.7 * at / steps,
        "step": np.where(at < steps // 2, 0.2, 0.8),
        "noise": 0.5 + 5 * noise,
        "walk": np.abs(0.5 + np.cumsum(noise)),
        "spikes": 0.1 + 0.9 * (chance.random(steps) < 0.03),
    }
    return shapes[kind]


@pytest.fixture(scope="session")
def feed() -> Feed:
    """A grid that has seen these series, one a row."""

    def run(*series: FloatRow, after_each: Callable[[Grid], None] | None = None) -> Grid:
        grid = Grid(PLAIN)
        if len(series) > len(grid.top):
            grid.grow(len(series))
        values, known = np.zeros(len(grid.top)), np.zeros(len(grid.top), np.bool_)
        known[: len(series)] = True
        for number, now in enumerate(np.stack(series, axis=1)):
            values[: len(series)] = now
            grid.step(number, values, known, known)
            if after_each is not None:
                after_each(grid)
        return grid

    return run
