"""What must always hold of the state, between any two entries. Tests and the simulator check it after every
step.

`violations` looks at one state; `Watch` compares states over time. Both return sentences, so that a
failure explains itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from coordinator.core.history import FAILED_ONE, SUMS
from coordinator.core.lifecycle import HELD, TERMINAL
from coordinator.core.limits import (
    HISTORY_KEPT,
    HISTORY_WINDOW,
    LIVE_ATTEMPTS,
    NAMESPACES_KEPT,
    RESERVATIONS_KEPT,
    UNANSWERED_WRITES,
)
from coordinator.core.model import (
    Agent,
    AgentSpec,
    AgentState,
    AttemptOutcome,
    Dag,
    DagState,
    Resources,
    Task,
    TaskState,
)
from coordinator.core.namespaces import TAKEN, Quotas, Usage
from coordinator.core.requirements import NOTHING_TAKEN, Taken, taken_by
from coordinator.core.reservations import ReservationRecord, kept_of, room_of
from coordinator.core.state import State, namespace_of

_BAD_ENDS = (TaskState.FAILED, TaskState.CANCELLED)
_BOUNDED = ("attempts", *TAKEN, "tasks")
_NOTHING = Usage()


def violations(state: State) -> list[str]:
    """Every invariant that the state breaks; empty if it is sound."""
    found: list[str] = []
    for dag in state.dags.values():
        found += _dag(state, dag)
        for task in dag.tasks:
            found += [
                f"task {dag.record.header.dag_id}/{task.id}: {what}"
                for what in (*_task(dag, task), *_attempts(state, task))
            ]
    for agent in state.agents.values():
        found += _agent(state, agent)
    found += _namespaces(state)
    found += _reservations(state)
    found += _kv(state)
    found += _history(state)
    return found


def _dag(state: State, dag: Dag) -> Iterator[str]:
    record = dag.record
    name = f"DAG {record.header.dag_id}"
    counts = [0] * len(dag.counts)
    for task in dag.tasks:
        counts[task.state] += 1
    if counts != dag.counts:
        yield f"{name}: counts {dag.counts}, but its tasks are {counts}"
    if state.numbers.get(record.header.dag_id) != record.number or record.number >= state.machine.next_dag:
        yield f"{name}: number {record.number} is not the one that it is known by"
    if record.header.dag_id in state.finished:
        yield f"{name}: both unfinished and finished"
    if record.state not in (DagState.STAGING, DagState.RUNNING):
        yield f"{name}: in memory although {record.state.name}"
    if record.state is DagState.RUNNING and all(task.state in TERMINAL for task in dag.tasks):
        yield f"{name}: every task has ended, and it has not"
    if record.ending is not None and record.sweep_from < 0:
        yield f"{name}: to end as {record.ending.name}, and nothing drives it there"


def _task(dag: Dag, task: Task) -> Iterator[str]:
    index, incomplete, unknown, doomed = task.index, 0, False, False
    for before in [dag.tasks[place] for place in task.depends]:
        if before.state is not TaskState.COMPLETED:
            incomplete += 1
            doomed = doomed or before.state in _BAD_ENDS
        unknown = unknown or index not in before.successors
    if task.waiting != incomplete:
        yield f"waits for {task.waiting}, but {incomplete} of its predecessors have not completed"
    if incomplete and task.state not in (TaskState.PENDING, TaskState.CANCELLED):
        yield f"{task.state.name} before its predecessors completed"
    if task.state is TaskState.PENDING and not incomplete and not task.not_before_ms:
        yield "PENDING with nothing to wait for"
    if task.not_before_ms and task.state is not TaskState.PENDING:
        yield f"{task.state.name}, and not before {task.not_before_ms}"
    if unknown:
        yield "unknown to a predecessor"
    spared = 0 <= dag.record.sweep_from <= index
    if doomed and task.state is not TaskState.CANCELLED and not spared:
        yield f"{task.state.name} although it depends on a task that did not complete"
    if (task.state in TERMINAL) != (task.ended_ms > 0):
        yield f"{task.state.name} with an end at {task.ended_ms}"


def _attempts(state: State, task: Task) -> Iterator[str]:
    if task.failures > max(1, task.profile.retry.max_attempts):
        yield f"{task.failures} failures of {task.profile.retry.max_attempts} allowed"
    if not task.attempts:
        if task.state in HELD or task.state is TaskState.COMPLETED:
            yield f"{task.state.name} without an attempt"
        return
    numbers = [attempt.number for attempt in task.attempts]
    # The first may have outlived others that had to make room.
    later = list(range(task.attempt - len(numbers) + 2, task.attempt + 1))
    if numbers[1:] != later or numbers[0] > task.attempt - len(later):
        yield f"attempts {numbers}, the last being {task.attempt}"
    live = task.live
    if len(live) > LIVE_ATTEMPTS or len({attempt.agent for attempt in live}) < len(live):
        yield f"live on {[attempt.agent for attempt in live]}"
    if bool(live) != (task.state in HELD):
        yield f"{task.state.name} with {len(live)} live attempts"
    begun = any(attempt.started_ms for attempt in live)
    if live and begun != (task.state is TaskState.RUNNING):
        yield f"{task.state.name}, and {'one' if begun else 'none'} of its live attempts has begun"
    completed = sum(attempt.outcome is AttemptOutcome.COMPLETED for attempt in task.attempts)
    if completed != (task.state is TaskState.COMPLETED):
        yield f"{task.state.name} with {completed} completed attempts"
    for attempt in live:
        agent = state.agents.get(attempt.agent)
        if agent is None or agent.held.get(task.key) != attempt.number:
            yield f"held by {attempt.agent}, which does not know it"
        elif agent.record.epoch != attempt.epoch:
            yield f"bound to session {attempt.epoch} of {attempt.agent}, now {agent.record.epoch}"


def _agent(state: State, agent: Agent) -> Iterator[str]:
    record = agent.record
    name = f"agent {record.spec.agent_id}"
    for key, number in agent.held.items():
        task = state.task(key)
        attempt = None if task is None else task.live_attempt(number)
        if attempt is None or attempt.agent != record.spec.agent_id:
            yield f"{name}: holds attempt {number} of {key}, which is not live"
    taken = [_needs(state, key) for key in agent.held] + list(record.stopping.values())
    for field, counted in zip(Resources.__struct_fields__, agent.taken, strict=True):
        if counted != sum(getattr(one, field) for one in taken):
            yield f"{name}: {counted} {field} counted as taken, of which its attempts know nothing"
    for kind, counts in (("tool", agent.tools), ("model", agent.models)):
        if counts != Counter(used for one in taken if (used := getattr(one, kind))):
            yield f"{name}: counts {counts} by {kind}, of which its attempts know nothing"
    if record.state in (AgentState.LOST, AgentState.STOPPED) and (agent.held or record.stopping):
        yield f"{name}: {record.state.name} and holds {len(agent.held) + len(record.stopping)} attempts"


def _namespaces(state: State) -> Iterator[str]:
    counted: dict[str, Usage] = {}
    for dag in state.dags.values():
        usage = counted.setdefault(dag.record.header.namespace, Usage())
        usage.dags += 1
        for task in dag.tasks:
            usage.tasks += task.state not in TERMINAL
            for _ in task.live:
                usage.take(task.profile.requirements.resources)
        if dag.usage is not state.namespaces.usage.get(dag.record.header.namespace):
            yield f"DAG {dag.record.header.dag_id}: counts for another namespace than its own"
    if counted != state.namespaces.usage:
        yield f"namespaces: {state.namespaces.usage} counted, but their DAGs are {counted}"
    if len(state.namespaces.settings) > NAMESPACES_KEPT:
        yield f"{len(state.namespaces.settings)} namespaces have settings"


def _reservations(state: State) -> Iterator[str]:
    found = state.reservations
    if len(found) > RESERVATIONS_KEPT:
        yield f"{len(found)} reservations, {RESERVATIONS_KEPT} allowed"
    created = [one.created for one in found.values()]
    if any(later <= earlier for earlier, later in pairwise(created)):
        yield f"reservations out of the order in which they were made: {created}"
    for name, one in found.items():
        if name != one.id or not 0 < one.created <= one.version <= state.machine.sequence:
            yield f"reservation {name}: {one}, newest {state.machine.sequence}"
        if one.end_ms and one.end_ms <= one.begin_ms:
            yield f"reservation {name}: from {one.begin_ms} to {one.end_ms}"


def _kv(state: State) -> Iterator[str]:
    space, newest = state.kv, state.machine.sequence
    if space.bytes != sum(entry.size for entry in space.entries.values()):
        yield f"key-value space: {space.bytes} bytes counted, which its keys do not add up to"
    if len({entry.version for entry in space.entries.values()}) < len(space.entries):
        yield "key-value space: two keys have the same version"
    for key, entry in space.entries.items():
        if not 0 < entry.created <= entry.version <= newest:
            yield f"key {key!r}: created at {entry.created}, now {entry.version}, newest {newest}"
    used = [writer.used for writer in space.writers.values()]
    if any(later <= earlier for earlier, later in pairwise(used)):
        yield f"writers out of the order of their last writes: {used}"
    for writer in space.writers.values():
        if len(writer.replies) > UNANSWERED_WRITES or any(
            number < writer.answered for number in writer.replies
        ):
            yield f"writer {writer.writer}: keeps {list(writer.replies)}, answered below {writer.answered}"


def _history(state: State) -> Iterator[str]:
    rows = state.history.rows
    if len(rows) > HISTORY_KEPT:
        yield f"history: {len(rows)} pairs, {HISTORY_KEPT} allowed"
    used = [ends.used for ends in rows.values()]
    if any(later <= earlier for earlier, later in pairwise(used)) or used[-1:] > [state.machine.sequence]:
        yield f"history: pairs out of the order of their last ends: {used}"
    for (agent, kind), ends in rows.items():
        name = f"history of {agent} and {kind}"
        if agent and agent not in state.agents:
            yield f"{name}: its agent is forgotten"
        if not 0 <= ends.count <= HISTORY_WINDOW or not 0 <= ends.failed <= HISTORY_WINDOW * FAILED_ONE:
            yield f"{name}: {ends}, of {HISTORY_WINDOW} at most"
        if not ends.count and (any(getattr(ends, sum_of) for sum_of in SUMS) or not ends.failed):
            yield f"{name}: {ends} of nothing"


class Watch:
    """Invariants over time: feed it the state after every step."""

    def __init__(self) -> None:
        self._ended: dict[int, TaskState] = {}
        self._epochs: dict[str, int] = {}
        self._now_ms = 0
        self._sequence = 0
        self._versions: dict[str, int] = {}
        self._held: dict[str, tuple[int, AgentSpec, frozenset[tuple[int, int]]]] = {}
        self._usage: dict[str, tuple[Quotas, tuple[int, ...]]] = {}
        self._reservations: dict[str, ReservationRecord] = {}

    def violations(self, state: State) -> list[str]:
        """What the step from the last state to this one has broken."""
        found = []
        if state.machine.now_ms < self._now_ms:
            found.append(f"time went back from {self._now_ms} to {state.machine.now_ms}")
        self._now_ms = state.machine.now_ms
        found += self._changed_keys(state)
        for dag in state.dags.values():
            for task in dag.tasks:
                before = self._ended.get(task.key)
                if before is not None and before is not task.state:
                    found.append(f"task {task.key} left {before.name} for {task.state.name}")
                if task.state in TERMINAL:
                    self._ended[task.key] = task.state
        for name, agent in state.agents.items():
            if agent.record.epoch < self._epochs.get(name, 0):
                found.append(f"agent {name}: session {agent.record.epoch} after {self._epochs[name]}")
            self._epochs[name] = agent.record.epoch
            found += self._overload(state, name, agent)
        found += self._excess(state)
        self._reservations = dict(state.reservations)
        return found

    def _excess(self, state: State) -> Iterator[str]:
        """A quota may come to be below what is held; while it is the same, nothing is added beyond it."""
        before, self._usage = self._usage, {}
        for name, record in state.namespaces.settings.items():
            now = [getattr(state.namespaces.usage.get(name, _NOTHING), field) for field in _BOUNDED]
            self._usage[name] = record.quotas, tuple(now)
            quotas, used = before.get(name, (None, ()))
            if quotas != record.quotas:
                continue
            for field, was, amount in zip(_BOUNDED, used, now, strict=True):
                limit = getattr(record.quotas, field)
                if limit is not None and amount > max(limit, was):
                    yield f"namespace {name}: {amount} {field} with a quota of {limit}"

    def _changed_keys(self, state: State) -> Iterator[str]:
        """A version that was not there before is newer than the state before."""
        for key, entry in state.kv.entries.items():
            if entry.version != self._versions.get(key) and entry.version <= self._sequence:
                yield f"key {key!r}: version {entry.version} is new, and not above {self._sequence}"
        self._versions = {key: entry.version for key, entry in state.kv.entries.items()}
        if state.machine.sequence < self._sequence:
            yield f"the sequence went back from {self._sequence} to {state.machine.sequence}"
        self._sequence = state.machine.sequence

    def _overload(self, state: State, name: str, agent: Agent) -> Iterator[str]:
        """An agent may come to offer less than it holds; while it offers the same, it is given nothing that
        does not fit."""
        record = agent.record
        epoch, spec, before = self._held.get(name, (0, record.spec, frozenset()))
        now = frozenset(agent.held.items())
        self._held[name] = record.epoch, record.spec, now
        keys = [key for key, _ in now - before]
        gained = [_needs(state, key) for key in keys]
        if not gained or epoch != record.epoch or spec != record.spec:
            return
        if self._reservations == state.reservations:
            yield from _intruders(state, name, agent, keys)
        count = len(agent.held) + len(record.stopping)
        if count > record.spec.credit:
            yield f"agent {name}: given {count} attempts with a credit of {record.spec.credit}"
        for field, used in zip(Resources.__struct_fields__, agent.taken, strict=True):
            offered = getattr(record.spec.resources, field)
            if used > offered and any(getattr(one, field) for one in gained):
                yield f"agent {name}: given {used} of {offered} {field}"
        for kind, counts, limits in (
            ("tool", agent.tools, record.spec.tool_limits),
            ("model", agent.models, record.spec.model_limits),
        ):
            for of, most in limits:
                if counts.get(of, 0) > most and any(getattr(one, kind) == of for one in gained):
                    yield f"agent {name}: given {counts[of]} tasks of the {kind} {of}, at most {most}"


def _intruders(state: State, name: str, agent: Agent, gained: list[int]) -> Iterator[str]:
    """Of what the agent was given, that for which nothing is kept there takes no slot that is kept."""
    kept = kept_of(agent.record.spec, state.reservations.values(), state.machine.now_ms)
    room = room_of(agent.record.spec) - sum(kept.values())
    others = sum(namespace_of(state, key) not in kept for key in agent.held)
    if kept and others > room and any(namespace_of(state, key) not in kept for key in gained):
        yield f"agent {name}: holds {others} attempts beside {kept} kept slots, which leave {room}"


def _needs(state: State, key: int) -> Taken:
    task = state.task(key)
    return NOTHING_TAKEN if task is None else taken_by(task.profile.requirements)
