"""Commands about DAGs: submit, stage, cancel, sweep, purge."""

from __future__ import annotations

from coordinator.core.commands import CancelDag, DropStaged, PurgeDags, StageDag, SubmitDag, SweepDag
from coordinator.core.kinds import read_log2
from coordinator.core.limits import MAX_TASKS_PER_DAG
from coordinator.core.model import (
    STATES,
    Dag,
    DagHeader,
    DagRecord,
    DagState,
    Task,
    TaskBlock,
    TaskProfile,
    TaskState,
    shared,
    task_key,
)
from coordinator.core.outcome import DagChanged, DagEvent, Done, Refusal, Reply, Submitted, Table
from coordinator.core.refusals import beyond_quota, duplicate_task, not_found
from coordinator.core.transaction import Transaction, number_key


def submit(tx: Transaction, command: SubmitDag) -> Reply:
    """Record the DAG and make its roots READY."""
    header, block = command.header, command.block
    refusal = (
        _unusable_id(tx, header.dag_id)
        or _malformed(block, 0, len(command.profiles))
        or beyond_quota(tx.state, header.namespace, len(block.ids))
    )
    if refusal is not None:
        return refusal
    dag = tx.submitted[command.request_id] = _create(tx, header, command.profiles, DagState.RUNNING)
    _append(tx, dag, block)
    _release(tx, dag)
    return _submitted(tx, dag)


def stage(tx: Transaction, command: StageDag) -> Reply:
    """Record a part of a DAG. The parts come in order, and the last one releases its tasks."""
    dag = tx.state.dag(command.header.dag_id)
    if command.block.first == 0:
        refusal = _unusable_id(tx, command.header.dag_id)
    elif dag is None or dag.record.state is not DagState.STAGING or command.block.first != len(dag.tasks):
        at = -1 if dag is None else len(dag.tasks)
        refusal = Refusal(
            "WRONG_STATE",
            f"this part begins at task {command.block.first}, expected {at}; submit the DAG anew",
            {"dag_id": command.header.dag_id},
        )
    else:
        refusal = None
    known = 0 if dag is None else len(dag.record.profiles)
    refusal = (
        refusal
        or _malformed(command.block, command.block.first, known + len(command.profiles))
        or (_repeated(dag, command.block) if dag is not None else None)
        or beyond_quota(tx.state, command.header.namespace, len(command.block.ids))
    )
    if refusal is not None:
        return refusal
    if dag is None:
        dag = _create(tx, command.header, command.profiles, DagState.STAGING)
    else:
        dag.record.profiles.extend(command.profiles)
    _append(tx, dag, command.block)
    tx.sweep_added(dag, command.block.first)
    if command.last:
        dag.record.state = DagState.RUNNING
        # Known for the check of the parts; seldom needed again.
        dag.index_of.clear()
        tx.unsettle(dag)
        _release(tx, dag)
    return _submitted(tx, dag)


def drop_staged(tx: Transaction, command: DropStaged) -> Reply:
    """Cancel what a broken-off submission left."""
    dag = tx.state.dag(command.dag_id)
    if dag is None or dag.record.state is not DagState.STAGING:
        return not_found("staged DAG", command.dag_id)
    dag.record.state = DagState.RUNNING
    tx.end_dag(dag, DagState.CANCELLED, command.reason)
    return Done(1)


def cancel(tx: Transaction, command: CancelDag) -> Reply:
    """Durable from here on; the tasks follow at once, or in steps where there are many."""
    if (ended := tx.state.finished.get(command.dag_id)) is not None:
        if ended.state is DagState.CANCELLED:
            return DagChanged(ended.state)
        return Refusal(
            "WRONG_STATE",
            f"DAG {command.dag_id} has already ended as {ended.state.name}",
            {"state": ended.state.name},
        )
    dag = tx.state.dag(command.dag_id)
    if dag is None:
        return not_found("DAG", command.dag_id)
    if dag.record.ending is None:
        dag.record.state = DagState.RUNNING
        tx.end_dag(dag, DagState.CANCELLED, command.reason or "cancelled by a client")
        tx.settle()
    return DagChanged(dag.record.state)


def sweep(tx: Transaction, command: SweepDag) -> Reply:
    """The next step of a sweep that was too long for one entry."""
    dag = tx.state.dags.get(command.number)
    if dag is None or dag.record.sweep_from < 0:
        return Done(0)
    tx.unsettle(dag)
    return Done(1)


def purge(tx: Transaction, command: PurgeDags) -> Reply:
    """Forget finished DAGs altogether."""
    purged = 0
    for dag_id in command.dag_ids:
        entry = tx.state.finished.pop(dag_id, None)
        if entry is None:
            continue
        purged += 1
        first, end = number_key(task_key(entry.number, 0)), number_key(task_key(entry.number + 1, 0))
        for table in (Table.BLOCK, Table.TASK, Table.RESULT, Table.CHECKPOINT):
            tx.write(table, first, None, until=end)
        tx.write(Table.DAG, number_key(entry.number), None)
        tx.write(Table.FINISHED, number_key(entry.sequence), None)
    return Done(purged)


def append_tasks(dag: Dag, block: TaskBlock) -> list[Task]:
    """Put the block's tasks behind those that the DAG has, and link them to their predecessors. Their states
    follow from the block and what they depend on; nothing is counted or written."""
    base = task_key(dag.record.number, block.first)
    if not block.first:
        # Once for a DAG: one that comes in many parts may have very many.
        dag.record.profiles = list(map(shared, dag.record.profiles))
    profiles = dag.record.profiles
    tasks = dag.tasks
    successors: dict[int, list[int]] = {}
    added: list[Task] = []
    columns = zip(block.ids, block.profiles, block.depends, block.payloads, block.expected_ms, strict=True)
    for offset, (task_id, profile, depends, payload, expected_ms) in enumerate(columns):
        task = Task(base + offset, task_id, profiles[profile], depends, payload, expected_ms)
        added.append(task)
        for index in depends:
            successors.setdefault(index, []).append(block.first + offset)
    tasks.extend(added)
    for offset, extras in block.extras.items():
        dag.extras[block.first + offset] = extras
        added[offset].read_log2 = read_log2(extras.inputs)
    for index, following in successors.items():
        tasks[index].successors += tuple(following)
    for task in added:
        # None of a DAG's first block can have completed.
        ended = sum(tasks[index].state is TaskState.COMPLETED for index in task.depends) if block.first else 0
        task.waiting = len(task.depends) - ended
        task.state = TaskState.PENDING if task.waiting else TaskState.READY
    return added


def _create(tx: Transaction, header: DagHeader, profiles: list[TaskProfile], state: DagState) -> Dag:
    machine = tx.state.machine
    # A list of its own: the DAG's may grow, and the command may be somebody else's too.
    record = DagRecord(machine.next_dag, header, list(profiles), state, tx.now_ms)
    machine.next_dag += 1
    dag = Dag(record, [], [0] * STATES)
    tx.state.dags[record.number] = dag
    tx.state.numbers[header.dag_id] = record.number
    dag.usage = tx.state.namespaces.enter(header.namespace)
    tx.write(Table.ACTIVE, number_key(record.number), b"")
    return dag


def _append(tx: Transaction, dag: Dag, block: TaskBlock) -> None:
    dag.usage.tasks += len(block.ids)
    for task in append_tasks(dag, block):
        dag.counts[task.state] += 1
        if task.state is TaskState.READY:
            task.ready_ms = dag.record.created_ms
    tx.write(Table.BLOCK, number_key(task_key(dag.record.number, block.first)), block)
    tx.touch_dag(dag)


def _release(tx: Transaction, dag: Dag) -> None:
    tx.effects.ready.extend(task.key for task in dag.tasks if task.state is TaskState.READY)
    tx.events.append(DagEvent(dag.record.header.dag_id, DagState.RUNNING))


def _submitted(tx: Transaction, dag: Dag) -> Submitted:
    return Submitted(dag.record.header.dag_id, dag.record.number, len(dag.tasks), tx.index)


def _unusable_id(tx: Transaction, dag_id: str) -> Refusal | None:
    if not dag_id:
        return Refusal("INVALID_REQUEST", "a DAG needs an id", {"dag_id": dag_id})
    if dag_id not in tx.state.numbers and dag_id not in tx.state.finished:
        return None
    return Refusal(
        "ALREADY_EXISTS", f"a DAG with the id {dag_id!r} exists already; choose another", {"dag_id": dag_id}
    )


def _repeated(dag: Dag, block: TaskBlock) -> Refusal | None:
    """Whether an earlier part has a task of this one."""
    twice = next((name for name in block.ids if dag.find(name) is not None), None)
    return None if twice is None else duplicate_task(twice)


def _malformed(block: TaskBlock, first: int, profiles: int) -> Refusal | None:
    """Whether a proposer broke the contract of TaskBlock. Clients' mistakes are found before anything is
    proposed."""
    size = len(block.ids)
    lengths = {size, len(block.profiles), len(block.depends), len(block.payloads), len(block.expected_ms)}
    well_formed = (
        len(lengths) == 1
        and 0 < size <= MAX_TASKS_PER_DAG - first
        and block.first == first
        and len(set(block.ids)) == size
        and all(0 <= profile < profiles for profile in block.profiles)
        and all(0 <= offset < size for offset in block.extras)
        and all(
            not depends or (min(depends) >= 0 and max(depends) < first + offset)
            for offset, depends in enumerate(block.depends)
        )
    )
    return (
        None if well_formed else Refusal("INVALID_REQUEST", "malformed block of tasks", {"first": str(first)})
    )
