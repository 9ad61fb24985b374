"""What a scheduler knows of a workflow before it runs, in four degrees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from bench.placement.instances import Instance
from bench.placement.platform import Platform, Reality
from bench.placement.workload import profile_of
from coordinator.core.kinds import kind_of
from coordinator.scheduling.learning.estimates import Estimates


class Knowledge(StrEnum):
    """EXACT: clients say what tasks take, agents how fast they are, and both are right. In all others agents
    are wrong (`Reality.noisy`). NOISY_ORACLE: clients say what tasks took in the trace, which is wrong, too.
    NOISY_COLD: they say nothing, and nothing is known. NOISY_WARM: they say nothing; other runs of the
    application are known."""

    EXACT = "exact"
    NOISY_ORACLE = "noisy_oracle"
    NOISY_COLD = "noisy_cold"
    NOISY_WARM = "noisy_warm"

    @property
    def stated(self) -> bool:
        """Whether clients say what tasks take."""
        return self in (Knowledge.EXACT, Knowledge.NOISY_ORACLE)


class Past(NamedTuple):
    """Of a type: how many of its tasks are known, and mean and variance of the logarithm of their work."""

    ends: int
    log_mean: float
    variance: float


History = Mapping[str, Past]
"""By task type."""


def histories(instances: Sequence[Instance]) -> dict[str, History]:
    """By name of instance, what all others of its application tell; those that have none are left out."""
    found = {}
    for instance in instances:
        others = [one for one in instances if one is not instance and one.application == instance.application]
        if others:
            found[instance.name] = history_of(others)
    return found


def history_of(instances: Iterable[Instance]) -> History:
    """What these runs tell, by the work that is in their traces."""
    logs: dict[str, list[float]] = {}
    for instance in instances:
        for task_type, log_work in zip(instance.types, np.log(instance.work).tolist(), strict=True):
            logs.setdefault(task_type, []).append(log_work)
    return {
        task_type: Past(len(some), float(np.mean(some)), float(np.var(some)))
        for task_type, some in logs.items()
    }


def tell(estimates: Estimates, history: History) -> None:
    """As if the scheduler had seen these runs, on agents that are gone."""
    for task_type, past in history.items():
        kind = kind_of(profile_of(task_type), 0)
        estimates.recall(kind, past.ends, past.log_mean, past.variance)


def reality_of(instance: Instance, platform: Platform, seed: int | None) -> Reality:
    """What a run meets; without a seed, the trace."""
    if seed is None:
        return Reality(instance.work, platform.speeds)
    return Reality.noisy(instance.work, platform.speeds, seed)
