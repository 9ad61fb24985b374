"""The applied state on disk: one batch per round with the applied index and the digest in it, and reading it
all back.

The state has an engine of its own, beside the log's. It need not be synced: after a crash the log is
replayed from the applied index that survived. Before the log is compacted, `flush` makes it durable.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec

from coordinator.core.answers import ResultRecord
from coordinator.core.keyspace import KvRecord
from coordinator.core.loading import rebuild_in_steps, rebuild_state
from coordinator.core.model import INDEX_MASK, AgentLoad, AgentStats, Dag, DagRecord, task_key
from coordinator.core.outcome import Table
from coordinator.core.position import SnapshotMeta
from coordinator.core.state import MachineRecord, State
from coordinator.core.transaction import number_key
from coordinator.errors import StateCorrupt, UnknownFormat
from coordinator.storage.engine import Engine, View
from coordinator.storage.layout import FAMILIES, FORMAT, PLACES, Stored, add_to, decode
from coordinator.storage.state_home import StateHome

APPLIED: Final = (PLACES[Table.META].family, b"#applied")
"""The family and key of the record that says which entry a state is at; a state without one is new."""
_FIRST_FOLDER: Final = "state-1"


class StoredState:
    """A state in an engine: the applied index and all that it gave rise to."""

    def __init__(self, engine: Engine, name: str) -> None:
        """`name` is what it is called in messages. Raises UnknownFormat if a version wrote it that this one
        does not know."""
        self._engine = engine
        self._name = name
        self.applied = self._read_applied()

    # --- writing --------------------------------------------------------------------------------------------

    def commit(self, writes: Iterable[Stored], applied: SnapshotMeta) -> None:
        """One round: all writes and the new applied index, together or not at all. Raises StorageFault."""
        batch = self._engine.batch()
        for stored in writes:
            add_to(batch, stored)
        batch.put(*APPLIED, msgspec.msgpack.encode((FORMAT, applied)))
        self._engine.write(batch)
        self.applied = applied

    def flush(self) -> None:
        """Make what has been committed durable. Blocking; may run in a thread."""
        self._engine.flush()

    def close(self) -> None:
        """Close the files."""
        self._engine.close()

    # --- reading --------------------------------------------------------------------------------------------

    def load(self) -> State:
        """The whole state in memory. Raises StateCorrupt if a record cannot be read."""
        machine = self._get(Table.META, b"machine") or MachineRecord()
        agents = (
            (
                record,
                self._get(Table.AGENT_STATS, name) or AgentStats(),
                self._get(Table.AGENT_LOAD, name) or AgentLoad(),
            )
            for name, record in self._scan(Table.AGENT)
        )
        return rebuild_state(
            machine,
            (self._active(int.from_bytes(key, "big")) for key, _ in self._scan(Table.ACTIVE)),
            (entry for _, entry in self._scan(Table.FINISHED)),
            agents,
            (request for _, request in self._scan(Table.REQUEST)),
            self._scan(Table.KV),
            (writer for _, writer in self._scan(Table.KV_WRITER)),
            self._scan(Table.ENDS),
            (record for _, record in self._scan(Table.NAMESPACE)),
            (record for _, record in self._scan(Table.RESERVATION)),
        )

    def dag_record(self, number: int) -> DagRecord | None:
        """The record of a DAG that may be finished."""
        record: DagRecord | None = self._get(Table.DAG, number_key(number))
        return record

    def dag_in_steps(self, number: int) -> Generator[Dag]:
        """A finished DAG with its tasks, as it is now: after each of many steps, of which the last makes it
        whole. No step, if there is none."""
        record = self.dag_record(number)
        if record is None:
            return
        view = self._engine.view()
        try:
            yield from self._rebuild(record, view)
        finally:
            view.close()

    def result(self, key: int) -> ResultRecord | None:
        """What the task's completed attempt left."""
        record: ResultRecord | None = self._get(Table.RESULT, number_key(key))
        return record

    def checkpoint(self, key: int) -> bytes | None:
        """The last checkpoint of the task."""
        state: bytes | None = self._get(Table.CHECKPOINT, number_key(key))
        return state

    def load_step(self, place: int) -> bytes | None:
        """What is kept of the load of the past at a place below `LOAD_GRIDS * LOAD_STEPS`, as packed."""
        packed: bytes | None = self._get(Table.LOAD_STEP, number_key(place))
        return packed

    def kv(self, key: str) -> KvRecord | None:
        """What is stored at the key of the key-value space."""
        record: KvRecord | None = self._get(Table.KV, key.encode())
        return record

    def kv_from(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, KvRecord]]:
        """Keys in order, in UTF-8, from `start` up to but without `end` (None: to the last), with what is
        stored at them."""
        return self._scan(Table.KV, start, end)

    def view(self) -> View:
        """A consistent reading at `applied`."""
        return self._engine.view()

    def _active(self, number: int) -> Dag:
        record = self.dag_record(number)
        if record is None:
            raise StateCorrupt(f"DAG number {number} is listed and its record is missing in {self._name}")
        *_, dag = self._rebuild(record, self._engine)
        return dag

    def _rebuild(self, record: DagRecord, source: Engine | View) -> Iterator[Dag]:
        first, end = number_key(task_key(record.number, 0)), number_key(task_key(record.number + 1, 0))
        blocks = (block for _, block in self._scan(Table.BLOCK, first, end, source))
        tasks = (
            (int.from_bytes(key, "big") & INDEX_MASK, task)
            for key, task in self._scan(Table.TASK, first, end, source)
        )
        return rebuild_in_steps(record, blocks, tasks)

    def _get(self, table: Table, key: bytes) -> Any:
        place = PLACES[table]
        value = self._engine.get(place.family, place.prefix + key)
        return None if value is None else self._decode(table, key, value)

    def _scan(
        self,
        table: Table,
        start: bytes = b"",
        end: bytes | None = None,
        source: Engine | View | None = None,
    ) -> Iterator[tuple[bytes, Any]]:
        place = PLACES[table]
        until = bytes([place.prefix[0] + 1]) if end is None else place.prefix + end
        for key, value in (source or self._engine).items(place.family, place.prefix + start, until):
            yield key[1:], self._decode(table, key, value)

    def _decode(self, table: Table, key: bytes, value: bytes) -> Any:
        try:
            return decode(table, value)
        except msgspec.MsgspecError as error:
            raise StateCorrupt(
                f"record {key.hex()} of {table} in {self._name} cannot be read: {error}; "
                "let the node rejoin with an empty folder",
                table=table,
                key=key.hex(),
            ) from error

    def _read_applied(self) -> SnapshotMeta:
        value = self._engine.get(*APPLIED)
        if value is not None:
            return applied_in(value, self._name)
        if any(self._engine.last(family) is not None for family in FAMILIES):
            raise _unreadable(self._name, "it is missing, yet the state is not empty")
        return SnapshotMeta()


def applied_in(value: bytes, name: str) -> SnapshotMeta:
    """Where a state stands, from its record `APPLIED`; `name` is what it is called in messages. Raises
    UnknownFormat, StateCorrupt."""
    try:
        found, applied = msgspec.msgpack.decode(value, type=tuple[int, SnapshotMeta])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _unreadable(name, str(error)) from error
    if found != FORMAT:
        raise UnknownFormat(
            f"the state in {name} has format {found}, this program knows {FORMAT}: upgrade it",
            found=found,
            known=FORMAT,
        )
    return applied


def _unreadable(name: str, why: str) -> StateCorrupt:
    return StateCorrupt(
        f"the record of what the state in {name} has applied cannot be read: {why}. Let the node rejoin with "
        "an empty folder."
    )


class Incoming(NamedTuple):
    """A snapshot that is being received: its folder, the engine there."""

    folder: str
    engine: Engine


class StateStore(StoredState):
    """The present state in a home; a snapshot is received beside it and then takes its place."""

    def __init__(self, home: StateHome) -> None:
        """Open the state, or begin an empty one.

        Raises:
            StartFailed, StateCorrupt: the folder cannot be opened, or is damaged.
            UnknownFormat: it was written by a version that this one does not know.
        """
        self._home = home
        self._folder = self._present_folder()
        super().__init__(home.open(self._folder, FAMILIES), home.name)
        self._remove_leftovers()

    def incoming(self, index: int) -> Incoming:
        """A fresh folder for a snapshot at `index`, and its engine."""
        taken = set(self._home.folders())
        names = (f"state-{index}-{attempt}" for attempt in count(1))
        folder = next(name for name in names if name not in taken)
        return Incoming(folder, self._home.open(folder, FAMILIES))

    def discard(self, incoming: Incoming) -> None:
        """Forget a snapshot that was not installed. Blocking; may run in a thread."""
        incoming.engine.close()
        self._home.remove(incoming.folder)

    def seal(self, incoming: Incoming) -> StoredState:
        """Make what was received durable; returns the state that it is. Blocking; may run in a thread. Raises
        StorageFault."""
        state = StoredState(incoming.engine, self._name)
        state.flush()
        return state

    def adopt(self, incoming: Incoming, state: StoredState) -> Incoming:
        """Put a sealed snapshot in place of the state; returns what it replaces, to be discarded. A crash
        leaves either the one or the other. Raises StorageFault."""
        former = Incoming(self._folder, self._engine)
        self._home.make_current(incoming.folder)
        self._folder, self._engine, self.applied = incoming.folder, incoming.engine, state.applied
        return former

    def _present_folder(self) -> str:
        folder, folders = self._home.current(), self._home.folders()
        if folders and folder not in folders:
            raise StateCorrupt(
                f"{self._home.name} holds the states {', '.join(folders)}, and calls {folder!r} the "
                "present one: its pointer was lost or damaged. Do not serve it: let the node rejoin with "
                "an empty folder."
            )
        if folder is None:
            folder = _FIRST_FOLDER
            self._home.make_current(folder)
        return folder

    def _remove_leftovers(self) -> None:
        for folder in self._home.folders():
            if folder != self._folder:
                self._home.remove(folder)
