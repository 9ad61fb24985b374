"""From a draft to what is submitted: checked, ordered topologically, stored by column.

Edges are the explicit dependencies and those from declared inputs to the task that outputs them. The work
is linear in tasks and edges, about 10 us per task, on plain lists and dicts; a large DAG is built off the
event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from coordinator.core.commands import NewTask
from coordinator.core.model import DagHeader, TaskBlock, TaskExtras, TaskProfile
from coordinator.dag.checks import check_header, check_task
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.dag.edges import find_predecessors, order_tasks
from coordinator.dag.limits import DagLimits
from coordinator.dag.profiles import Checked, ProfileTable
from coordinator.errors import InvalidRequest
from coordinator.families.registry import Families

OWN_FAMILIES: Final = Families()
"""Those that every node knows."""

_TASK_OVERHEAD: Final = 32
"""Bytes that a task takes in an encoded block beside its texts, payload and dependencies, rounded up."""

_DEPENDENCY_BYTES: Final = 5
"""An index in an encoded block: one byte of type and four of value."""


class BuiltDag(msgspec.Struct, frozen=True):
    """A DAG as it is submitted. `block` holds all tasks, in topological order; `profiles` what they share."""

    header: DagHeader
    profiles: list[TaskProfile]
    block: TaskBlock


def build(
    draft: DagDraft, limits: DagLimits, families: Families = OWN_FAMILIES, checked: Checked | None = None
) -> BuiltDag:
    """Check the draft and put it into its final form. The same draft gives the same result, whatever was
    `checked` before.

    Raises:
        InvalidRequest: an empty DAG, id or type, a value out of its range, or what its family refuses.
        DagCycle, UnknownDependency, DuplicateTaskId, DuplicateProducer, LimitExceeded, PluginFailed
    """
    check_header(draft.header, limits)
    tasks = draft.tasks
    if not tasks:
        raise InvalidRequest(f"the DAG {draft.header.dag_id!r} has no tasks: give it at least one")
    _check_tasks(tasks, limits)
    table = ProfileTable(draft.header, limits, families, checked)
    positions = [table.position(task) for task in tasks]
    predecessors = find_predecessors(tasks, limits)
    order = order_tasks(tasks, predecessors)
    block = _lay_out(tasks, order, predecessors, positions)
    return BuiltDag(draft.header, table.profiles, block)


def build_additions(
    drafts: Sequence[TaskDraft],
    header: DagHeader,
    present: int,
    limits: DagLimits,
    families: Families = OWN_FAMILIES,
) -> list[NewTask]:
    """Tasks that a running one adds to its DAG of this `header`, which has `present` tasks; in topological
    order.

    Dependencies on tasks outside of the list, and ids that the DAG has already, are judged where they are
    applied. An input makes an edge only to a task of the list.

    Raises:
        InvalidRequest, DagCycle, DuplicateTaskId, DuplicateProducer, LimitExceeded, PluginFailed
    """
    if not drafts:
        raise InvalidRequest("no tasks to add: give at least one")
    _check_tasks(drafts, limits, present)
    table = ProfileTable(header, limits, families)
    positions = [table.position(task) for task in drafts]
    predecessors = find_predecessors(drafts, limits, closed=False)
    profiles = table.profiles
    additions: list[NewTask] = []
    for at in order_tasks(drafts, predecessors):
        task = drafts[at]
        before = dict.fromkeys([*task.depends_on, *(drafts[position].id for position in predecessors[at])])
        additions.append(
            NewTask(
                id=task.id,
                profile=profiles[positions[at]],
                depends_on=tuple(before),
                payload=task.payload,
                expected_ms=task.expected_ms,
                extras=_extras(task),
            )
        )
    return additions


def split(built: BuiltDag, max_tasks: int, max_bytes: int) -> list[TaskBlock]:
    """The DAG's block cut into runs of consecutive indexes, none above either bound by an upper estimate
    of its encoded size. A task that is larger than `max_bytes` by itself has a block to itself."""
    blocks: list[TaskBlock] = []
    first = size = 0
    for index in range(len(built.block.ids)):
        added = _encoded_size(built.block, index)
        if index > first and (index - first >= max_tasks or size + added > max_bytes):
            blocks.append(_cut(built.block, first, index))
            first, size = index, 0
        size += added
    blocks.append(_cut(built.block, first, len(built.block.ids)))
    return blocks


def _check_tasks(tasks: Sequence[TaskDraft], limits: DagLimits, present: int = 0) -> None:
    limits.check("max_dag_tasks", present + len(tasks), "the number of tasks in the DAG")
    for task in tasks:
        check_task(task, limits)
    payload = sum(len(task.payload) for task in tasks)
    limits.check("max_dag_payload_bytes", payload, "the sum of all payloads in bytes")


def _lay_out(
    tasks: Sequence[TaskDraft],
    order: Sequence[int],
    predecessors: Sequence[tuple[int, ...]],
    profiles: Sequence[int],
) -> TaskBlock:
    """The tasks by column in their `order`, with dependencies as indexes in that order."""
    index_of = [0] * len(order)
    for index, position in enumerate(order):
        index_of[position] = index
    ordered = [tasks[position] for position in order]
    return TaskBlock(
        first=0,
        ids=[task.id for task in ordered],
        profiles=[profiles[position] for position in order],
        depends=[
            tuple(sorted([index_of[before] for before in predecessors[position]]))
            if predecessors[position]
            else ()
            for position in order
        ],
        payloads=[task.payload for task in ordered],
        expected_ms=[task.expected_ms for task in ordered],
        extras={index: extras for index, task in enumerate(ordered) if (extras := _extras(task))},
    )


def _extras(task: TaskDraft) -> TaskExtras | None:
    if task.inputs or task.outputs or task.labels or task.metadata or task.parent_id:
        return TaskExtras(task.inputs, task.outputs, task.labels, task.metadata, task.parent_id)
    return None


def _encoded_size(block: TaskBlock, index: int) -> int:
    """An upper estimate, in bytes."""
    extras = block.extras.get(index)
    return (
        _TASK_OVERHEAD
        + len(block.ids[index].encode())
        + len(block.payloads[index])
        + _DEPENDENCY_BYTES * len(block.depends[index])
        + (len(msgspec.msgpack.encode(extras)) if extras else 0)
    )


def _cut(block: TaskBlock, first: int, end: int) -> TaskBlock:
    """The tasks `first` ... `end - 1` as a block of their own."""
    return TaskBlock(
        first=block.first + first,
        ids=block.ids[first:end],
        profiles=block.profiles[first:end],
        depends=block.depends[first:end],
        payloads=block.payloads[first:end],
        expected_ms=block.expected_ms[first:end],
        extras={index - first: block.extras[index] for index in range(first, end) if index in block.extras},
    )
