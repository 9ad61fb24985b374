"""From stored records back to the state in memory: after a restart, after a snapshot, and for a look at a
finished DAG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, Final

from coordinator.core.answers import RequestRecord
from coordinator.core.appliers.dags import append_tasks
from coordinator.core.finished import FinishedDag
from coordinator.core.history import Ends
from coordinator.core.keyspace import KvEntry, KvRecord, WriterRecord
from coordinator.core.kinds import decode_pair
from coordinator.core.lifecycle import TERMINAL
from coordinator.core.model import (
    STATES,
    Agent,
    AgentLoad,
    AgentRecord,
    AgentStats,
    Dag,
    DagRecord,
    TaskBlock,
    TaskRecord,
    TaskState,
)
from coordinator.core.namespaces import NamespaceRecord
from coordinator.core.requirements import taken_by
from coordinator.core.reservations import ReservationRecord
from coordinator.core.state import MachineRecord, State

_REBUILT_AT_ONCE: Final = 1_000
"""Tasks brought up to date in one step."""
_FORGOTTEN_AT_ONCE: Final = 1_000
"""Tasks freed in one step."""


def rebuild_dag(
    record: DagRecord, blocks: Iterable[TaskBlock], tasks: Iterable[tuple[int, TaskRecord]]
) -> Dag:
    """A DAG from its record, its blocks in order and the records of its tasks by index."""
    *_, dag = rebuild_in_steps(record, blocks, tasks)
    return dag


def rebuild_in_steps(
    record: DagRecord, blocks: Iterable[TaskBlock], tasks: Iterable[tuple[int, TaskRecord]]
) -> Iterator[Dag]:
    """As `rebuild_dag`: the DAG after each of many steps, of which the last makes it whole.

    A task without a record has never left the state that its block and its predecessors give it: PENDING,
    or READY since the DAG's creation or since the end of its last predecessor.
    """
    dag = Dag(record, [], [0] * STATES)
    for block in blocks:
        append_tasks(dag, block)
        yield dag
    stored = set()
    for index, changed in tasks:
        task = dag.tasks[index]
        for name in changed.__struct_fields__:
            setattr(task, name, getattr(changed, name))
        stored.add(index)
        if len(stored) % _REBUILT_AT_ONCE == 0:
            yield dag
    for index, task in enumerate(dag.tasks):
        ends = [dag.tasks[before] for before in task.depends]
        task.waiting = sum(one.state is not TaskState.COMPLETED for one in ends)
        if index not in stored:
            task.state = TaskState.PENDING if task.waiting else TaskState.READY
            if not task.waiting:
                task.ready_ms = max((one.ended_ms for one in ends), default=record.created_ms)
        dag.counts[task.state] += 1
        if (index + 1) % _REBUILT_AT_ONCE == 0:
            yield dag
    yield dag


def rebuild_state(
    machine: MachineRecord,
    dags: Iterable[Dag],
    finished: Iterable[FinishedDag],
    agents: Iterable[tuple[AgentRecord, AgentStats, AgentLoad]],
    requests: Iterable[RequestRecord],
    keys: Iterable[tuple[bytes, KvRecord]],
    writers: Iterable[WriterRecord],
    ends: Iterable[tuple[bytes, Ends]],
    namespaces: Iterable[NamespaceRecord],
    reservations: Iterable[ReservationRecord],
) -> State:
    """The whole state. `finished` and `requests` come in the order of their sequence, `keys` with their
    names in UTF-8, `ends` with their pairs encoded."""
    state = State()
    state.machine = machine
    for dag in dags:
        state.dags[dag.record.number] = dag
        state.numbers[dag.record.header.dag_id] = dag.record.number
        dag.usage = state.namespaces.enter(dag.record.header.namespace)
        dag.usage.tasks += len(dag.tasks) - sum(dag.counts[ended] for ended in TERMINAL)
    state.namespaces.settings = {record.name: record for record in namespaces}
    state.reservations = {one.id: one for one in sorted(reservations, key=lambda one: one.created)}
    state.finished = {entry.dag_id: entry for entry in finished}
    state.agents = {
        record.spec.agent_id: Agent(record, stats=stats, load=load) for record, stats, load in agents
    }
    for request in requests:
        state.requests[request.request_id] = request
    for name, record in keys:
        size = len(name) + len(record.value)
        state.kv.set(name.decode(), KvEntry(record.version, record.created, size))
    for writer in sorted(writers, key=lambda one: one.used):
        state.kv.writers[writer.writer] = writer
    for pair, row in sorted(ends, key=lambda one: one[1].used):
        state.history.rows[decode_pair(pair)] = row
    for agent in state.agents.values():
        for taken in agent.record.stopping.values():
            agent.take(taken)
    for dag in state.dags.values():
        for task in dag.tasks:
            for attempt in task.live:
                agent = state.agents[attempt.agent]
                agent.held[task.key] = attempt.number
                agent.take(taken_by(task.profile.requirements))
                dag.usage.take(task.profile.requirements.resources)
    return state


def forget(state: State) -> None:
    """Free a state that nobody uses any more, piece by piece: all at once, a large one would hold up every
    other thread."""
    while state.dags:
        _, dag = state.dags.popitem()
        while dag.tasks:
            del dag.tasks[-_FORGOTTEN_AT_ONCE:]
    named: MutableMapping[Any, Any]
    for named in (
        state.finished,
        state.requests,
        state.numbers,
        state.kv.entries,
        state.kv.writers,
        state.history.rows,
    ):
        while named:
            named.popitem()
