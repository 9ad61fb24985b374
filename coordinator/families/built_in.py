"""The six families of requirement B1. Costs are in seconds, and tell agents apart that could all take the
task (E3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from coordinator.core.model import Backoff, Requirements, RetryPolicy, TaskFamily
from coordinator.families.family import Agents, Family, FloatRow
from coordinator.families.load_weights import LoadWeights, mean_weights

MODEL_LOAD_BPS: Final = float(1 << 30)
"""At which a model of known size is read into the memory of a GPU."""

BATCH_S: Final = 0.05
"""What a request loses where there is no other one of its model to go with."""

CONTENTION_S: Final = 0.1
"""What a tool costs more where all of its places but one are taken."""

LINK_BPS: Final = 125e6
"""Of an agent that does not say, and of links to data elsewhere: 1 Gbit/s."""

REMOTE_S: Final = 1.0
"""What it takes to get at data of unknown size that is elsewhere."""

LEAST_LEFT: Final = 0.1
"""Of its bandwidth: however busy a link is, a transfer gets that much."""

ROUND_TRIPS: Final = 10
"""That a task makes which talks to others."""

RECONNECT_S: Final = 5.0
"""What a link costs that breaks."""


# --- what is demanded ---------------------------------------------------------------------------------------


def _check_model(requirements: Requirements) -> str:
    needs = requirements.needs
    if needs.model:
        return ""
    if needs.model_version or needs.batchable:
        return "it gives the version of a model, or may be batched, and names no model"
    if requirements.resources.gpu_memory_bytes or requirements.capabilities:
        return ""
    return "it names no model: give that, GPU memory, or a capability"


def _check_tool(requirements: Requirements) -> str:
    return "" if requirements.needs.tool else "it names no tool"


def _check_hybrid(requirements: Requirements) -> str:
    needed = [name for name, has in _HAS_NEEDS.items() if has(requirements)]
    if len(needed) > 1:
        return ""
    return f"it has the needs of {needed[0] if needed else 'no family'}: give those of two families at least"


_HAS_NEEDS: Final[Mapping[str, Callable[[Requirements], bool]]] = {
    "model": lambda one: bool(one.needs.model or one.resources.gpu_memory_bytes),
    "tool": lambda one: bool(one.needs.tool),
    "compute": lambda one: bool(one.resources.milli_cores or one.resources.memory_bytes),
    "io": lambda one: bool(
        one.needs.data_location or one.resources.disk_bytes or one.resources.bandwidth_bps
    ),
    "communication": lambda one: bool(one.needs.max_latency_ms or one.needs.protocol),
}
"""By family, whether a task has needs of it."""


# --- what it costs ------------------------------------------------------------------------------------------


def model_setup_s(requirements: Requirements, agents: Agents) -> FloatRow | None:
    """Loading the model where it is neither cached nor in use; where it may be batched, going alone, too."""
    needs, size = requirements.needs, requirements.resources.gpu_memory_bytes
    if not needs.model:
        return None
    in_use = agents.users("model", needs.model) > 0
    there = in_use | agents.has("model", needs.model)
    if needs.model_version:
        there = there | agents.has("model", f"{needs.model}:{needs.model_version}")
    seconds: FloatRow = np.where(there, 0.0, size / MODEL_LOAD_BPS if size else agents.model_load_s)
    return seconds + np.where(in_use, 0.0, BATCH_S) if needs.batchable else seconds


def tool_setup_s(requirements: Requirements, agents: Agents) -> FloatRow | None:
    """Sharing the tool with those that use it, where the agent bounds them."""
    tool = requirements.needs.tool
    if not tool:
        return None
    seconds: FloatRow = CONTENTION_S * agents.users("tool", tool) / np.maximum(agents.limit("tool", tool), 1)
    return seconds


def io_setup_s(requirements: Requirements, agents: Agents) -> FloatRow | None:
    """Moving what the task stores over what is free of the agent's link, and getting at data elsewhere."""
    location, size = requirements.needs.data_location, requirements.resources.disk_bytes
    if not location and not size:
        return None
    declared = agents.total("bandwidth_bps")
    bandwidth = np.where(declared > 0, declared, LINK_BPS) * np.maximum(1 - agents.network, LEAST_LEFT)
    seconds: FloatRow = size / bandwidth
    if location:
        seconds = seconds + np.where(agents.has("data", location), 0.0, size / LINK_BPS if size else REMOTE_S)
    return seconds


def communication_setup_s(requirements: Requirements, agents: Agents) -> FloatRow | None:
    """Round trips, and reconnecting where attempts tend to fail."""
    seconds: FloatRow = ROUND_TRIPS * 1e-3 * agents.latency_ms + RECONNECT_S * agents.failure_share
    return seconds


def hybrid_setup_s(requirements: Requirements, agents: Agents) -> FloatRow | None:
    """The sum over the families that it has needs of."""
    parts = [
        seconds
        for name, setup_s in _SETUPS.items()
        if _HAS_NEEDS[name](requirements) and (seconds := setup_s(requirements, agents)) is not None
    ]
    return np.sum(parts, axis=0) if parts else None


_SETUPS: Final = {
    "model": model_setup_s,
    "tool": tool_setup_s,
    "io": io_setup_s,
    "communication": communication_setup_s,
}


# --- how it weighs an agent's load --------------------------------------------------------------------------

MODEL_LOAD: Final = LoadWeights(0.30, 0.40, 0.05, 0.15, 0.10, gpu=True)
TOOL_LOAD: Final = LoadWeights(0.20, 0.20, 0.20, 0.20, 0.20)
COMPUTE_LOAD: Final = LoadWeights(0.55, 0.20, 0.05, 0.10, 0.10)
IO_LOAD: Final = LoadWeights(0.10, 0.15, 0.50, 0.15, 0.10)
COMMUNICATION_LOAD: Final = LoadWeights(0.10, 0.10, 0.55, 0.10, 0.15)
MIXED_LOAD: Final = mean_weights([MODEL_LOAD, TOOL_LOAD, COMPUTE_LOAD, IO_LOAD, COMMUNICATION_LOAD])
"""The mean of all families, for hybrid tasks and for those without a family."""


# --- the families -------------------------------------------------------------------------------------------

MODEL: Final = Family(
    name="model",
    like=TaskFamily.MODEL,
    load=MODEL_LOAD,
    check=_check_model,
    setup_s=model_setup_s,
    retry=RetryPolicy(2, Backoff.FIXED, 1_000),
    repeatable=True,
)
TOOL: Final = Family(
    name="tool", like=TaskFamily.TOOL, load=TOOL_LOAD, check=_check_tool, setup_s=tool_setup_s
)
COMPUTE: Final = Family(name="compute", like=TaskFamily.COMPUTE, load=COMPUTE_LOAD, repeatable=True)
IO: Final = Family(
    name="io",
    like=TaskFamily.IO,
    load=IO_LOAD,
    setup_s=io_setup_s,
    retry=RetryPolicy(3, Backoff.EXPONENTIAL, 1_000, 30_000),
)
COMMUNICATION: Final = Family(
    name="communication",
    like=TaskFamily.COMMUNICATION,
    load=COMMUNICATION_LOAD,
    setup_s=communication_setup_s,
    retry=RetryPolicy(4, Backoff.EXPONENTIAL, 200, 10_000),
)
HYBRID: Final = Family(
    name="hybrid", like=TaskFamily.HYBRID, load=MIXED_LOAD, check=_check_hybrid, setup_s=hybrid_setup_s
)

ALL: Final = (MODEL, TOOL, COMPUTE, IO, COMMUNICATION, HYBRID)
"""What was to be repeated after a failure is left to whoever submits a computation, which would fail again,
or a tool, which acts on the world."""
