"""How a step of the load of the past is packed, to be kept in the replicated state."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import product

import msgspec
import numpy as np

from coordinator.core.limits import LOAD_STEP_BYTES
from coordinator.forecast.bank import Closed

_UNPACKED_BYTES = 16 * LOAD_STEP_BYTES


class _Step(msgspec.Struct, array_like=True):
    """`values` are fractions in float16, all quantities of an agent together, NaN where there is none."""

    grid: int
    step_s: int
    number: int
    cluster: dict[str, float]
    agents: list[str]
    quantities: list[str]
    values: bytes


_decoder = msgspec.msgpack.Decoder(_Step)


def pack(closed: Closed, step_s: int) -> bytes:
    """The step, some ten bytes an agent."""
    cluster: dict[str, float] = {}
    agents: dict[str, dict[str, float]] = {}
    quantities: dict[str, None] = {}
    for (agent, quantity), value in zip(closed.keys, closed.values.tolist(), strict=True):
        if not agent:
            cluster[quantity] = value
            continue
        quantities[quantity] = None
        agents.setdefault(agent, {})[quantity] = value
    table = np.array([[of.get(one, np.nan) for one in quantities] for of in agents.values()], np.float16)
    step = _Step(closed.grid, step_s, closed.number, cluster, list(agents), list(quantities), table.tobytes())
    return zlib.compress(msgspec.msgpack.encode(step), 1)


def unpack(kept: Iterable[bytes], step_s: tuple[int, ...]) -> list[Closed]:
    """The steps by grid and number. Those that cannot be read, or are of other lengths than `step_s` has by
    grid, are left out: the past is of use, and no more."""
    found = (_unpack(packed, step_s) for packed in kept)
    return sorted((one for one in found if one is not None), key=lambda one: (one.grid, one.number))


def _unpack(packed: bytes, step_s: tuple[int, ...]) -> Closed | None:
    try:
        step = _decoder.decode(zlib.decompressobj().decompress(packed, _UNPACKED_BYTES))
        if not 0 <= step.grid < len(step_s) or step.step_s != step_s[step.grid]:
            return None
        values = np.frombuffer(step.values, np.float16).reshape(len(step.agents), len(step.quantities))
    except (zlib.error, msgspec.MsgspecError, ValueError):
        return None
    keys = (*product(step.agents, step.quantities), *(("", name) for name in step.cluster))
    together = np.concatenate([values.ravel().astype(np.float64), np.array(list(step.cluster.values()))])
    return Closed(step.grid, step.number, keys, together)
