"""Drives the state machine in tests: a `Driver` applies commands as a node would, keeps what a node would
have stored, and checks every invariant after every entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
import pytest

from coordinator.core import commands as c
from coordinator.core import loading, machine, model
from coordinator.core.answers import RequestRecord
from coordinator.core.finished import FinishedDag
from coordinator.core.history import Ends
from coordinator.core.invariants import Watch, violations
from coordinator.core.keyspace import KvRecord, WriterRecord
from coordinator.core.model import DagState, TaskState
from coordinator.core.namespaces import NamespaceRecord
from coordinator.core.outcome import Outcome, Refusal, Reply, Table, Write
from coordinator.core.reservations import ReservationRecord
from coordinator.core.state import MachineRecord, State

T = TypeVar("T")

START_MS: Final = 1_700_000_000_000
_encode = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(c.Entry).decode
_NAMED: Final = (Table.AGENT, Table.AGENT_STATS, Table.AGENT_LOAD)


def portrait(state: State) -> dict[str, bytes]:
    """The whole state, field by field and encoded, so that two states can be compared."""
    parts: dict[str, object] = {
        "machine": state.machine,
        "dags": list(state.dags),
        "numbers": sorted(state.numbers.items()),
        "finished": list(state.finished.items()),
        "requests": list(state.requests.items()),
        "keys": sorted(state.kv.entries.items()),
        "bytes in keys": state.kv.bytes,
        "writers": list(state.kv.writers.values()),
        "history": list(state.history.rows.items()),
        "namespaces": sorted(state.namespaces.settings.items()),
        "reservations": list(state.reservations.items()),
        "usage": str(sorted(state.namespaces.usage.items())),
    }
    for number, dag in state.dags.items():
        parts[f"dag {number}"] = (dag.record, dag.counts)
        parts |= {f"task {task.key}": task for task in dag.tasks}
    for name, agent in state.agents.items():
        parts[f"agent {name}"] = (
            agent.record,
            sorted(agent.held.items()),
            str(agent.taken),
            sorted(agent.tools.items()),
            sorted(agent.models.items()),
            agent.stats,
            agent.load,
        )
    return {name: _encode(part) for name, part in parts.items()}


class Store:
    """What is on a node's disk: encoded records by (table, key), and the state that they make."""

    portrait = staticmethod(portrait)

    def __init__(self) -> None:
        self.rows: dict[tuple[Table, bytes], bytes] = {}

    def copy(self) -> Store:
        """Another one with the same content."""
        other = Store()
        other.rows = dict(self.rows)
        return other

    def take(self, writes: Sequence[Write]) -> list[tuple[str, bytes, bytes | None, bytes | None]]:
        """Carry out the writes of one entry; returns them encoded."""
        encoded = []
        for write in writes:
            value = write.value
            if value is not None and not isinstance(value, bytes):
                value = _encode(value)
            encoded.append((str(write.table), write.key, value, write.until))
            if write.until is not None:
                inside = [
                    row for row in self.rows if row[0] is write.table and write.key <= row[1] < write.until
                ]
                for row in inside:
                    del self.rows[row]
            elif value is None:
                self.rows.pop((write.table, write.key), None)
            else:
                self.rows[write.table, write.key] = value
        return encoded

    def keys(self, table: Table, begin: bytes = b"", end: bytes = b"\xff" * 9) -> list[bytes]:
        """The table's keys in order, from `begin` up to `end`."""
        return sorted(key for where, key in self.rows if where is table and begin <= key < end)

    def get(self, table: Table, key: bytes, kind: type[T]) -> T:
        """The decoded record."""
        return msgspec.msgpack.decode(self.rows[table, key], type=kind)

    def of_dag(self, number: int) -> list[tuple[Table, bytes]]:
        """Every row that belongs to the DAG with this number."""
        tables = (Table.DAG, Table.ACTIVE)
        return [
            (table, key)
            for table, key in self.rows
            if (table in tables and int.from_bytes(key, "big") == number)
            or (
                table in (Table.BLOCK, Table.TASK, Table.RESULT, Table.CHECKPOINT)
                and int.from_bytes(key, "big") >> model.INDEX_BITS == number
            )
        ]

    def dag(self, number: int) -> model.Dag:
        """The DAG as a restarted node would load it, finished or not."""
        first, end = (model.task_key(at, 0).to_bytes(8, "big") for at in (number, number + 1))
        blocks = [self.get(Table.BLOCK, key, model.TaskBlock) for key in self.keys(Table.BLOCK, first, end)]
        tasks = [
            (int.from_bytes(key, "big") & model.INDEX_MASK, self.get(Table.TASK, key, model.TaskRecord))
            for key in self.keys(Table.TASK, first, end)
        ]
        record = self.get(Table.DAG, number.to_bytes(8, "big"), model.DagRecord)
        return loading.rebuild_dag(record, blocks, tasks)

    def rebuild(self) -> State:
        """The state as a restarted node would load it."""
        if not self.rows:
            return State()
        agents = []
        for key in self.keys(Table.AGENT):
            record = self.get(Table.AGENT, key, model.AgentRecord)
            stats, load = model.AgentStats(), model.AgentLoad()
            if (Table.AGENT_STATS, key) in self.rows:
                stats = self.get(Table.AGENT_STATS, key, model.AgentStats)
            if (Table.AGENT_LOAD, key) in self.rows:
                load = self.get(Table.AGENT_LOAD, key, model.AgentLoad)
            agents.append((record, stats, load))
        orphans = {key for table in _NAMED for key in self.keys(table)} - set(self.keys(Table.AGENT))
        assert not orphans, f"rows of agents that are not stored: {orphans}"
        return loading.rebuild_state(
            self.get(Table.META, b"machine", MachineRecord),
            [self.dag(int.from_bytes(key, "big")) for key in self.keys(Table.ACTIVE)],
            [self.get(Table.FINISHED, key, FinishedDag) for key in self.keys(Table.FINISHED)],
            agents,
            [self.get(Table.REQUEST, key, RequestRecord) for key in self.keys(Table.REQUEST)],
            [(key, self.get(Table.KV, key, KvRecord)) for key in self.keys(Table.KV)],
            [self.get(Table.KV_WRITER, key, WriterRecord) for key in self.keys(Table.KV_WRITER)],
            [(key, self.get(Table.ENDS, key, Ends)) for key in self.keys(Table.ENDS, end=b"\xff" * 99)],
            [self.get(Table.NAMESPACE, key, NamespaceRecord) for key in self.keys(Table.NAMESPACE)],
            [self.get(Table.RESERVATION, key, ReservationRecord) for key in self.keys(Table.RESERVATION)],
        )


class Driver:
    """One node's state machine. `outcomes` and `entries` (encoded) keep all that has happened.

    With `verify`, each entry is also applied to a state that was rebuilt from what is stored: a node that
    has just restarted must neither answer, write nor end up otherwise.
    """

    def __init__(self, *, verify: bool = True) -> None:
        self.state = State()
        self.store = Store()
        self.watch = Watch()
        self.index = 1
        self.now_ms = START_MS
        self.verify = verify
        self.announced: set[int] = set()
        self.sweeps: dict[int, int] = {}
        self.outcomes: list[Outcome] = []
        self.entries: list[bytes] = []
        self._restarted = State()

    # --- applying -------------------------------------------------------------------------------------------

    def apply(self, *commands: c.Command, at_ms: int | None = None) -> Outcome:
        """One entry with these commands, at the driver's time unless another is given."""
        self.index += 1
        entry = c.Entry(c.FORMAT, self.now_ms if at_ms is None else at_ms, list(commands))
        encoded = _encode(entry)
        outcome = machine.apply(self.state, self.index, entry)
        writes = self.store.take(outcome.writes)
        self.outcomes.append(outcome)
        self.entries.append(encoded)
        if self.verify:
            self._compare(encoded, outcome, writes)
        assert violations(self.state) == []
        assert self.watch.violations(self.state) == []
        self._check_effects(outcome)
        return outcome

    def _compare(self, entry: bytes, outcome: Outcome, writes: Sequence[tuple[object, ...]]) -> None:
        restarted, self._restarted = self._restarted, self.store.rebuild()
        other = machine.apply(restarted, self.index, _decode_entry(entry))
        assert Store().take(other.writes) == writes
        assert other.replies == outcome.replies
        assert other.events == outcome.events
        assert other.kv_events == outcome.kv_events
        assert other.effects == outcome.effects
        mine, theirs, stored = portrait(self.state), portrait(restarted), portrait(self._restarted)
        assert theirs == mine
        assert stored == mine

    def _check_effects(self, outcome: Outcome) -> None:
        """What the leader was told is what the state says."""
        state, effects = self.state, outcome.effects
        self.announced |= set(effects.ready)
        for dag in state.dags.values():
            placeable = dag.record.state is DagState.RUNNING and dag.record.ending is None
            ready = {task.key for task in dag.tasks if task.state is TaskState.READY}
            if placeable:
                assert ready <= self.announced, "a READY task that nobody was told of"
            self.announced -= {task.key for task in dag.tasks} - ready
            if dag.record.state is DagState.RUNNING and dag.record.sweep_from >= 0:
                known = self.sweeps.get(dag.record.number) == dag.record.sweep_from
                assert known or dag.record.number in effects.sweep, "a sweep that nobody was told of"
                self.sweeps[dag.record.number] = dag.record.sweep_from
        for agent, key, number in effects.dispatch:
            task = state.task(key)
            attempt = None if task is None else task.live_attempt(number)
            if attempt is not None:
                assert attempt.agent == agent
            else:
                assert len(self.outcomes[-1].replies) > 1, "dispatched an attempt that is not live"
        for agent, key, number, _reason in effects.halt:
            assert agent not in state.agents or state.agents[agent].held.get(key) != number
        for key, at_ms in {key: at_ms for at_ms, key in effects.wake_at}.items():
            task = state.task(key)
            assert task is None or task.not_before_ms in (0, at_ms)
        assert all(number not in state.dags for number in effects.gone)

    def do(self, command: c.Command, at_ms: int | None = None) -> Reply:
        """The reply to a single command."""
        return self.apply(command, at_ms=at_ms).replies[0]

    def refused(self, command: c.Command) -> str:
        """The reason why the command is refused."""
        reply = self.do(command)
        assert isinstance(reply, Refusal), reply
        return reply.reason

    # --- building -------------------------------------------------------------------------------------------

    @staticmethod
    def block(
        graph: Mapping[str, Sequence[str]], first: int = 0, before: Sequence[str] = (), payload: bytes = b""
    ) -> model.TaskBlock:
        """The tasks of `graph` (id -> ids that it depends on, in topological order), behind those in
        `before`."""
        at = {name: index for index, name in enumerate([*before, *graph])}
        depends = [tuple(sorted(at[name] for name in names)) for names in graph.values()]
        size = len(graph)
        return model.TaskBlock(first, list(graph), [0] * size, depends, [payload] * size, [0] * size)

    @staticmethod
    def profile(**fields: Any) -> model.TaskProfile:
        """A profile of type "noop"; fields of the retry policy, of resources and of the families' needs go
        where they belong."""
        retry = {name: fields.pop(name) for name in model.RetryPolicy.__struct_fields__ if name in fields}
        needs = {name: fields.pop(name) for name in model.Resources.__struct_fields__ if name in fields}
        named = {name: fields.pop(name) for name in model.FamilyNeeds.__struct_fields__ if name in fields}
        requirements = model.Requirements(
            resources=model.Resources(**needs), needs=model.FamilyNeeds(**named)
        )
        return model.TaskProfile(
            "noop", retry=model.RetryPolicy(**retry), requirements=requirements, **fields
        )

    @staticmethod
    def spec(agent: str, **fields: Any) -> model.AgentSpec:
        """An agent with a credit of 4 unless told otherwise; fields of resources go where they belong."""
        needs = {name: fields.pop(name) for name in model.Resources.__struct_fields__ if name in fields}
        return model.AgentSpec(
            agent,
            fields.pop("instance_id", "i1"),
            fields.pop("slots", 2),
            fields.pop("credit", 4),
            resources=model.Resources(**needs),
            **fields,
        )

    def submission(
        self,
        dag_id: str,
        graph: Mapping[str, Sequence[str]],
        profile: model.TaskProfile | None = None,
        request_id: str = "",
        **header: Any,
    ) -> c.SubmitDag:
        """The command that submits the graph."""
        profiles = [profile or self.profile()]
        return c.SubmitDag(request_id, model.DagHeader(dag_id, **header), profiles, self.block(graph))

    # --- the usual steps ------------------------------------------------------------------------------------

    def submit(
        self,
        dag_id: str,
        graph: Mapping[str, Sequence[str]],
        profile: model.TaskProfile | None = None,
        **header: Any,
    ) -> Outcome:
        """Submit the graph, and see it taken."""
        outcome = self.apply(self.submission(dag_id, graph, profile, **header))
        assert not isinstance(outcome.replies[0], Refusal), outcome.replies
        return outcome

    def join(self, agent: str, held: Sequence[tuple[int, int]] = (), **fields: Any) -> Reply:
        """The agent opens a session."""
        return self.do(c.OpenSession(self.spec(agent, **fields), list(held)))

    def epoch(self, agent: str) -> int:
        """The agent's present session."""
        return self.state.agents[agent].record.epoch

    def key(self, dag_id: str, task_id: str) -> int:
        """The key of a task of an unfinished DAG."""
        return self.task(dag_id, task_id).key

    def task(self, dag_id: str, task_id: str) -> model.Task:
        """A task, also of a finished DAG: then from what is stored."""
        dag = self.state.dag(dag_id)
        if dag is None:
            dag = self.store.dag(self.state.finished[dag_id].number)
        task = dag.find(task_id)
        assert task is not None
        return task

    def states(self, dag_id: str) -> dict[str, str]:
        """The state of each task, by its id."""
        dag = self.state.dag(dag_id) or self.store.dag(self.state.finished[dag_id].number)
        return {task.id: task.state.name for task in dag.tasks}

    def dag_state(self, dag_id: str) -> str:
        """The state of the DAG."""
        dag = self.state.dag(dag_id)
        return (self.state.finished[dag_id].state if dag is None else dag.record.state).name

    def choice(self, agent: str, dag_id: str, task_id: str, *, rival: bool = False) -> c.Choice:
        """The next attempt of the task for the agent."""
        task = self.task(dag_id, task_id)
        return c.Choice(task.key, task.attempt + 1, agent, self.epoch(agent), rival)

    def assign(self, agent: str, dag_id: str, *task_ids: str) -> Reply:
        """Give the tasks to the agent."""
        return self.do(c.Assign([self.choice(agent, dag_id, task_id) for task_id in task_ids]))

    def said(
        self, agent: str, dag_id: str, task_id: str, kind: c.ReportKind = c.ReportKind.ENDED, **fields: Any
    ) -> c.Report:
        """The agent's report on the last attempt of the task: by default that it has completed."""
        task = self.task(dag_id, task_id)
        fields.setdefault("outcome", model.AttemptOutcome.COMPLETED)
        one = c.AttemptReport(task.key, fields.pop("attempt", task.attempt), kind, **fields)
        return c.Report(agent, fields.pop("epoch", self.epoch(agent)), [one])

    def start(self, agent: str, dag_id: str, *task_ids: str) -> None:
        """Give the tasks to the agent, which begins with all of them."""
        self.assign(agent, dag_id, *task_ids)
        for task_id in task_ids:
            self.do(self.said(agent, dag_id, task_id, c.ReportKind.STARTED))

    def complete(self, agent: str, dag_id: str, *task_ids: str) -> None:
        """The agent is given the tasks and completes them."""
        for task_id in task_ids:
            self.assign(agent, dag_id, task_id)
            self.do(self.said(agent, dag_id, task_id))

    def fail(self, agent: str, dag_id: str, task_id: str, text: str = "boom", **fields: Any) -> None:
        """The agent is given the task and fails at it."""
        self.assign(agent, dag_id, task_id)
        outcome = model.AttemptOutcome.FAILED
        self.do(self.said(agent, dag_id, task_id, outcome=outcome, text=text, **fields))


@pytest.fixture
def node() -> Driver:
    """A state machine at its beginning."""
    return Driver()


@pytest.fixture(scope="session")
def new_driver() -> Callable[..., Driver]:
    """Makes state machines at their beginning, for tests that need many."""
    return Driver
