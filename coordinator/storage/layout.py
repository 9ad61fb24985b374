"""Where each kind of record lives: its column family, the letter before its key, its type. The one table of
the storage format.

Numbers are keys of eight bytes, big-endian, so that RocksDB's order is theirs: the tasks of a DAG lie
together, in their topological order, and requests and finished DAGs in the order in which they came. The
keys of the key-value space are themselves, in UTF-8; those of ends name an agent and a kind of task
(`core/kinds.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from coordinator.core.answers import RequestRecord, ResultRecord
from coordinator.core.finished import FinishedDag
from coordinator.core.history import Ends
from coordinator.core.keyspace import KvRecord, WriterRecord
from coordinator.core.model import AgentLoad, AgentRecord, AgentStats, DagRecord, TaskBlock, TaskRecord
from coordinator.core.namespaces import NamespaceRecord
from coordinator.core.outcome import Table, Write
from coordinator.core.reservations import ReservationRecord
from coordinator.core.state import MachineRecord
from coordinator.storage.engine import Batch

FORMAT: Final = 1
"""Of the stored state; a node that meets another one stops and says so."""


class Place(NamedTuple):
    """`record` is None where the value is bytes as they are."""

    family: str
    prefix: bytes
    record: type[msgspec.Struct] | None


PLACES: Final[dict[Table, Place]] = {
    Table.META: Place("meta", b"m", MachineRecord),
    Table.ACTIVE: Place("meta", b"a", None),
    Table.REQUEST: Place("meta", b"r", RequestRecord),
    Table.NAMESPACE: Place("meta", b"n", NamespaceRecord),
    Table.RESERVATION: Place("meta", b"v", ReservationRecord),
    Table.AGENT: Place("agents", b"a", AgentRecord),
    Table.AGENT_STATS: Place("agents", b"s", AgentStats),
    Table.AGENT_LOAD: Place("agents", b"l", AgentLoad),
    Table.ENDS: Place("agents", b"e", Ends),
    Table.LOAD_STEP: Place("history", b"l", None),
    Table.DAG: Place("dags", b"d", DagRecord),
    Table.BLOCK: Place("dags", b"b", TaskBlock),
    Table.FINISHED: Place("history", b"f", FinishedDag),
    Table.RESULT: Place("history", b"r", ResultRecord),
    Table.CHECKPOINT: Place("history", b"c", None),
    Table.TASK: Place("tasks", b"t", TaskRecord),
    Table.KV: Place("kv", b"k", KvRecord),
    Table.KV_WRITER: Place("kv", b"w", WriterRecord),
}

FAMILIES: Final = tuple(sorted({place.family for place in PLACES.values()}))

_encode = msgspec.msgpack.Encoder().encode
_decoders: dict[type[msgspec.Struct], Callable[[bytes], Any]] = {
    place.record: msgspec.msgpack.Decoder(place.record).decode
    for place in PLACES.values()
    if place.record is not None
}


class Stored(NamedTuple):
    """A write as bytes: put `value`, or with None delete `key`, or all keys up to `until`."""

    family: str
    key: bytes
    value: bytes | None
    until: bytes | None


def encode(write: Write) -> Stored:
    """The write as it is stored, and as the digest sees it."""
    place = PLACES[write.table]
    value = write.value
    return Stored(
        place.family,
        place.prefix + write.key,
        _encode(value) if isinstance(value, msgspec.Struct) else value,
        None if write.until is None else place.prefix + write.until,
    )


def pack(writes: list[Stored]) -> bytes:
    """All of them as one run of bytes, which no other list of writes has."""
    return _encode(writes)


def add_to(batch: Batch, stored: Stored) -> None:
    """Put the write into a batch."""
    if stored.value is not None:
        batch.put(stored.family, stored.key, stored.value)
    elif stored.until is not None:
        batch.delete_range(stored.family, stored.key, stored.until)
    else:
        batch.delete(stored.family, stored.key)


def decode(table: Table, value: bytes) -> Any:
    """The record in a stored value. Raises msgspec.MsgspecError if it is not one."""
    record = PLACES[table].record
    return value if record is None else _decoders[record](value)
