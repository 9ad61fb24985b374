"""Recorded workflows as plain columns, read by the project's own reader.

A task's index is its place in a topological order: it depends on lower indexes alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from coordinator.core.model import TaskBlock, TaskExtras
from coordinator.dag.builder import build
from coordinator.dag.formats.detect import parse
from coordinator.dag.limits import DagLimits
from coordinator.errors import InvalidRequest

SHORTEST_S: Final = 1e-3
"""What a task takes that the trace says took no time: a task without work has no speed to learn from."""

Floats = NDArray[np.float64]


class Instance(msgspec.Struct, frozen=True):
    """Columns by task. `work` in seconds on a node of speed 1; `edge_bytes[t][k]` is what the task
    `depends[t][k]` writes and `t` reads; `input_bytes` all that it reads, from outside too. Instances of an
    `application` differ in their data alone."""

    name: str
    application: str
    work: Floats
    types: list[str]
    depends: list[tuple[int, ...]]
    successors: list[tuple[int, ...]]
    edge_bytes: list[tuple[int, ...]]
    input_bytes: list[int]

    def __len__(self) -> int:
        return len(self.types)


class Unreadable(NamedTuple):
    """A file that is left out, and why."""

    file: str
    reason: str


def read_folder(folder: Path) -> tuple[list[Instance], list[Unreadable]]:
    """Every `*.json` file of the folder, the smallest workflow first, and those that could not be read."""
    instances: list[Instance] = []
    unreadable: list[Unreadable] = []
    for path in sorted(folder.glob("*.json")):
        try:
            instances.append(read_instance(path))
        except InvalidRequest as error:
            unreadable.append(Unreadable(path.name, error.message))
        except (OSError, UnicodeDecodeError) as error:
            unreadable.append(Unreadable(path.name, str(error)))
    return sorted(instances, key=len), unreadable


def read_instance(path: Path) -> Instance:
    """One file. Raises InvalidRequest, OSError, UnicodeDecodeError."""
    draft = parse(path.read_text(encoding="utf-8"), name=path.stem)
    draft.header.dag_id = "trace"
    block = build(draft, DagLimits()).block
    nothing = TaskExtras()
    extras = [block.extras.get(index, nothing) for index in range(len(block.ids))]
    return instance_of(
        path.stem,
        work=_seconds(block),
        types=[dict(extra.metadata).get("category", "") for extra in extras],
        depends=block.depends,
        edge_bytes=_edge_bytes(block.depends, extras),
        input_bytes=[sum(item.size_bytes for item in extra.inputs) for extra in extras],
    )


def instance_of(
    name: str,
    *,
    work: Sequence[float],
    depends: Sequence[tuple[int, ...]],
    edge_bytes: Sequence[tuple[int, ...]],
    types: Sequence[str] = (),
    input_bytes: Sequence[int] = (),
) -> Instance:
    """An instance from its columns; work below SHORTEST_S is raised to it. Raises ValueError where `depends`
    names no lower index."""
    successors: list[list[int]] = [[] for _ in work]
    for task, before in enumerate(depends):
        for parent in before:
            if not 0 <= parent < task:
                raise ValueError(f"task {task} depends on {parent}: give indexes below its own")
            successors[parent].append(task)
    return Instance(
        name=name,
        application=name.partition("-")[0],
        work=np.maximum(np.asarray(work, np.float64), SHORTEST_S),
        types=list(types) or [""] * len(work),
        depends=list(depends),
        successors=[tuple(after) for after in successors],
        edge_bytes=list(edge_bytes),
        input_bytes=list(input_bytes) or [sum(sizes) for sizes in edge_bytes],
    )


def _seconds(block: TaskBlock) -> list[float]:
    """The run times of the trace: `expected_ms` is rounded, the payload is not."""
    return [float(json.loads(payload)["seconds"]) for payload in block.payloads]


def _edge_bytes(depends: Sequence[tuple[int, ...]], extras: Sequence[TaskExtras]) -> list[tuple[int, ...]]:
    written = [{item.name: item.size_bytes for item in extra.outputs} for extra in extras]
    return [
        tuple(sum(written[parent].get(item.name, 0) for item in extra.inputs) for parent in before)
        for before, extra in zip(depends, extras, strict=True)
    ]
