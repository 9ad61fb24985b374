"""What comes of applying an entry: a reply per command, the records to write, events for watchers, effects
for the leader."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from coordinator.core.model import AgentState, DagState, TaskState
from coordinator.core.namespaces import NamespaceRecord
from coordinator.core.reservations import ReservationRecord


class Refusal(msgspec.Struct, tag=0, array_like=True):
    """A command that was not carried out: `reason` as in `coordinator.errors`."""

    reason: str
    message: str
    fields: dict[str, str] = {}


class Submitted(msgspec.Struct, tag=1, array_like=True):
    """The DAG is recorded; for a part of a streamed one, so is that part."""

    dag_id: str
    number: int
    tasks: int
    revision: int


class DagChanged(msgspec.Struct, tag=2, array_like=True):
    """The DAG's state after the command."""

    state: DagState


class TaskChanged(msgspec.Struct, tag=3, array_like=True):
    """The task's state after the command."""

    state: TaskState


class SessionOpened(msgspec.Struct, tag=4, array_like=True):
    """`drop` are held attempts that are not, or no longer, this agent's; `drain` tells it to expect
    nothing new."""

    epoch: int
    drop: list[tuple[int, int]]
    drain: bool


class AgentChanged(msgspec.Struct, tag=5, array_like=True):
    """The agent's state after the command."""

    state: AgentState


class Done(msgspec.Struct, tag=6, array_like=True):
    """Carried out; `count` of the items that still applied."""

    count: int = 0


class KvStored(msgspec.Struct, tag=7, array_like=True, gc=False):
    """The key has the value: its version, and that of its creation."""

    version: int
    created: int


class KvDeleted(msgspec.Struct, tag=8, array_like=True, gc=False):
    """The key is not there any more; `version` of the deletion is 0 if it was not there before."""

    version: int


class NamespaceSet(msgspec.Struct, tag=12, array_like=True):
    """What is set for the namespace after the command."""

    record: NamespaceRecord


class ReservationSet(msgspec.Struct, tag=13, array_like=True):
    """The reservation after the command."""

    record: ReservationRecord


Reply = (
    Refusal
    | Submitted
    | DagChanged
    | TaskChanged
    | SessionOpened
    | AgentChanged
    | Done
    | KvStored
    | KvDeleted
    | NamespaceSet
    | ReservationSet
)

encode_reply: Final = msgspec.msgpack.Encoder().encode
"""A reply as it is remembered."""

decode_reply: Final[Callable[[bytes], Reply]] = msgspec.msgpack.Decoder(Reply).decode
"""And back."""


class Table(StrEnum):
    """The kinds of stored records; `coordinator.storage.layout` gives each its place."""

    META = "meta"
    DAG = "dag"
    ACTIVE = "active"
    FINISHED = "finished"
    BLOCK = "block"
    TASK = "task"
    RESULT = "result"
    CHECKPOINT = "checkpoint"
    AGENT = "agent"
    AGENT_STATS = "agent_stats"
    AGENT_LOAD = "agent_load"
    LOAD_STEP = "load_step"
    ENDS = "ends"
    REQUEST = "request"
    KV = "kv"
    KV_WRITER = "kv_writer"
    NAMESPACE = "namespace"
    RESERVATION = "reservation"


class Write(msgspec.Struct, array_like=True, gc=False):
    """Put `value` at `key`, or delete the key (`value` None), or with `until` delete all keys from `key`
    up to `until`."""

    table: Table
    key: bytes
    value: msgspec.Struct | bytes | None
    until: bytes | None = None


class TaskEvent(msgspec.Struct, gc=False, array_like=True):
    """A task changed its state."""

    dag_id: str
    task_id: str
    state: TaskState
    attempt: int
    agent: str
    reason: str


class DagEvent(msgspec.Struct, gc=False, array_like=True):
    """A DAG changed its state."""

    dag_id: str
    state: DagState


class AgentEvent(msgspec.Struct, gc=False, array_like=True):
    """An agent changed its state."""

    agent: str
    state: AgentState


Event = TaskEvent | DagEvent | AgentEvent


class KvEvent(msgspec.Struct, gc=False, array_like=True):
    """A key changed at `version`: to `value`, or was deleted (None). It carries the value, since versions are
    not kept once they are superseded: a watcher could not read it later."""

    key: str
    version: int
    value: bytes | None
    created: int


class Effects(msgspec.Struct):
    """What the leader has to do in the world; followers ignore it, a new leader rebuilds it from the state.

    `ready`: tasks to place, `added`: tasks that a running one has added and that wait for others.
    `dispatch`: (agent, key, attempt) to push. `halt`: (agent, key, attempt, reason) to stop. `wake_at`:
    (time, key) of the next attempt. `expire_at`: (time, key, attempt) of a running attempt's timeout.
    `sweep`: numbers of DAGs with a sweep unfinished. `acked`: (agent, key, attempt) of ends that are
    recorded or stale. `sessions`: agents whose session, state or capacity changed. `gone`: numbers of DAGs
    that left memory. `ended`: (key, attempt, agent, duration in us) of attempts that completed, `failed`:
    (key, agent) of those that failed by their agent's fault, for estimates. `namespaces`: those whose
    settings changed. `reservations`: some changed."""

    ready: list[int] = []
    added: list[int] = []
    dispatch: list[tuple[str, int, int]] = []
    halt: list[tuple[str, int, int, str]] = []
    wake_at: list[tuple[int, int]] = []
    expire_at: list[tuple[int, int, int]] = []
    sweep: list[int] = []
    acked: list[tuple[str, int, int]] = []
    sessions: list[str] = []
    gone: list[int] = []
    ended: list[tuple[int, int, str, int]] = []
    failed: list[tuple[int, str]] = []
    namespaces: list[str] = []
    reservations: bool = False


class Outcome(msgspec.Struct):
    """Of one entry."""

    replies: list[Reply]
    writes: list[Write]
    events: list[Event]
    kv_events: list[KvEvent]
    effects: Effects
