"""Where the workflows run, and what a scheduler does not know about it."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from bench.placement.instances import Floats

SEEDS: Final = (1, 2, 3)
"""Of the noisy runs."""

SLOWEST: Final = 0.5
FASTEST: Final = 2.0
BANDWIDTH: Final = 125e6
"""Bytes per second between any two agents: 1 Gbit/s."""

_SHUFFLE_SEED: Final = 1
_NOISE_SIGMA: Final = 0.3
_NOISE_MU: Final = -_NOISE_SIGMA * _NOISE_SIGMA / 2
"""So that the mean factor is 1."""


class Platform(msgspec.Struct, frozen=True):
    """Agents of one slot each in a full mesh; `speeds` as they advertise them."""

    speeds: Floats
    bandwidth: float

    @classmethod
    def of(cls, agents: int, bandwidth: float = BANDWIDTH) -> Platform:
        """Speeds log-spaced between the slowest and the fastest, in an order that means nothing."""
        speeds = np.exp(np.linspace(np.log(SLOWEST), np.log(FASTEST), agents))
        np.random.default_rng(_SHUFFLE_SEED).shuffle(speeds)
        return cls(speeds, bandwidth)


class Reality(msgspec.Struct, frozen=True):
    """What a run meets: work of each task in seconds at speed 1, and the speed of each agent."""

    work: Floats
    speeds: Floats

    @classmethod
    def noisy(cls, work: Floats, speeds: Floats, seed: int) -> Reality:
        """Both off by factors of mean 1, drawn from the seed: first the work by task, then the speeds by
        agent."""
        chance = np.random.default_rng(seed)
        return cls(
            work * chance.lognormal(_NOISE_MU, _NOISE_SIGMA, len(work)),
            speeds * chance.lognormal(_NOISE_MU, _NOISE_SIGMA, len(speeds)),
        )
