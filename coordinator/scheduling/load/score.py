"""How loaded agents are: LoadScore = a1*CPU + a2*Memory + a3*Network + a4*TaskMatch + a5*History (D2, D3).

Every term is a share from 0, nothing of it, to 1, all of it, over rows of agents as in `AgentTable`. The
weights are those of a task's family, or an operator's own, and follow the state of the system: what is scarce
everywhere counts more.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from coordinator.core.model import AgentLoad
from coordinator.families.load_weights import LoadWeights, weights_of
from coordinator.scheduling.agents.rows import BoolRow, FloatRow

SCARCE: Final = 0.7
"""Mean of a term over all agents above which its weight grows."""

GROWTH: Final = 1.0
"""By how much of itself a weight grows until that mean is 1."""

_SHARES: Final = ("cpu", "memory", "gpu", "packet_loss")
_AMOUNTS: Final = ("latency_ms",)


class Loads(NamedTuple):
    """What agents have measured, as shares. `queue` is that of the places in an agent's queue."""

    cpu: FloatRow
    memory: FloatRow
    network: FloatRow
    gpu: FloatRow
    gpu_memory: FloatRow
    queue: FloatRow


def following(weights: LoadWeights, loads: Loads, among: BoolRow) -> LoadWeights:
    """The weights in the present state of the system, which the agents in `among` are: a1, a2 and a3 grow by
    `GROWTH * (mean - SCARCE) / (1 - SCARCE)` of themselves where the mean of their term is above `SCARCE`.
    None can more than double before all are brought to a sum of 1 again."""
    if not among.any():
        return weights
    grown = [
        weight * (1 + GROWTH * max(0.0, float(term[among].mean()) - SCARCE) / (1 - SCARCE))
        for weight, term in zip(weights.terms, _measured(weights, loads), strict=False)
    ]
    return weights_of((*grown, weights.match, weights.history), gpu=weights.gpu)


def score(weights: LoadWeights, loads: Loads, match: Any = 0.0, history: Any = 0.0) -> FloatRow:
    """The LoadScore of every row, from 0 to 1. `match` is 0 for an agent that fits the task exactly and 1 for
    one that hardly does, `history` the share of its attempts that failed: rows, or numbers for all of
    them."""
    total = machine_score(weights, loads)
    total += weights.match * shares(match)
    total += weights.history * shares(history)
    return np.clip(total, 0.0, 1.0, out=total)


def machine_score(weights: LoadWeights, loads: Loads) -> FloatRow:
    """The part of it that does not depend on the task: a1 to a3 with what was measured. The array is
    new."""
    total: FloatRow = np.zeros(len(loads.cpu))
    for weight, term in zip(weights.terms, _measured(weights, loads), strict=False):
        total += weight * term
    return total


def shares(values: Any) -> FloatRow:
    """The values, where they are from 0 to 1, and 1 where they are not: what cannot be believed counts as
    fully loaded."""
    given = np.asarray(values, np.float64)
    believed: FloatRow = np.where((given >= 0) & (given <= 1), given, 1.0)
    return believed


def believed(load: AgentLoad) -> tuple[AgentLoad, int]:
    """The load with what cannot be believed replaced - a share by 1, a latency by 0, which stands for not
    measured - and how much that was."""
    wrong: dict[str, float] = {name: 1.0 for name in _SHARES if not 0 <= getattr(load, name) <= 1}
    wrong |= {name: 0.0 for name in _AMOUNTS if not 0 <= getattr(load, name) < math.inf}
    return (msgspec.structs.replace(load, **wrong), len(wrong)) if wrong else (load, 0)


def _measured(weights: LoadWeights, loads: Loads) -> tuple[FloatRow, FloatRow, FloatRow]:
    """CPU, memory and network. An agent whose queue is full is as busy as one whose CPU is."""
    cpu, memory = np.maximum(shares(loads.cpu), shares(loads.queue)), shares(loads.memory)
    if weights.gpu:
        cpu, memory = np.maximum(cpu, shares(loads.gpu)), np.maximum(memory, shares(loads.gpu_memory))
    return cpu, memory, shares(loads.network)
