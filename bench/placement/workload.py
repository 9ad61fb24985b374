"""What a client submits of a recorded workflow: its DAG, and what it says that tasks take."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import msgspec

from bench.placement.instances import Instance
from coordinator.core.model import DataItem, TaskBlock, TaskExtras, TaskFamily, TaskProfile

LONGEST_MS: Final = 1 << 40
"""The timeout of every task: on virtual time nothing hangs, and some traces run for days."""

_NO_TYPE: Final = "task"


class Workload(msgspec.Struct, frozen=True):
    """A DAG as `SubmitDag` takes it."""

    name: str
    profiles: list[TaskProfile]
    block: TaskBlock


def profile_of(task_type: str) -> TaskProfile:
    """Of the tasks of one type of a trace; it may have none."""
    return TaskProfile(task_type or _NO_TYPE, TaskFamily.COMPUTE, timeout_ms=LONGEST_MS)


def workload_of(instance: Instance, *, stated: bool) -> Workload:
    """With `stated`, the client says what each task took in the trace; else the scheduler has to learn it."""
    types = {task_type: at for at, task_type in enumerate(dict.fromkeys(instance.types))}
    size = len(instance)
    block = TaskBlock(
        0,
        [str(index) for index in range(size)],
        [types[task_type] for task_type in instance.types],
        list(instance.depends),
        [b""] * size,
        [expected_ms(seconds) for seconds in instance.work.tolist()] if stated else [0] * size,
        _data(instance),
    )
    return Workload(instance.name, [profile_of(task_type) for task_type in types], block)


def expected_ms(seconds: float) -> int:
    """As a client says it: whole, and 0 would say nothing."""
    return max(1, round(1_000 * seconds))


def _data(instance: Instance) -> dict[int, TaskExtras]:
    """An item for every edge that carries something; what comes from outside is there already."""
    inputs: defaultdict[int, list[DataItem]] = defaultdict(list)
    outputs: defaultdict[int, list[DataItem]] = defaultdict(list)
    for index, edges in enumerate(zip(instance.depends, instance.edge_bytes, strict=True)):
        for before, size_bytes in zip(*edges, strict=True):
            if size_bytes:
                item = DataItem(f"{before}>{index}", size_bytes)
                inputs[index].append(item)
                outputs[before].append(item)
    return {
        index: TaskExtras(inputs=tuple(inputs[index]), outputs=tuple(outputs[index]))
        for index in range(len(instance))
        if index in inputs or index in outputs
    }
