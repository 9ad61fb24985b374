"""Commands about tasks: assign, recall, preempt, report, expire, wake, cancel, reschedule, spawn."""

from __future__ import annotations

from collections import Counter

from coordinator.core.answers import ResultRecord
from coordinator.core.appliers.dags import append_tasks
from coordinator.core.commands import (
    Assign,
    AssignRoots,
    AttemptReport,
    CancelTask,
    Choice,
    ExpireAttempts,
    NewTask,
    Preempt,
    Recall,
    Report,
    ReportKind,
    RescheduleTask,
    SpawnTasks,
    WakeTasks,
)
from coordinator.core.lifecycle import HELD, TERMINAL
from coordinator.core.limits import LIVE_ATTEMPTS, MAX_TASKS_PER_DAG
from coordinator.core.model import (
    INDEX_BITS,
    Agent,
    AgentState,
    Attempt,
    AttemptOutcome,
    Dag,
    DagState,
    Drain,
    Task,
    TaskBlock,
    TaskProfile,
    TaskState,
    task_key,
)
from coordinator.core.outcome import Done, Refusal, Reply, Table, TaskChanged
from coordinator.core.refusals import (
    beyond_quota,
    duplicate_task,
    not_found,
    stale_session,
    wrong_task_state,
)
from coordinator.core.requirements import taken_by
from coordinator.core.reservations import kept_of, room_of, unused
from coordinator.core.state import namespace_of
from coordinator.core.transaction import Transaction, number_key

_SESSION_STATES = frozenset({AgentState.CONNECTED, AgentState.DISCONNECTED})


def assign(tx: Transaction, command: Assign) -> Reply:
    """Carry out the choices of a round that still hold; the planner saw a state that may be gone."""
    count = 0
    for choice in command.choices:
        task = tx.state.task(choice.key)
        agent = tx.state.agents.get(choice.agent)
        if (
            task is not None
            and agent is not None
            and (_may_have_rival(tx, task, agent) if choice.rival else _placeable(tx, task))
            and _still_holds(choice, task, agent)
            and _within_quotas(tx, task)
            and _leaves_what_is_kept(tx, task, agent)
        ):
            tx.assign(task, agent)
            count += 1
        elif task is not None and _placeable(tx, task):
            tx.effects.ready.append(task.key)
    return Done(count)


def assign_roots(tx: Transaction, command: AssignRoots) -> Reply:
    """Carry out choices for a DAG that this entry has brought."""
    dag = tx.submitted.get(command.submission)
    if dag is None:
        return Done(0)
    known = [one for one in command.choices if 0 <= one.key < len(dag.tasks)]
    number = dag.record.number
    return assign(
        tx, Assign([Choice(task_key(number, one.key), one.attempt, one.agent, one.epoch) for one in known])
    )


def _placeable(tx: Transaction, task: Task) -> bool:
    record = tx.state.dags[task.key >> INDEX_BITS].record
    return task.state is TaskState.READY and record.state is DagState.RUNNING and record.ending is None


def _may_have_rival(tx: Transaction, task: Task, agent: Agent) -> bool:
    """Whether another attempt may begin on this agent beside those that are live."""
    return (
        task.state in HELD
        and task.key not in agent.held
        and len(task.live) < LIVE_ATTEMPTS
        and tx.state.dags[task.key >> INDEX_BITS].record.ending is None
    )


def _still_holds(choice: Choice, task: Task, agent: Agent) -> bool:
    """Whether the agent can take the attempt, and it is the task's next."""
    record = agent.record
    return (
        task.attempt + 1 == choice.attempt
        and record.epoch == choice.epoch
        and record.state is AgentState.CONNECTED
        and record.drain is Drain.NONE
        and len(agent.held) + len(record.stopping) < record.spec.credit
        and agent.has_room_for(taken_by(task.profile.requirements))
    )


def _within_quotas(tx: Transaction, task: Task) -> bool:
    """Whether the task's namespace may hold one more such attempt."""
    if not tx.state.namespaces.settings:
        return True
    dag = tx.state.dags[task.key >> INDEX_BITS]
    quotas = tx.state.namespaces.quotas(dag.record.header.namespace)
    return not quotas.broken_by(dag.usage, task.profile.requirements.resources)


def _leaves_what_is_kept(tx: Transaction, task: Task, agent: Agent) -> bool:
    """Whether the agent has a slot free for the task beside those that are kept for other namespaces: in its
    queue the task would wait for one of these. What it is told to stop does not count."""
    state, spec = tx.state, agent.record.spec
    if not state.reservations:
        return True
    kept = kept_of(spec, state.reservations.values(), tx.now_ms)
    kept.pop(namespace_of(state, task.key), None)
    if not kept:
        return True
    held = Counter(namespace_of(state, key) for key in agent.held)
    return len(agent.held) + unused(kept, held) < room_of(spec)


def recall(tx: Transaction, command: Recall) -> Reply:
    """Carry out the moves that still can be."""
    count = 0
    for move in command.moves:
        choice = move.choice
        task = tx.state.task(choice.key)
        agent = tx.state.agents.get(choice.agent)
        attempt = task.live_attempt(move.attempt) if task is not None else None
        if task is None or agent is None or attempt is None or attempt.started_ms:
            continue
        ending = tx.state.dags[task.key >> INDEX_BITS].record.ending
        if (
            ending is None
            and task.key not in agent.held
            and _still_holds(choice, task, agent)
            and _leaves_what_is_kept(tx, task, agent)
        ):
            tx.hand_over(task, attempt, agent, command.reason)
            count += 1
    return Done(count)


def preempt(tx: Transaction, command: Preempt) -> Reply:
    """End what may be, for something more important."""
    count = 0
    for key, number in command.attempts:
        task = tx.state.task(key)
        attempt = task.live_attempt(number) if task is not None else None
        if task is None or attempt is None:
            continue
        if task.profile.preemptible or len(task.live) > 1:
            outcome = AttemptOutcome.PREEMPTED
            tx.miss(task, attempt, outcome, command.reason, retryable=True, halt=True)
            count += 1
    return Done(count)


def report(tx: Transaction, command: Report) -> Reply:
    """What an agent tells of its attempts. A report on a superseded attempt is refused, and acknowledged
    so that the agent forgets it."""
    agent = tx.state.agents.get(command.agent)
    if agent is None or agent.record.epoch != command.epoch or agent.record.state not in _SESSION_STATES:
        return stale_session(command.agent, command.epoch, agent.record.epoch if agent else 0)
    count = 0
    for one in command.reports:
        task = tx.state.task(one.key)
        attempt = task.live_attempt(one.attempt) if task is not None else None
        if task is None or attempt is None or attempt.agent != command.agent:
            if one.kind is ReportKind.ENDED:
                tx.stopped(agent, one.key, one.attempt)
        else:
            count += 1
            _take_report(tx, task, attempt, one)
        if one.kind is ReportKind.ENDED:
            tx.effects.acked.append((command.agent, one.key, one.attempt))
    return Done(count)


def _take_report(tx: Transaction, task: Task, attempt: Attempt, one: AttemptReport) -> None:
    if one.kind is ReportKind.ENDED:
        if not attempt.started_ms:
            tx.start_late(task, attempt, one.duration_us // 1000)
        _end(tx, task, attempt, one)
    elif one.kind is ReportKind.STARTED:
        if not attempt.started_ms:
            tx.start(task, attempt)
    elif one.kind is ReportKind.PROGRESS:
        # Also refuses NaN, which compares false.
        if 0.0 <= one.progress <= 1.0:
            rivalled = len(task.live) > 1
            task.progress = max(task.progress, one.progress) if rivalled else one.progress
        tx.touch_task(task)
    else:
        task.has_checkpoint = True
        tx.write(Table.CHECKPOINT, number_key(task.key), one.data)
        tx.touch_task(task)


def _end(tx: Transaction, task: Task, attempt: Attempt, one: AttemptReport) -> None:
    if one.outcome is AttemptOutcome.COMPLETED:
        if one.data or one.reference:
            task.has_result = True
            tx.write(Table.RESULT, number_key(task.key), ResultRecord(one.data, one.reference))
        tx.complete(task, attempt)
        tx.learn(task, attempt, one.duration_us)
    elif one.outcome is AttemptOutcome.REJECTED:
        tx.miss(
            task,
            attempt,
            AttemptOutcome.REJECTED,
            one.text or "rejected by its agent",
            retryable=True,
            halt=False,
        )
    else:
        reason = one.text or "the agent gave no reason"
        # One that nobody should try again is the task's own.
        again = one.retryable
        tx.miss(task, attempt, AttemptOutcome.FAILED, reason, retryable=again, halt=False, blamed=again)


def expire(tx: Transaction, command: ExpireAttempts) -> Reply:
    """End the attempts that have run too long. One that has ended meanwhile stays as it is; one that still
    has time is told of again, should the leader's clock have gone back."""
    count = 0
    for key, number in command.attempts:
        task = tx.state.task(key)
        attempt = task.live_attempt(number) if task is not None else None
        if task is None or attempt is None or not attempt.started_ms:
            continue
        due_ms = attempt.started_ms + task.profile.timeout_ms
        if tx.now_ms < due_ms:
            tx.effects.expire_at.append((due_ms, key, number))
            continue
        count += 1
        reason = f"ran for longer than its timeout of {task.profile.timeout_ms} ms"
        tx.miss(task, attempt, AttemptOutcome.TIMED_OUT, reason, retryable=True, halt=True, blamed=True)
    return Done(count)


def wake(tx: Transaction, command: WakeTasks) -> Reply:
    """The delay before the next attempt of these tasks is over. If it is not, it is told of again, should
    the leader's clock have gone back."""
    count = 0
    for key in command.keys:
        task = tx.state.task(key)
        if task is None or not _delayed(task):
            continue
        if tx.now_ms < task.not_before_ms:
            tx.effects.wake_at.append((task.not_before_ms, key))
            continue
        count += 1
        tx.move(task, TaskState.READY, task.reason)
        tx.touch_task(task)
    return Done(count)


def _delayed(task: Task) -> bool:
    return task.state is TaskState.PENDING and task.waiting == 0 and task.not_before_ms > 0


def cancel(tx: Transaction, command: CancelTask) -> Reply:
    """Cancel one task, and with it all that depends on it."""
    found = _find(tx, command.dag_id, command.task_id)
    if isinstance(found, Refusal):
        return found
    dag, task = found
    if task.state is TaskState.CANCELLED:
        return TaskChanged(task.state)
    if task.state in TERMINAL:
        return wrong_task_state(dag, task, "only a task that has not ended can be cancelled")
    tx.cancel(task, command.reason or "cancelled by a client")
    return TaskChanged(task.state)


def reschedule(tx: Transaction, command: RescheduleTask) -> Reply:
    """Take the task from whoever holds it, or end its wait for another attempt."""
    found = _find(tx, command.dag_id, command.task_id)
    if isinstance(found, Refusal):
        return found
    dag, task = found
    reason = command.reason or "rescheduled by a client"
    if task.state in HELD:
        tx.take_back(task, AttemptOutcome.RESCHEDULED, reason)
    elif _delayed(task):
        tx.move(task, TaskState.READY, reason)
        tx.touch_task(task)
    elif task.state is not TaskState.READY:
        return wrong_task_state(dag, task, "only a task that is held, ready or delayed can be rescheduled")
    return TaskChanged(task.state)


def spawn(tx: Transaction, command: SpawnTasks) -> Reply:
    """A running attempt adds tasks to its own DAG."""
    parent = tx.state.task(command.parent)
    attempt = parent.live_attempt(command.attempt) if parent is not None else None
    if parent is None or attempt is None or (attempt.agent, attempt.epoch) != (command.agent, command.epoch):
        return Refusal(
            "STALE_FENCE",
            f"attempt {command.attempt} no longer runs on {command.agent!r}: it may not add tasks",
            {"agent": command.agent, "attempt": str(command.attempt)},
        )
    dag = tx.state.dags[parent.key >> INDEX_BITS]
    if dag.record.ending is not None:
        return wrong_task_state(dag, parent, "its DAG is being ended and takes no further tasks")
    block = beyond_quota(tx.state, dag.record.header.namespace, len(command.tasks)) or _resolve(
        dag, command.tasks
    )
    if isinstance(block, Refusal):
        return block
    dag.usage.tasks += len(block.ids)
    for task in append_tasks(dag, block):
        dag.counts[task.state] += 1
        if task.state is TaskState.READY:
            task.ready_ms = tx.now_ms
            tx.touch_task(task)
            tx.effects.ready.append(task.key)
        else:
            tx.effects.added.append(task.key)
    tx.sweep_added(dag, block.first)
    tx.write(Table.BLOCK, number_key(task_key(dag.record.number, block.first)), block)
    tx.unsettle(dag)
    return Done(len(block.ids))


def _resolve(dag: Dag, tasks: list[NewTask]) -> TaskBlock | Refusal:
    """The block of tasks to add, with ids made indexes; the DAG gains the profiles that it lacks."""
    first = len(dag.tasks)
    if not 0 < len(tasks) <= MAX_TASKS_PER_DAG - first:
        return Refusal(
            "LIMIT_EXCEEDED",
            f"{len(tasks)} tasks cannot be added to {first}",
            {"limit": str(MAX_TASKS_PER_DAG)},
        )
    added: dict[str, int] = {}
    block = TaskBlock(first, [], [], [], [], [])
    profiles = {profile: at for at, profile in enumerate(dag.record.profiles)}
    lacking: list[TaskProfile] = []
    for offset, new in enumerate(tasks):
        if new.id in added or dag.find(new.id) is not None:
            return duplicate_task(new.id)
        depends: set[int] = set()
        for name in new.depends_on:
            known = dag.find(name)
            index = added.get(name) if known is None else known.index
            if index is None:
                return Refusal(
                    "UNKNOWN_DEPENDENCY",
                    f"task {new.id!r} depends on {name!r}, which is not there",
                    {"task_id": new.id},
                )
            depends.add(index)
        added[new.id] = first + offset
        if new.profile not in profiles:
            profiles[new.profile] = len(dag.record.profiles) + len(lacking)
            lacking.append(new.profile)
        block.ids.append(new.id)
        block.profiles.append(profiles[new.profile])
        block.depends.append(tuple(sorted(depends)))
        block.payloads.append(new.payload)
        block.expected_ms.append(new.expected_ms)
        if new.extras is not None:
            block.extras[offset] = new.extras
    dag.record.profiles.extend(lacking)
    return block


def _find(tx: Transaction, dag_id: str, task_id: str) -> tuple[Dag, Task] | Refusal:
    dag = tx.state.dag(dag_id)
    if dag is None:
        if (ended := tx.state.finished.get(dag_id)) is not None:
            return Refusal(
                "WRONG_STATE", f"DAG {dag_id!r} has ended as {ended.state.name}", {"state": ended.state.name}
            )
        return not_found("DAG", dag_id)
    task = dag.find(task_id)
    return not_found("task", task_id) if task is None else (dag, task)
