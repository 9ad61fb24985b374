"""What a user asked for, before any check: the common ground of the gRPC API and the workflow files."""

from __future__ import annotations

import msgspec

from coordinator.core.model import DagHeader, DataItem, Requirements, RetryPolicy, TaskFamily


class TaskDraft(msgspec.Struct, frozen=True):
    """One task. Durations in ms, sizes in bytes, `deadline_ms` a Unix time. `family_name` names the family of
    a plug-in in place of one of the six.

    Zero stands for: the DAG's (`priority`, `deadline_ms`), the default (`timeout_ms`), no estimate
    (`expected_ms`); None for the family's (`retry`). `depends_on` are task ids; an input that another task
    outputs is a dependency too.
    """

    id: str
    type: str
    family: TaskFamily = TaskFamily.UNSPECIFIED
    payload: bytes = b""
    depends_on: tuple[str, ...] = ()
    inputs: tuple[DataItem, ...] = ()
    outputs: tuple[DataItem, ...] = ()
    requirements: Requirements = Requirements()
    priority: int = 0
    deadline_ms: int = 0
    timeout_ms: int = 0
    retry: RetryPolicy | None = None
    expected_ms: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    parent_id: str = ""
    preemptible: bool = False
    family_name: str = ""


class DagDraft(msgspec.Struct, frozen=True):
    """A DAG: its header and its tasks in the order of submission."""

    header: DagHeader
    tasks: list[TaskDraft]
