"""The whole state that is replicated."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from coordinator.core.answers import RequestRecord
from coordinator.core.finished import FinishedDag
from coordinator.core.history import History
from coordinator.core.keyspace import KeySpace
from coordinator.core.model import INDEX_BITS, INDEX_MASK, Agent, Dag, Task
from coordinator.core.namespaces import Namespaces
from coordinator.core.reservations import ReservationRecord


class MachineRecord(msgspec.Struct, array_like=True, gc=False):
    """The few scalars of the state. Time begins at 1: a task's or attempt's time of 0 means not yet."""

    next_dag: int = 1
    sequence: int = 0
    now_ms: int = 1


class State:
    """All of it. Mutated by `machine.apply` alone."""

    __slots__ = (
        "agents",
        "dags",
        "finished",
        "history",
        "kv",
        "machine",
        "namespaces",
        "numbers",
        "requests",
        "reservations",
    )

    def __init__(self) -> None:
        self.machine = MachineRecord()
        """`now_ms` is the latest time that a leader stamped; it never goes back."""
        self.dags: dict[int, Dag] = {}
        """Unfinished DAGs by number."""
        self.numbers: dict[str, int] = {}
        """Numbers of unfinished DAGs by id."""
        self.finished: dict[str, FinishedDag] = {}
        """Finished, retained DAGs by id, in the order in which they finished."""
        self.agents: dict[str, Agent] = {}
        self.requests: OrderedDict[str, RequestRecord] = OrderedDict()
        """In the order in which they were made. A plain dict would find the oldest ever later."""
        self.kv = KeySpace()
        self.history = History()
        self.namespaces = Namespaces()
        self.reservations: dict[str, ReservationRecord] = {}
        """By id, in the order in which they were made."""

    def dag(self, dag_id: str) -> Dag | None:
        """The unfinished DAG with this id."""
        number = self.numbers.get(dag_id)
        return None if number is None else self.dags[number]

    def task(self, key: int) -> Task | None:
        """The task with this key, if its DAG is unfinished."""
        dag = self.dags.get(key >> INDEX_BITS)
        index = key & INDEX_MASK
        return dag.tasks[index] if dag is not None and index < len(dag.tasks) else None


def namespace_of(state: State, key: int) -> str:
    """That of the task with this key, whose DAG is unfinished."""
    return state.dags[key >> INDEX_BITS].record.header.namespace
