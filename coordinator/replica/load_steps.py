"""How a step of the load of the past is packed, to be kept in the replicated state."""

from __future__ import annotations

import struct
import zlib
from itertools import product
from typing import Final, NamedTuple

import msgspec
import numpy as np

from coordinator.core.limits import LOAD_STEP_BYTES
from coordinator.forecast.bank import Closed, Key
from coordinator.forecast.history import IntRow

_UNPACKED_BYTES: Final = 16 * LOAD_STEP_BYTES


_HEADER: Final = struct.Struct(">BIQ")


class Place(NamedTuple):
    """Which step it is, in order; what a packed one begins with."""

    grid: int
    step_s: int
    number: int


class _Step(msgspec.Struct, array_like=True):
    """`values` are fractions in float16, all quantities of an agent together, NaN where there is none."""

    cluster: dict[str, float]
    agents: list[str]
    quantities: list[str]
    values: bytes


_decoder = msgspec.msgpack.Decoder(_Step)


class Packer:
    """Packs steps, some ten bytes an agent. It remembers how the series of the last one were laid out."""

    def __init__(self) -> None:
        self._keys: tuple[Key, ...] = ()
        self._agents: list[str] = []
        self._quantities: list[str] = []
        self._cells: IntRow = np.zeros(0, np.int64)
        self._cluster: dict[str, int] = {}

    def pack(self, closed: Closed, step_s: int) -> bytes:
        """The step."""
        if closed.keys is not self._keys:
            self._lay_out(closed.keys)
        # One cell more, for what is not of an agent.
        table = np.full(len(self._agents) * len(self._quantities) + 1, np.nan, np.float16)
        of_cluster = self._cells < 0
        table[self._cells] = np.where(of_cluster, 0.0, closed.values)
        cluster = {name: float(closed.values[at]) for name, at in self._cluster.items()}
        step = _Step(cluster, self._agents, self._quantities, table[:-1].tobytes())
        header = _HEADER.pack(closed.grid, step_s, closed.number)
        return header + zlib.compress(msgspec.msgpack.encode(step), 1)

    def _lay_out(self, keys: tuple[Key, ...]) -> None:
        agents = {agent: at for at, agent in enumerate(dict.fromkeys(agent for agent, _ in keys if agent))}
        names = {name: at for at, name in enumerate(dict.fromkeys(name for agent, name in keys if agent))}
        cells = (agents[agent] * len(names) + names[name] if agent else -1 for agent, name in keys)
        self._cells = np.fromiter(cells, np.int64, len(keys))
        self._agents, self._quantities, self._keys = list(agents), list(names), keys
        self._cluster = {name: at for at, (agent, name) in enumerate(keys) if not agent}


def place_of(packed: bytes) -> Place | None:
    """Which step this is, cheaply; None if it is none."""
    return Place(*_HEADER.unpack_from(packed)) if len(packed) > _HEADER.size else None


def unpack(packed: bytes) -> Closed | None:
    """The step; None if it cannot be read: the past is of use, and no more."""
    place = place_of(packed)
    try:
        step = _decoder.decode(zlib.decompressobj().decompress(packed[_HEADER.size :], _UNPACKED_BYTES))
        values = np.frombuffer(step.values, np.float16).reshape(len(step.agents), len(step.quantities))
    except (zlib.error, msgspec.MsgspecError, ValueError):
        return None
    if place is None:
        return None
    keys = (*product(step.agents, step.quantities), *(("", name) for name in step.cluster))
    together = np.concatenate([values.ravel().astype(np.float64), np.array(list(step.cluster.values()))])
    return Closed(place.grid, place.number, keys, together)
