"""Our own workflow format, documented in `docs/workflow-formats.md`: the tables below are the whole of it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from coordinator.core.model import (
    Backoff,
    DagHeader,
    DataItem,
    FailurePolicy,
    FamilyNeeds,
    Priority,
    Requirements,
    Resources,
    RetryPolicy,
    TaskFamily,
)
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.dag.formats.readers import (
    Table,
    amount,
    as_is,
    boolean,
    choice,
    count,
    duration_ms,
    fields,
    json_bytes,
    list_of,
    moment_ms,
    pairs_of,
    rate_bytes,
    size_bytes,
    text,
    unreadable,
)


def read(document: dict[str, Any], name: str) -> DagDraft:
    """The draft; `name` is the DAG's where the document gives none. Raises UnreadableWorkflow."""
    top = fields(document, "", _TOP, required=("tasks",))
    tasks = top.pop("tasks")
    base = _overlay(_NO_TASK, top.pop("defaults", {}), "defaults", _SHARED)
    drafts = []
    for at, task in enumerate(tasks):
        place = f"tasks[{at}]"
        draft = _overlay(base, task, place, _TASK)
        if not draft.id or not draft.type:
            raise unreadable(place, f"the key {'type' if draft.id else 'id'!r} is missing or empty")
        drafts.append(draft)
    return DagDraft(DagHeader(**({"dag_id": "", "name": name} | top)), drafts)


def _overlay(base: TaskDraft, value: object, place: str, table: Table) -> TaskDraft:
    """The task of `base`, with what the value says in place of what it said."""
    found = fields(value, place, table)
    if "family" in found:
        found["family"], found["family_name"] = found["family"]
    return msgspec.structs.replace(base, **found)


def _family(value: object, place: str) -> tuple[TaskFamily, str]:
    """One of the six, or the name of another one, which a plug-in may have brought."""
    name = text(value, place)
    six = {family.name.lower(): family for family in TaskFamily}
    return (six[name], "") if name in six else (TaskFamily.UNSPECIFIED, name)


def _milli_cores(value: object, place: str) -> int:
    return round(amount(value, place) * 1_000)


def _resources(value: object, place: str) -> Resources:
    return Resources(**fields(value, place, _RESOURCES))


def _model(value: object, place: str) -> dict[str, Any]:
    """A model's name, or an object with it."""
    if isinstance(value, str):
        return {"model": value}
    return fields(value, place, _MODEL, required=("name",))


def _requirements(value: object, place: str) -> Requirements:
    found = fields(value, place, _REQUIRES)
    needs = found.pop("needs", {})
    needs |= {attribute: found.pop(attribute) for attribute in _NEEDS if attribute in found}
    return Requirements(**found, needs=FamilyNeeds(**needs))


def _retry(value: object, place: str) -> RetryPolicy:
    return RetryPolicy(**fields(value, place, _RETRY))


def _data_item(value: object, place: str) -> DataItem:
    """A name, or an object with it."""
    if isinstance(value, str):
        return DataItem(text(value, place))
    return DataItem(**fields(value, place, _DATA_ITEM, required=("name",)))


def _text_map(value: object, place: str) -> dict[str, str]:
    return dict(pairs_of(text)(value, place))


_NO_TASK: Final = TaskDraft(id="", type="")

_RESOURCES: Final[Table] = {
    "cores": ("milli_cores", _milli_cores),
    "memory": ("memory_bytes", size_bytes),
    "gpu_memory": ("gpu_memory_bytes", size_bytes),
    "disk": ("disk_bytes", size_bytes),
    "bandwidth": ("bandwidth_bps", rate_bytes),
}
_MODEL: Final[Table] = {
    "name": ("model", text),
    "version": ("model_version", text),
    "batchable": ("batchable", boolean),
}
_NEEDS: Final = ("tool", "permissions", "environment", "data_location", "max_latency_ms", "protocol")
_REQUIRES: Final[Table] = {
    "capabilities": ("capabilities", pairs_of(count)),
    "labels": ("labels", pairs_of(text)),
    "anti_affinity": ("anti_affinity", list_of(text)),
    "resources": ("resources", _resources),
    "model": ("needs", _model),
    "tool": ("tool", text),
    "permissions": ("permissions", list_of(text)),
    "environment": ("environment", text),
    "data_location": ("data_location", text),
    "max_latency": ("max_latency_ms", duration_ms),
    "protocol": ("protocol", text),
}
_RETRY: Final[Table] = {
    "attempts": ("max_attempts", count),
    "backoff": ("backoff", choice(Backoff)),
    "delay": ("delay_ms", duration_ms),
    "max_delay": ("max_delay_ms", duration_ms),
}
_DATA_ITEM: Final[Table] = {
    "name": ("name", text),
    "size": ("size_bytes", size_bytes),
    "locations": ("locations", list_of(text)),
}
_SHARED: Final[Table] = {
    "type": ("type", text),
    "family": ("family", _family),
    "payload": ("payload", json_bytes),
    "requires": ("requirements", _requirements),
    "priority": ("priority", choice(Priority)),
    "deadline": ("deadline_ms", moment_ms),
    "timeout": ("timeout_ms", duration_ms),
    "retry": ("retry", _retry),
    "expected": ("expected_ms", duration_ms),
    "labels": ("labels", pairs_of(text)),
    "metadata": ("metadata", pairs_of(text)),
    "preemptible": ("preemptible", boolean),
}
_TASK: Final[Table] = {
    "id": ("id", text),
    **_SHARED,
    "depends_on": ("depends_on", list_of(text)),
    "inputs": ("inputs", list_of(_data_item)),
    "outputs": ("outputs", list_of(_data_item)),
    "parent": ("parent_id", text),
}
_TOP: Final[Table] = {
    "id": ("dag_id", text),
    "name": ("name", text),
    "namespace": ("namespace", text),
    "failure_policy": ("failure_policy", choice(FailurePolicy)),
    "policy": ("policy", text),
    "priority": ("priority", choice(Priority)),
    "deadline": ("deadline_ms", moment_ms),
    "labels": ("labels", _text_map),
    "metadata": ("metadata", _text_map),
    "defaults": ("defaults", as_is),
    "tasks": ("tasks", list_of(as_is)),
}
