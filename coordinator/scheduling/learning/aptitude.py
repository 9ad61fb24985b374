"""How quick an agent is at one kind of task beside what its speed says: machines are not all slow at the same
things.

Residuals by agent are a random effect. How much agents differ is estimated from all of them (DerSimonian and
Laird, Controlled Clinical Trials 7(3), 1986), and each is believed as far as its ends go beyond the noise.
Most kinds have none: agents that differ by no more than chance are taken to be alike."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from coordinator.scheduling.agents.rows import FloatRow
from coordinator.scheduling.learning.products import dot

_LEAST_AGENTS: Final = 2
_LEAST_ENDS: Final = 2.0
"""Of an agent: one alone cannot be told from noise."""
_CLEARLY: Final = 3.0
"""Standard deviations of what chance gives, from which on agents of a kind differ."""


class Aptitude(NamedTuple):
    """By row, what is added to the logarithm of the agent's speed for a kind, and the variance between
    agents."""

    factors: FloatRow
    variance: float


def aptitude(count: FloatRow, slower: FloatRow, noise: float) -> Aptitude | None:
    """From the ends by row, by how much their logarithms are in the mean above what kind and agent let
    expect, and the variance between ends of one agent; None if agents do not clearly differ."""
    rows = np.flatnonzero(count >= _LEAST_ENDS)
    freedom = len(rows) - 1
    if freedom + 1 < _LEAST_AGENTS:
        return None
    weight = count[rows] / noise
    all_weight = float(weight.sum())
    off = slower[rows]
    off = off - dot(weight, off) / all_weight
    excess = dot(weight, off * off) - freedom
    if excess <= _CLEARLY * (2 * freedom) ** 0.5:
        return None
    variance = excess / (all_weight - dot(weight, weight) / all_weight)
    factors: FloatRow = np.zeros(len(count))
    factors[rows] = -slower[rows] * variance / (variance + 1 / weight)
    return Aptitude(factors, variance)
