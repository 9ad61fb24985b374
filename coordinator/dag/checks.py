"""What every header and every task must satisfy by itself, whatever the rest of the DAG looks like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from coordinator.core.model import DagHeader, DataItem
from coordinator.dag.draft import TaskDraft
from coordinator.dag.limits import DagLimits
from coordinator.errors import InvalidRequest


def check_header(header: DagHeader, limits: DagLimits) -> None:
    """Raises InvalidRequest or LimitExceeded."""
    for what, text in (("DAG id", header.dag_id), ("namespace", header.namespace)):
        if not text or not text.isprintable():
            raise InvalidRequest(f"the {what} {text!r} is empty or has unprintable characters", value=text)
    for what, text in (("DAG id", header.dag_id), ("namespace", header.namespace), ("name", header.name)):
        limits.check("max_id_length", len(text), f"the length of the {what}")
    if header.deadline_ms < 0:
        raise InvalidRequest(
            f"the DAG's deadline is {header.deadline_ms}: give a Unix time in ms, or 0 for none"
        )
    check_pairs("the DAG's labels", header.labels.items(), limits)
    check_pairs("the DAG's metadata", header.metadata.items(), limits)


def check_task(task: TaskDraft, limits: DagLimits) -> None:
    """All that does not go into its profile. Raises InvalidRequest or LimitExceeded."""
    task_id = task.id
    if not task_id or not task_id.isprintable():
        raise InvalidRequest(
            f"the task id {task_id!r} is empty or has unprintable characters", task_id=task_id
        )
    limits.check("max_id_length", len(task_id), "the length of a task id")
    limits.check("max_payload_bytes", len(task.payload), "its payload in bytes", task_id)
    limits.check("max_dependencies", len(task.depends_on), "the number of its dependencies", task_id)
    if task.expected_ms < 0:
        raise InvalidRequest(
            f"task {task_id!r} has an estimate of {task.expected_ms} ms: give its duration, or 0 for none",
            task_id=task_id,
        )
    if task.inputs or task.outputs:
        limits.check(
            "max_data_items",
            len(task.inputs) + len(task.outputs),
            "the number of its inputs and outputs",
            task_id,
        )
        _check_data(task_id, task.inputs)
        _check_data(task_id, task.outputs)
    if task.labels:
        check_pairs("the task's labels", task.labels, limits, task_id)
    if task.metadata:
        check_pairs("the task's metadata", task.metadata, limits, task_id)


def check_pairs(what: str, pairs: Iterable[tuple[str, str]], limits: DagLimits, task_id: str = "") -> None:
    """Labels or metadata: not too many, not too long. Raises LimitExceeded."""
    lengths = [len(name.encode()) + len(value.encode()) for name, value in pairs]
    limits.check("max_labels", len(lengths), f"the number of {what}", task_id)
    limits.check("max_label_bytes", sum(lengths), f"the size of {what} in bytes", task_id)


def _check_data(task_id: str, items: Sequence[DataItem]) -> None:
    for item in items:
        if not item.name or item.size_bytes < 0:
            raise InvalidRequest(
                f"task {task_id!r} has an input or output named {item.name!r} of {item.size_bytes} bytes: "
                "it needs a name and a size of zero or more",
                task_id=task_id,
            )
