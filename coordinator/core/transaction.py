"""One entry's work on the state: every change of a task goes through here, so that what must be written,
told and done because of it cannot be forgotten."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from coordinator.core.commands import FORMAT, LEARNING_FORMAT, SIZING_FORMAT
from coordinator.core.finished import FinishedDag
from coordinator.core.history import LONGEST_US, Ends, work_log2
from coordinator.core.kinds import Pair, encode_pair, kind_of
from coordinator.core.lifecycle import TERMINAL, TRANSITIONS, retry_delay_ms
from coordinator.core.limits import ATTEMPTS_KEPT, LOST_ATTEMPTS, MAX_TIME_MS, REASON_CHARS, SWEEP_STEP
from coordinator.core.model import (
    INDEX_BITS,
    Agent,
    AgentRecord,
    AgentSpec,
    AgentState,
    Attempt,
    AttemptOutcome,
    Dag,
    DagState,
    FailurePolicy,
    Task,
    TaskState,
)
from coordinator.core.outcome import AgentEvent, DagEvent, Effects, Event, KvEvent, Table, TaskEvent, Write
from coordinator.core.requirements import taken_by
from coordinator.core.state import State

_WASTED = frozenset({AttemptOutcome.LOST, AttemptOutcome.REJECTED})
_TAKEN_AWAY = frozenset({AttemptOutcome.RESCHEDULED, AttemptOutcome.PREEMPTED})
_BAD_ENDS = frozenset({TaskState.FAILED, TaskState.CANCELLED})


class Transaction:
    """The changes of one entry at log index `index`. `now_ms` is the entry's time, never before an earlier
    entry's. `entry_format` says what its ends are counted by."""

    def __init__(self, state: State, index: int, at_ms: int, *, entry_format: int = FORMAT) -> None:
        self.state = state
        self.index = index
        state.machine.now_ms = max(state.machine.now_ms, min(at_ms, MAX_TIME_MS))
        self.now_ms = state.machine.now_ms
        self.submitted: dict[str, Dag] = {}
        """By request id, DAGs that this entry has brought whole."""
        self.events: list[Event] = []
        self.kv_events: list[KvEvent] = []
        self.effects = Effects()
        self.writes: list[Write] = []
        self._tasks: dict[int, Task] = {}
        self._dags: dict[int, Dag] = {}
        # Names, not agents: what is written is the agent of that name at the entry's end, if there is one.
        self._agents: dict[str, None] = {}
        self._stats: dict[str, None] = {}
        self._loads: dict[str, None] = {}
        self._learns = entry_format >= LEARNING_FORMAT
        self._sizes = entry_format >= SIZING_FORMAT
        self._ends: dict[Pair, Ends | None] = {}
        self._writers: dict[str, None] = {}
        self._unsettled: dict[int, Dag] = {}

    # --- what has changed -----------------------------------------------------------------------------------

    def touch_task(self, task: Task) -> None:
        """The task's record must be written."""
        self._tasks[task.key] = task

    def touch_dag(self, dag: Dag) -> None:
        """The DAG's record must be written."""
        dag.record.revision = self.index
        self._dags[dag.record.number] = dag

    def touch_agent(self, agent: Agent) -> None:
        """The agent's record must be written, and the leader looks at it again."""
        self._agents[agent.record.spec.agent_id] = None
        self.effects.sessions.append(agent.record.spec.agent_id)

    def touch_load(self, agent: Agent) -> None:
        """The agent's load must be written."""
        self._loads[agent.record.spec.agent_id] = None

    def touch_writer(self, writer: str) -> None:
        """What is remembered of the client's writes must be written."""
        self._writers[writer] = None

    def write(
        self, table: Table, key: bytes, value: msgspec.Struct | bytes | None, until: bytes | None = None
    ) -> None:
        """A write beside those of touched objects."""
        self.writes.append(Write(table, key, value, until))

    def next_sequence(self) -> int:
        """A number that orders what must be kept in order."""
        self.state.machine.sequence += 1
        return self.state.machine.sequence

    # --- tasks ----------------------------------------------------------------------------------------------

    def move(self, task: Task, to: TaskState, reason: str = "", attempt: Attempt | None = None) -> None:
        """Change the task's state, by the table. The event names `attempt`, or the last one made."""
        assert to in TRANSITIONS[task.state], f"task {task.key}: {task.state!r} -> {to!r}"
        dag = self.state.dags[task.key >> INDEX_BITS]
        dag.counts[task.state] -= 1
        dag.counts[to] += 1
        task.state = to
        task.not_before_ms = 0
        if to is TaskState.READY:
            task.ready_ms = self.now_ms
            self.effects.ready.append(task.key)
        elif to in TERMINAL:
            dag.usage.tasks -= 1
            task.ended_ms = self.now_ms
            self._unsettled[dag.record.number] = dag
        if reason or to in TERMINAL:
            task.reason = reason[:REASON_CHARS]
        if attempt is None and task.attempts:
            attempt = task.attempts[-1]
        number, agent = (0, "") if attempt is None else (attempt.number, attempt.agent)
        if to is TaskState.READY:
            agent = ""
        self.events.append(TaskEvent(dag.record.header.dag_id, task.id, to, number, agent, task.reason))

    def assign(self, task: Task, agent: Agent) -> None:
        """Begin a new attempt on a connected agent: of a READY task, or beside another attempt, which leaves
        the task's state as it is."""
        spec = agent.record.spec
        task.attempt += 1
        attempt = Attempt(task.attempt, spec.agent_id, agent.record.epoch, self.now_ms)
        alone = task.state is TaskState.READY or not task.live
        task.attempts = (*_remembered(task.attempts), attempt)
        agent.held[task.key] = task.attempt
        agent.take(taken_by(task.profile.requirements))
        self.state.dags[task.key >> INDEX_BITS].usage.take(task.profile.requirements.resources)
        if alone:
            task.progress = 0.0
            self.move(task, TaskState.ASSIGNED)
        self.touch_task(task)
        self.effects.dispatch.append((spec.agent_id, task.key, task.attempt))

    def start(self, task: Task, attempt: Attempt) -> None:
        """The agent has begun: from now on its timeout runs."""
        self._begin(task, attempt, self.now_ms)
        self.effects.expire_at.append((self.now_ms + task.profile.timeout_ms, task.key, attempt.number))

    def start_late(self, task: Task, attempt: Attempt, ago_ms: int) -> None:
        """The agent has begun `ago_ms` before now, and tells its end in the same breath."""
        self._begin(task, attempt, min(max(attempt.assigned_ms, self.now_ms - ago_ms), self.now_ms))

    def _begin(self, task: Task, attempt: Attempt, at_ms: int) -> None:
        attempt.started_ms = at_ms
        if task.state is TaskState.ASSIGNED:
            self.move(task, TaskState.RUNNING, attempt=attempt)
        self.touch_task(task)

    def complete(self, task: Task, attempt: Attempt) -> None:
        """The attempt has done its work: stop its rival, and unlock what waited for it."""
        self._close(task, attempt, AttemptOutcome.COMPLETED, "")
        if len(task.attempts) > 1:
            for rival in task.live:
                reason = f"attempt {attempt.number} on {attempt.agent} completed first"
                self._withdraw(task, rival, AttemptOutcome.SUPERSEDED, reason)
        self.move(task, TaskState.COMPLETED, attempt=attempt)
        self.touch_task(task)
        dag = self.state.dags[task.key >> INDEX_BITS]
        for index in task.successors:
            successor = dag.tasks[index]
            successor.waiting -= 1
            if successor.waiting == 0 and successor.state is TaskState.PENDING:
                # Not written: it follows from the ends of its predecessors (`loading.rebuild_dag`).
                self.move(successor, TaskState.READY)

    def miss(
        self,
        task: Task,
        attempt: Attempt,
        outcome: AttemptOutcome,
        reason: str,
        *,
        retryable: bool,
        halt: bool,
        blamed: bool = False,
    ) -> None:
        """The attempt came to nothing. If another one is live, the task goes on with that, and nothing counts
        as a failure; otherwise try again, later or at once, or fail the task. `halt`: its agent may still
        be at it. `blamed`: if it had begun, its agent is held to have failed."""
        if blamed and attempt.started_ms:
            self._blame(task, attempt)
        if halt:
            self._withdraw(task, attempt, outcome, reason)
        else:
            self._close(task, attempt, outcome, reason)
        self.touch_task(task)
        if len(task.attempts) > 1 and (others := task.live):
            if task.state is TaskState.RUNNING and not any(one.started_ms for one in others):
                self.move(task, TaskState.ASSIGNED, reason, others[0])
        elif outcome in _TAKEN_AWAY:
            self.move(task, TaskState.READY, reason)
        elif outcome in _WASTED:
            self._try_elsewhere(task, attempt, reason)
        else:
            self._try_again(task, attempt, reason, retryable=retryable)

    def learn(self, task: Task, attempt: Attempt, duration_us: int) -> None:
        """The attempt has completed, after so long by its agent's measure."""
        self.effects.ended.append((task.key, attempt.number, attempt.agent, duration_us))
        if self._learns and 0 <= duration_us < LONGEST_US:
            hint = self._hint(task)
            speed = self.state.agents[attempt.agent].record.spec.speed
            self._taught(task, attempt, hint).complete(
                work_log2(duration_us, speed, task.expected_ms), max(-hint, 0)
            )

    def _blame(self, task: Task, attempt: Attempt) -> None:
        self.effects.failed.append((task.key, attempt.agent))
        if self._learns:
            self._taught(task, attempt, self._hint(task)).fail()

    def _hint(self, task: Task) -> int:
        return task.hint if self._sizes else max(task.expected_ms, 0)

    def _taught(self, task: Task, attempt: Attempt, hint: int) -> Ends:
        pair = attempt.agent, kind_of(task.profile, hint)
        ends = self._ends.get(pair)
        if ends is None:
            ends = self._ends[pair] = self.state.history.row(pair)
        return ends

    def take_back(self, task: Task, outcome: AttemptOutcome, reason: str) -> None:
        """Nobody shall hold the task any more: its agents are told to stop, and it is READY again."""
        for attempt in task.live:
            self._withdraw(task, attempt, outcome, reason)
        self.move(task, TaskState.READY, reason)
        self.touch_task(task)

    def hand_over(self, task: Task, attempt: Attempt, agent: Agent, reason: str) -> None:
        """Take an attempt that has not begun from its agent, and make the next one on another."""
        self._withdraw(task, attempt, AttemptOutcome.RESCHEDULED, reason)
        self.assign(task, agent)

    def _try_elsewhere(self, task: Task, attempt: Attempt, reason: str) -> None:
        wasted = sum(one.outcome in _WASTED for one in task.attempts)
        if wasted >= LOST_ATTEMPTS:
            reason = f"{wasted} attempts were lost with their agents or rejected; the last: {reason}"
            self._fail(task, attempt, reason)
        else:
            self.move(task, TaskState.READY, reason)

    def _try_again(self, task: Task, attempt: Attempt, reason: str, *, retryable: bool) -> None:
        task.failures += 1
        if not retryable or task.failures >= task.profile.retry.max_attempts:
            self._fail(task, attempt, reason)
            return
        delay = retry_delay_ms(task.profile.retry, task.failures)
        if delay == 0:
            self.move(task, TaskState.READY, reason)
        else:
            self.move(task, TaskState.PENDING, reason, attempt)
            task.not_before_ms = self.now_ms + delay
            self.effects.wake_at.append((task.not_before_ms, task.key))

    def cancel(self, task: Task, reason: str) -> None:
        """Cancel a task that has not ended; whoever holds it is told to stop."""
        for attempt in task.live:
            self._withdraw(task, attempt, AttemptOutcome.CANCELLED, reason)
        self.move(task, TaskState.CANCELLED, reason)
        self.touch_task(task)
        self._spread(task)

    def _fail(self, task: Task, attempt: Attempt, reason: str) -> None:
        self.move(task, TaskState.FAILED, reason, attempt)
        dag = self.state.dags[task.key >> INDEX_BITS]
        if dag.record.header.failure_policy is FailurePolicy.FAIL_FAST and dag.record.ending is None:
            self.end_dag(dag, DagState.FAILED, f"task {task.id} failed: {reason}")
        else:
            self._spread(task)

    def _spread(self, task: Task) -> None:
        """What depends on a task that will not complete can not run: sweep from there on."""
        if task.successors:
            self._sweep_from(self.state.dags[task.key >> INDEX_BITS], task.successors[0])

    def _close(self, task: Task, attempt: Attempt, outcome: AttemptOutcome, reason: str) -> None:
        attempt.outcome = outcome
        attempt.ended_ms = self.now_ms
        attempt.reason = reason[:REASON_CHARS]
        agent = self.state.agents[attempt.agent]
        del agent.held[task.key]
        agent.take(taken_by(task.profile.requirements), -1)
        self.state.dags[task.key >> INDEX_BITS].usage.take(task.profile.requirements.resources, -1)
        if outcome is AttemptOutcome.COMPLETED:
            agent.stats.completed += 1
        elif outcome in (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT):
            agent.stats.failed += 1
        self._stats[attempt.agent] = None

    def _withdraw(self, task: Task, attempt: Attempt, outcome: AttemptOutcome, reason: str) -> None:
        """End a live attempt that its agent may be at: it is told to stop."""
        self._close(task, attempt, outcome, reason)
        agent = self.state.agents[attempt.agent]
        taken = taken_by(task.profile.requirements)
        agent.record.stopping[task.key, attempt.number] = taken
        agent.take(taken)
        self.touch_agent(agent)
        self.effects.halt.append((attempt.agent, task.key, attempt.number, reason))

    # --- agents ---------------------------------------------------------------------------------------------

    def add_agent(self, spec: AgentSpec) -> Agent:
        """An agent that was unknown."""
        agent = Agent(AgentRecord(spec, 0, AgentState.CONNECTED, self.now_ms))
        self.state.agents[spec.agent_id] = agent
        self._touch_all(agent)
        return agent

    def remove_agents(self, agents: Collection[Agent]) -> None:
        """Nothing is kept of agents that hold nothing, but what they have taught of tasks."""
        for agent in agents:
            del self.state.agents[agent.record.spec.agent_id]
            self._touch_all(agent)
        names = {agent.record.spec.agent_id for agent in agents}
        self._ends |= self.state.history.forget(names)

    def _touch_all(self, agent: Agent) -> None:
        self.touch_agent(agent)
        self.touch_load(agent)
        self._stats[agent.record.spec.agent_id] = None

    def set_agent_state(self, agent: Agent, state: AgentState) -> None:
        """Change the agent's state."""
        agent.record.state = state
        agent.record.since_ms = self.now_ms
        self.touch_agent(agent)
        self.events.append(AgentEvent(agent.record.spec.agent_id, state))

    def strip(self, agent: Agent, reason: str, *, blamed: bool) -> None:
        """Everything that the agent holds is lost with it, by its fault or not."""
        # Sorted: the order of `held` is not the same on a node that was restarted.
        for key in sorted(agent.held):
            task = self.state.task(key)
            assert task is not None
            attempt = task.live_attempt(agent.held[key])
            assert attempt is not None
            outcome = AttemptOutcome.LOST
            self.miss(task, attempt, outcome, reason, retryable=True, halt=False, blamed=blamed)
        for key, number in list(agent.record.stopping):
            self.stopped(agent, key, number)

    def stopped(self, agent: Agent, key: int, number: int) -> None:
        """The agent is rid of an attempt that was taken from it, if this is one."""
        taken = agent.record.stopping.pop((key, number), None)
        if taken is not None:
            agent.take(taken, -1)
            self.touch_agent(agent)

    # --- DAGs -----------------------------------------------------------------------------------------------

    def end_dag(self, dag: Dag, ending: DagState, reason: str) -> None:
        """Cancel all that has not ended, step by step, and then let the DAG end as `ending`."""
        dag.record.ending = ending
        dag.record.reason = reason[:REASON_CHARS]
        dag.record.sweep_from = 0
        self.unsettle(dag)

    def sweep_added(self, dag: Dag, first: int) -> None:
        """Tasks were added from index `first` on: some may depend on what has failed or been cancelled."""
        if any(dag.counts[state] for state in _BAD_ENDS):
            self._sweep_from(dag, first)

    @staticmethod
    def _sweep_from(dag: Dag, first: int) -> None:
        at = dag.record.sweep_from
        dag.record.sweep_from = first if at < 0 else min(at, first)

    def unsettle(self, dag: Dag) -> None:
        """The DAG may have something to sweep, or may have ended."""
        self._unsettled[dag.record.number] = dag
        self.touch_dag(dag)

    def settle(self) -> None:
        """Take the next step of each sweep, and end the DAGs that have nothing left to do. After every
        command."""
        while self._unsettled:
            number, dag = self._unsettled.popitem()
            if dag.record.sweep_from >= 0:
                self._sweep(dag)
                self._unsettled.pop(number, None)
            unfinished = len(dag.tasks) - sum(dag.counts[state] for state in TERMINAL)
            if unfinished == 0 and dag.record.state is DagState.RUNNING:
                self._finish(dag)

    def _sweep(self, dag: Dag) -> None:
        """One step of a pass in topological order: a dependency always stands before its dependant, so
        one pass is enough."""
        record = dag.record
        start = record.sweep_from
        end = min(start + SWEEP_STEP, len(dag.tasks))
        # Cancelling marks successors for a sweep; they all stand further on in this very pass.
        for task in dag.tasks[start:end]:
            if task.state in TERMINAL:
                continue
            if record.ending is not None:
                self.cancel(task, record.reason)
            elif (bad := self._bad_dependency(dag, task)) is not None:
                self.cancel(task, f"depends on {bad.id}, which is {bad.state.name}")
        record.sweep_from = end if end < len(dag.tasks) else -1
        if record.sweep_from >= 0:
            self.effects.sweep.append(record.number)
        self.touch_dag(dag)

    @staticmethod
    def _bad_dependency(dag: Dag, task: Task) -> Task | None:
        return next((dag.tasks[index] for index in task.depends if dag.tasks[index].state in _BAD_ENDS), None)

    def _finish(self, dag: Dag) -> None:
        record = dag.record
        if record.ending is not None:
            record.state = record.ending
        elif dag.counts[TaskState.FAILED]:
            record.state = DagState.FAILED
        elif dag.counts[TaskState.CANCELLED]:
            record.state = DagState.CANCELLED
        else:
            record.state = DagState.COMPLETED
        record.finished_ms = self.now_ms
        record.sweep_from = -1
        record.counts = tuple(dag.counts)
        self.touch_dag(dag)
        self.events.append(DagEvent(record.header.dag_id, record.state))
        self.remove_active(dag)
        entry = FinishedDag(
            record.header.dag_id, record.number, self.next_sequence(), record.state, record.finished_ms
        )
        self.state.finished[entry.dag_id] = entry
        self.write(Table.FINISHED, number_key(entry.sequence), entry)

    def remove_active(self, dag: Dag) -> None:
        """The DAG leaves memory; what is stored of it stays."""
        record = dag.record
        del self.state.dags[record.number]
        del self.state.numbers[record.header.dag_id]
        self.state.namespaces.leave(record.header.namespace)
        self.write(Table.ACTIVE, number_key(record.number), None)
        self.effects.gone.append(record.number)

    # --- the end --------------------------------------------------------------------------------------------

    def finish(self) -> list[Write]:
        """All writes of the entry, in an order that is the same on every node."""
        writes = [Write(Table.DAG, number_key(number), dag.record) for number, dag in self._dags.items()]
        writes += [Write(Table.TASK, number_key(key), task.record()) for key, task in self._tasks.items()]
        of = self.state.agents.get
        writes += [Write(Table.AGENT, name.encode(), (a := of(name)) and a.record) for name in self._agents]
        writes += [
            Write(Table.AGENT_STATS, name.encode(), (a := of(name)) and a.stats) for name in self._stats
        ]
        writes += [Write(Table.AGENT_LOAD, name.encode(), (a := of(name)) and a.load) for name in self._loads]
        writes += self.writes
        writes += self._learned()
        known = self.state.kv.writers.get
        writes += [Write(Table.KV_WRITER, name.encode(), known(name)) for name in self._writers]
        writes.append(Write(Table.META, b"machine", self.state.machine))
        return writes

    def _learned(self) -> list[Write]:
        """Of each pair of an agent and a kind one record, however many of its attempts have ended."""
        history = self.state.history
        for pair, ends in self._ends.items():
            if ends is not None:
                ends.used = self.next_sequence()
                history.rows.move_to_end(pair)
        self._ends |= dict.fromkeys(history.shrink())
        return [Write(Table.ENDS, encode_pair(pair), ends) for pair, ends in self._ends.items()]


def _remembered(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Those that are kept beside a new one: the oldest that is not live makes room."""
    if len(attempts) < ATTEMPTS_KEPT:
        return attempts
    oldest = next(at for at, one in enumerate(attempts) if one.outcome is not AttemptOutcome.LIVE)
    return attempts[:oldest] + attempts[oldest + 1 :]


def number_key(number: int) -> bytes:
    """A number as a key that sorts as the number does."""
    return number.to_bytes(8, "big")
