"""From `Dag`, `Task` and what belongs to them to the wire. Whatever cannot be said there raises
InvalidRequest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from agent_sdk._dag import NO_REQUIREMENTS, Dag, Data, Requires, Resources, Retry, Task
from agent_sdk.errors import InvalidRequest
from quorumflow_proto.v1 import common_pb2

_Number = TypeVar("_Number")

_PRIORITIES = {
    "low": common_pb2.PRIORITY_LOW,
    "medium": common_pb2.PRIORITY_MEDIUM,
    "high": common_pb2.PRIORITY_HIGH,
    "urgent": common_pb2.PRIORITY_URGENT,
}
_FAILURE_POLICIES = {
    "continue": common_pb2.FAILURE_POLICY_CONTINUE,
    "fail_fast": common_pb2.FAILURE_POLICY_FAIL_FAST,
}
_BACKOFFS = {
    "fixed": common_pb2.BACKOFF_FIXED,
    "linear": common_pb2.BACKOFF_LINEAR,
    "exponential": common_pb2.BACKOFF_EXPONENTIAL,
}
_FAMILIES = {
    "model": common_pb2.TASK_FAMILY_MODEL,
    "tool": common_pb2.TASK_FAMILY_TOOL,
    "compute": common_pb2.TASK_FAMILY_COMPUTE,
    "io": common_pb2.TASK_FAMILY_IO,
    "communication": common_pb2.TASK_FAMILY_COMMUNICATION,
    "hybrid": common_pb2.TASK_FAMILY_HYBRID,
}
_TASK_STATES = {
    name.removeprefix("TASK_STATE_"): number for name, number in common_pb2.TaskState.items() if number
}
_DAG_STATES = {
    name.removeprefix("DAG_STATE_"): number for name, number in common_pb2.DagState.items() if number
}

_NO_RESOURCES = Resources()


def dag_spec(dag: Dag) -> common_pb2.DagSpec:
    """The DAG with its tasks."""
    return common_pb2.DagSpec(
        dag_id=dag.dag_id,
        namespace=dag.namespace,
        name=dag.name,
        tasks=[task_spec(task) for task in dag.tasks],
        labels=dag.labels,
        metadata=dag.metadata,
        failure_policy=_choice(_FAILURE_POLICIES, dag.failure_policy, "failure_policy"),
        priority=_choice(_PRIORITIES, dag.priority, "priority"),
        deadline_ms=_deadline_ms(dag.deadline),
        policy=dag.policy,
    )


def task_spec(task: Task) -> common_pb2.TaskSpec:
    """One task; an error names it."""
    try:
        return _task_spec(task)
    except InvalidRequest as error:
        error.fields["task_id"] = task.id
        raise
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"task {task.id!r}: {error}", fields={"task_id": task.id}) from error


def _task_spec(task: Task) -> common_pb2.TaskSpec:
    """Most fields are seldom given, and those that are not cost nothing."""
    wire = common_pb2.TaskSpec(id=task.id, type=task.type)
    if (payload := task.payload) is not None:
        wire.payload = to_bytes(payload, "payload")
    if depends_on := task.depends_on:
        wire.depends_on.extend(depends_on)
    if task.timeout_s:
        wire.timeout_ms = _ms(task.timeout_s, "timeout_s")
    if task.expected_s:
        wire.expected_ms = _ms(task.expected_s, "expected_s")
    if task.priority is not None:
        wire.priority = _choice(_PRIORITIES, task.priority, "priority")
    if task.deadline is not None:
        wire.deadline_ms = _deadline_ms(task.deadline)
    if task.retry is not None:
        wire.retry.CopyFrom(_retry(task.retry))
    if task.requires is not NO_REQUIREMENTS and task.requires != NO_REQUIREMENTS:
        wire.requirements.CopyFrom(_requirements(task.requires))
    if family := _family(task):
        _set_family(wire, family)
    _add_extras(wire, task)
    return wire


def _set_family(wire: common_pb2.TaskSpec, family: str) -> None:
    if family in _FAMILIES:
        wire.family = _FAMILIES[family]
    else:
        wire.family_name = family


def _add_extras(wire: common_pb2.TaskSpec, task: Task) -> None:
    if task.inputs:
        wire.inputs.extend([_data_item(item) for item in task.inputs])
    if task.outputs:
        wire.outputs.extend([_data_item(item) for item in task.outputs])
    if task.labels:
        wire.labels.update(task.labels)
    if task.metadata:
        wire.metadata.update(task.metadata)
    if task.parent_id:
        wire.parent_id = task.parent_id
    if task.preemptible:
        wire.preemptible = True


def to_bytes(value: Any, what: str) -> bytes:
    """Bytes as they are, text as UTF-8, None as nothing, anything else as JSON."""
    if value is None:
        return b""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"the {what} is a {type(value).__name__}, neither bytes nor text nor fit for JSON: {error}"
        ) from error


def resources(value: Resources) -> common_pb2.Resources | None:
    """None where there are none, which keeps the message small."""
    if value == _NO_RESOURCES:
        return None
    return common_pb2.Resources(
        milli_cores=round(value.cores * 1000),
        memory_bytes=value.memory_bytes,
        gpu_memory_bytes=value.gpu_memory_bytes,
        disk_bytes=value.disk_bytes,
        bandwidth_bps=value.bandwidth_bps,
    )


def task_states(names: Iterable[str]) -> list[common_pb2.TaskState.ValueType]:
    """From names such as "RUNNING"."""
    return [_choice(_TASK_STATES, name, "state") for name in names]


def dag_states(names: Iterable[str]) -> list[common_pb2.DagState.ValueType]:
    """From names such as "RUNNING"."""
    return [_choice(_DAG_STATES, name, "state") for name in names]


def _requirements(requires: Requires) -> common_pb2.Requirements:
    wire = common_pb2.Requirements(
        resources=resources(requires.resources),
        capabilities=[
            common_pb2.Capability(name=name, level=level) for name, level in requires.capabilities.items()
        ],
        labels=requires.labels,
        anti_affinity=requires.anti_affinity,
    )
    if (model := requires.model) is not None:
        wire.model.CopyFrom(
            common_pb2.ModelNeeds(
                model=model.model,
                version=model.version,
                gpu_memory_bytes=model.gpu_memory_bytes,
                batchable=model.batchable,
            )
        )
    if (tool := requires.tool) is not None:
        wire.tool.CopyFrom(
            common_pb2.ToolNeeds(tool=tool.tool, permissions=tool.permissions, environment=tool.environment)
        )
    if (compute := requires.compute) is not None:
        wire.compute.CopyFrom(
            common_pb2.ComputeNeeds(
                milli_cores=round(compute.cores * 1000), memory_bytes=compute.memory_bytes
            )
        )
    if (io := requires.io) is not None:
        wire.io.CopyFrom(
            common_pb2.IoNeeds(
                bandwidth_bps=io.bandwidth_bps, storage_bytes=io.storage_bytes, data_location=io.data_location
            )
        )
    if (link := requires.communication) is not None:
        wire.communication.CopyFrom(
            common_pb2.CommunicationNeeds(
                max_latency_ms=link.max_latency_ms, bandwidth_bps=link.bandwidth_bps, protocol=link.protocol
            )
        )
    return wire


def _family(task: Task) -> str:
    """As stated, which the server judges: a plug-in may have brought it; else that of the needs, if any."""
    if task.family is not None:
        return task.family
    if task.requires is NO_REQUIREMENTS:
        return ""
    needed = [name for name in _FAMILIES if getattr(task.requires, name, None) is not None]
    if len(needed) > 1:
        return "hybrid"
    return needed[0] if needed else ""


def _data_item(item: str | Data) -> common_pb2.DataItem:
    if isinstance(item, str):
        return common_pb2.DataItem(name=item)
    return common_pb2.DataItem(name=item.name, size_bytes=item.size_bytes, locations=item.locations)


def _retry(retry: Retry) -> common_pb2.RetryPolicy:
    return common_pb2.RetryPolicy(
        max_attempts=retry.max_attempts,
        backoff=_choice(_BACKOFFS, retry.backoff, "backoff"),
        delay_ms=_ms(retry.delay_s, "delay_s"),
        max_delay_ms=_ms(retry.max_delay_s, "max_delay_s"),
    )


def _choice(table: Mapping[str, _Number], name: str, what: str) -> _Number:
    try:
        return table[name]
    except KeyError:
        raise InvalidRequest(
            f"{what} is {name!r}; it must be one of {', '.join(table)}", fields={"field": what, "value": name}
        ) from None


def _ms(seconds: float, what: str) -> int:
    if not 0 <= seconds < 2**32 / 1000:
        raise InvalidRequest(
            f"{what} is {seconds}; it must be from 0 to 4,294,967 seconds",
            fields={"field": what, "value": str(seconds)},
        )
    # A duration above zero must not turn into "not given".
    return max(1, round(seconds * 1000)) if seconds else 0


def _deadline_ms(deadline: datetime | None) -> int:
    if deadline is None:
        return 0
    if deadline.tzinfo is None:
        raise InvalidRequest(
            "deadline has no time zone: give an aware datetime", fields={"field": "deadline"}
        )
    return round(deadline.timestamp() * 1000)
