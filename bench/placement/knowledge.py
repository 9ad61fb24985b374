"""What a scheduler knows of a workflow before it runs, in four degrees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import numpy as np

from bench.placement.instances import Floats, Instance
from bench.placement.platform import Platform, Reality
from bench.placement.workload import profile_of
from coordinator.core.kinds import Kind, kind_of, read_log2
from coordinator.core.model import DataItem
from coordinator.scheduling.learning.estimates import Estimates
from coordinator.scheduling.learning.reads import log_read


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


History = Mapping[Kind, Floats]
"""By kind, of the tasks of it that are known: what `Estimates.remember_gone` takes."""


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
    known: dict[Kind, Floats] = {}
    for instance in instances:
        work = np.log(instance.work).tolist()
        for task_type, log_work, edges in zip(instance.types, work, instance.edge_bytes, strict=True):
            hint = -read_log2([DataItem("", size_bytes) for size_bytes in edges])
            read = log_read(hint)
            sums = np.array([1.0, log_work, log_work**2, read, read**2, read * log_work])
            kind = kind_of(profile_of(task_type), hint)
            known[kind] = known.get(kind, 0.0) + sums
    return known


def tell(estimates: Estimates, history: History) -> None:
    """As if the scheduler had seen these runs, on agents that are gone."""
    for kind, sums in history.items():
        estimates.remember_gone(kind, sums[:3], sums[3:])
    estimates.settle()


def reality_of(instance: Instance, platform: Platform, seed: int | None) -> Reality:
    """What a run meets; without a seed, the trace."""
    if seed is None:
        return Reality(instance.work, platform.speeds)
    return Reality.noisy(instance.work, platform.speeds, seed)
