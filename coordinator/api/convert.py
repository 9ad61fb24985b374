"""Between the wire's messages and the node's own structs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final, TypeVar

from coordinator.core.commands import AttemptReport, ReportKind
from coordinator.core.model import (
    AgentLoad,
    AttemptOutcome,
    Backoff,
    Dag,
    DagHeader,
    DagRecord,
    DataItem,
    FailurePolicy,
    FamilyNeeds,
    Priority,
    Requirements,
    Resources,
    RetryPolicy,
    Task,
    TaskFamily,
    TaskState,
)
from coordinator.core.outcome import AgentEvent, DagEvent, Event, TaskEvent
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.errors import InvalidRequest
from coordinator.replica.sessions import Work
from quorumflow_proto.v1 import agent_pb2, client_pb2, common_pb2

_Enum = TypeVar("_Enum", bound=IntEnum)

_UNDEMANDING: Final = Requirements()


def known(kind: type[_Enum], number: int) -> _Enum:
    """The member with this number, which a later version may have added. Raises InvalidRequest."""
    try:
        return kind(number)
    except ValueError as error:
        raise InvalidRequest(f"{number} is no {kind.__name__} that this version knows") from error


# --- submissions --------------------------------------------------------------------------------------------


def header_from_proto(spec: common_pb2.DagSpec) -> DagHeader:
    """What the spec says of the DAG as a whole. Raises InvalidRequest."""
    return DagHeader(
        dag_id=spec.dag_id,
        namespace=spec.namespace or "default",
        name=spec.name,
        failure_policy=known(FailurePolicy, spec.failure_policy or FailurePolicy.CONTINUE),
        priority=known(Priority, spec.priority or Priority.MEDIUM),
        deadline_ms=spec.deadline_ms,
        labels=dict(sorted(spec.labels.items())),
        metadata=dict(sorted(spec.metadata.items())),
        policy=spec.policy,
    )


def draft_from_proto(header: DagHeader, tasks: Iterable[common_pb2.TaskSpec]) -> DagDraft:
    """A draft from the wire. Raises InvalidRequest."""
    return DagDraft(header, [task_from_proto(task) for task in tasks])


def task_from_proto(spec: common_pb2.TaskSpec) -> TaskDraft:
    """One task. Most fields are seldom set: what is absent is not looked into. Raises InvalidRequest."""
    return TaskDraft(
        id=spec.id,
        type=spec.type,
        family=known(TaskFamily, family) if (family := spec.family) else TaskFamily.UNSPECIFIED,
        payload=spec.payload,
        depends_on=tuple(before) if (before := spec.depends_on) else (),
        inputs=tuple(map(_data_item, items)) if (items := spec.inputs) else (),
        outputs=tuple(map(_data_item, items)) if (items := spec.outputs) else (),
        requirements=_requirements(spec.requirements) if spec.HasField("requirements") else _UNDEMANDING,
        priority=spec.priority,
        deadline_ms=spec.deadline_ms,
        timeout_ms=spec.timeout_ms,
        retry=_retry(spec.retry) if spec.HasField("retry") else None,
        expected_ms=spec.expected_ms,
        labels=pairs(values) if (values := spec.labels) else (),
        metadata=pairs(values) if (values := spec.metadata) else (),
        parent_id=spec.parent_id,
        preemptible=spec.preemptible,
        family_name=spec.family_name,
    )


def draft_to_proto(draft: DagDraft) -> common_pb2.DagSpec:
    """The draft as a client sends it."""
    header = draft.header
    return common_pb2.DagSpec(
        dag_id=header.dag_id,
        namespace=header.namespace,
        name=header.name,
        tasks=[_task_to_proto(task) for task in draft.tasks],
        labels=header.labels,
        metadata=header.metadata,
        failure_policy=common_pb2.FailurePolicy.ValueType(header.failure_policy),
        priority=common_pb2.Priority.ValueType(header.priority),
        deadline_ms=header.deadline_ms,
        policy=header.policy,
    )


def _task_to_proto(task: TaskDraft) -> common_pb2.TaskSpec:
    return common_pb2.TaskSpec(
        id=task.id,
        type=task.type,
        family=common_pb2.TaskFamily.ValueType(task.family),
        payload=task.payload,
        depends_on=task.depends_on,
        inputs=[_data_item_to_proto(item) for item in task.inputs],
        outputs=[_data_item_to_proto(item) for item in task.outputs],
        requirements=_requirements_to_proto(task.requirements),
        priority=common_pb2.Priority.ValueType(task.priority),
        deadline_ms=task.deadline_ms,
        timeout_ms=task.timeout_ms,
        retry=None if task.retry is None else _retry_to_proto(task.retry),
        expected_ms=task.expected_ms,
        labels=dict(task.labels),
        metadata=dict(task.metadata),
        parent_id=task.parent_id,
        preemptible=task.preemptible,
        family_name=task.family_name,
    )


def _data_item(item: common_pb2.DataItem) -> DataItem:
    return DataItem(item.name, item.size_bytes, tuple(item.locations))


def _data_item_to_proto(item: DataItem) -> common_pb2.DataItem:
    return common_pb2.DataItem(name=item.name, size_bytes=item.size_bytes, locations=item.locations)


def pairs(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Sorted (name, value) pairs."""
    return tuple(sorted(values.items())) if values else ()


def _retry(policy: common_pb2.RetryPolicy) -> RetryPolicy:
    defaults = RetryPolicy()
    return RetryPolicy(
        max_attempts=policy.max_attempts or defaults.max_attempts,
        backoff=known(Backoff, policy.backoff or Backoff.FIXED),
        delay_ms=policy.delay_ms,
        max_delay_ms=policy.max_delay_ms or defaults.max_delay_ms,
    )


def _retry_to_proto(retry: RetryPolicy) -> common_pb2.RetryPolicy:
    return common_pb2.RetryPolicy(
        max_attempts=retry.max_attempts,
        backoff=common_pb2.Backoff.ValueType(retry.backoff),
        delay_ms=retry.delay_ms,
        max_delay_ms=retry.max_delay_ms,
    )


def resources_from_proto(resources: common_pb2.Resources) -> Resources:
    """Amounts of resources from the wire."""
    return Resources(*(getattr(resources, name) for name in Resources.__struct_fields__))


def resources_to_proto(resources: Resources) -> common_pb2.Resources:
    """Amounts of resources, field by field."""
    return common_pb2.Resources(**{name: getattr(resources, name) for name in Resources.__struct_fields__})


def capabilities(levels: Iterable[common_pb2.Capability]) -> tuple[tuple[str, int], ...]:
    """Sorted (name, level) pairs."""
    return tuple(sorted((one.name, one.level) for one in levels))


def _requirements(needs: common_pb2.Requirements) -> Requirements:
    """Needs of the families that are amounts join the resources; the rest are matched by name."""
    stated = resources_from_proto(needs.resources)
    resources = Resources(
        milli_cores=max(stated.milli_cores, needs.compute.milli_cores),
        memory_bytes=max(stated.memory_bytes, needs.compute.memory_bytes),
        gpu_memory_bytes=max(stated.gpu_memory_bytes, needs.model.gpu_memory_bytes),
        disk_bytes=max(stated.disk_bytes, needs.io.storage_bytes),
        bandwidth_bps=max(stated.bandwidth_bps, needs.io.bandwidth_bps, needs.communication.bandwidth_bps),
    )
    return Requirements(
        resources=resources,
        capabilities=capabilities(needs.capabilities),
        labels=pairs(needs.labels),
        anti_affinity=tuple(sorted(needs.anti_affinity)),
        needs=FamilyNeeds(
            model=needs.model.model,
            model_version=needs.model.version,
            batchable=needs.model.batchable,
            tool=needs.tool.tool,
            permissions=tuple(sorted(needs.tool.permissions)),
            environment=needs.tool.environment,
            data_location=needs.io.data_location,
            max_latency_ms=needs.communication.max_latency_ms,
            protocol=needs.communication.protocol,
        ),
    )


def _requirements_to_proto(needs: Requirements) -> common_pb2.Requirements:
    named = needs.needs
    return common_pb2.Requirements(
        resources=resources_to_proto(needs.resources),
        capabilities=[common_pb2.Capability(name=name, level=level) for name, level in needs.capabilities],
        labels=dict(needs.labels),
        anti_affinity=needs.anti_affinity,
        model=common_pb2.ModelNeeds(
            model=named.model, version=named.model_version, batchable=named.batchable
        ),
        tool=common_pb2.ToolNeeds(
            tool=named.tool, permissions=named.permissions, environment=named.environment
        ),
        io=common_pb2.IoNeeds(data_location=named.data_location),
        communication=common_pb2.CommunicationNeeds(
            max_latency_ms=named.max_latency_ms, protocol=named.protocol
        ),
    )


# --- views --------------------------------------------------------------------------------------------------


def counts_to_proto(counts: list[int]) -> common_pb2.TaskCounts:
    """Counts by TaskState as index."""
    return common_pb2.TaskCounts(**{state.name.lower(): counts[state] for state in TaskState})


def dag_to_proto(record: DagRecord, counts: list[int]) -> common_pb2.DagView:
    """A DAG as a client sees it."""
    header = record.header
    return common_pb2.DagView(
        dag_id=header.dag_id,
        namespace=header.namespace,
        name=header.name,
        state=common_pb2.DagState.ValueType(record.state),
        counts=counts_to_proto(counts),
        created_ms=record.created_ms,
        finished_ms=record.finished_ms,
        labels=header.labels,
        metadata=header.metadata,
        reason=record.reason,
        revision=record.revision,
    )


def task_to_proto(dag: Dag, task: Task) -> common_pb2.TaskView:
    """A task as a client sees it."""
    extras = dag.extras.get(task.index)
    return common_pb2.TaskView(
        dag_id=dag.record.header.dag_id,
        id=task.id,
        index=task.index,
        type=task.profile.type,
        state=common_pb2.TaskState.ValueType(task.state),
        attempts=[
            common_pb2.AttemptView(
                attempt=attempt.number,
                agent_id=attempt.agent,
                outcome=common_pb2.AttemptOutcome.ValueType(attempt.outcome),
                assigned_ms=attempt.assigned_ms,
                started_ms=attempt.started_ms,
                ended_ms=attempt.ended_ms,
                reason=attempt.reason,
            )
            for attempt in task.attempts
        ],
        depends_on=[dag.tasks[index].id for index in task.depends],
        progress=task.progress,
        ready_ms=task.ready_ms,
        ended_ms=task.ended_ms,
        reason=task.reason,
        parent_id=extras.parent_id if extras is not None else "",
        has_result=task.has_result,
        not_before_ms=task.not_before_ms,
    )


def event_to_proto(revision: int, at_ms: int, event: Event) -> client_pb2.Event:
    """An event as a watcher sees it."""
    message = client_pb2.Event(revision=revision, at_ms=at_ms)
    if isinstance(event, TaskEvent):
        message.task.dag_id = event.dag_id
        message.task.task_id = event.task_id
        message.task.state = common_pb2.TaskState.ValueType(event.state)
        message.task.attempt = event.attempt
        message.task.agent_id = event.agent
        message.task.reason = event.reason
    elif isinstance(event, DagEvent):
        message.dag.dag_id = event.dag_id
        message.dag.state = common_pb2.DagState.ValueType(event.state)
    else:
        assert isinstance(event, AgentEvent)
        message.agent.agent_id = event.agent
        message.agent.state = event.state.name
    return message


# --- agents -------------------------------------------------------------------------------------------------


def load_from_proto(load: agent_pb2.LoadReport) -> AgentLoad:
    """Measured load."""
    return AgentLoad(*(getattr(load, name) for name in AgentLoad.__struct_fields__))


def report_from_proto(report: agent_pb2.TaskReport) -> AttemptReport | None:
    """What an agent tells of an attempt; None for a kind that this version does not know."""
    key, attempt = report.fence.key, report.fence.attempt
    kind = report.WhichOneof("body")
    if kind == "started":
        return AttemptReport(key, attempt, ReportKind.STARTED)
    if kind == "ended":
        return _end_from_proto(key, attempt, report.ended)
    if kind == "progress":
        return AttemptReport(key, attempt, ReportKind.PROGRESS, progress=report.progress.fraction)
    if kind == "checkpoint":
        return AttemptReport(key, attempt, ReportKind.CHECKPOINT, data=report.checkpoint.state)
    return None


def _end_from_proto(key: int, attempt: int, ended: agent_pb2.Ended) -> AttemptReport:
    try:
        outcome, text, retryable = AttemptOutcome(ended.outcome), ended.error, ended.retryable
    except ValueError:
        # It has ended, whatever that means: the attempt must not stay with the agent for ever.
        outcome, retryable = AttemptOutcome.FAILED, False
        text = f"the agent reported the outcome {ended.outcome}, which this version does not know"
    return AttemptReport(
        key,
        attempt,
        ReportKind.ENDED,
        outcome=outcome,
        data=ended.result,
        text=text,
        reference=ended.reference,
        duration_us=ended.duration_us,
        retryable=retryable,
    )


def fence(key: int, attempt: int) -> agent_pb2.Fence:
    """An attempt's name on the wire."""
    return agent_pb2.Fence(key=key, attempt=attempt)


def work_to_proto(work: Work) -> agent_pb2.Assignment:
    """An attempt as its agent gets it."""
    task, profile = work.task, work.task.profile
    message = agent_pb2.Assignment(
        fence=fence(task.key, work.attempt),
        dag_id=work.dag_id,
        task_id=task.id,
        type=profile.type,
        payload=task.payload,
        timeout_ms=profile.timeout_ms,
        expected_ms=task.expected_ms,
        family=common_pb2.TaskFamily.ValueType(profile.family),
        family_name=profile.family_name,
    )
    if work.checkpoint:
        message.checkpoint = work.checkpoint
    if work.extras is not None and work.extras.metadata:
        message.metadata.update(dict(work.extras.metadata))
    return message
