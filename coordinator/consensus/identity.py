"""Whose data folder this is: a record in the log, made at its first start and never changed."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from coordinator.consensus import records
from coordinator.consensus.journal import FIRST_INDEX, Journal
from coordinator.errors import StartFailed
from coordinator.storage.engine import Engine

_KEY: Final = b"identity"


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """`incarnation` is random: the folder of a node that was wiped has another one."""

    cluster: str
    node: str
    incarnation: str


def claim(engine: Engine, journal: Journal, *, cluster: str, node: str, rng: random.Random) -> Identity:
    """The identity of the folder that `engine` is in, made now if its log is new. Durable on return.

    Raises:
        StartFailed: the folder belongs to another cluster or node.
        LogCorrupt: the record is lost.
    """
    found = records.find(engine, _KEY, Identity)
    if found is None:
        if journal.term > 0 or journal.last_index > FIRST_INDEX:
            raise records.unreadable(_KEY, "it is missing, yet the log is not empty")
        return _make(engine, Identity(cluster, node, f"{rng.getrandbits(64):016x}"))
    for what, theirs, ours in (("cluster", found.cluster, cluster), ("node", found.node, node)):
        if theirs != ours:
            raise StartFailed(
                f"the data folder belongs to {what} {theirs!r}, and this is {ours!r}: set {what}_id or "
                "data_dir right, or give the node an empty folder",
                expected=ours,
                found=theirs,
            )
    return found


def _make(engine: Engine, identity: Identity) -> Identity:
    batch = engine.batch()
    records.put(batch, _KEY, identity)
    engine.write(batch)
    engine.sync()
    return identity
