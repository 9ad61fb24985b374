"""What is submitted: a DAG of tasks, said in Python's own terms. `agent_sdk._encode` turns it into the
wire's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

Priority = Literal["low", "medium", "high", "urgent"]
FailurePolicy = Literal["continue", "fail_fast"]
Backoff = Literal["fixed", "linear", "exponential"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often a task is tried, the first time included, and the pauses between: `delay_s` before the second
    attempt, growing by `backoff`, at most `max_delay_s` (0: the server's bound)."""

    max_attempts: int = 1
    backoff: Backoff = "fixed"
    delay_s: float = 0.0
    max_delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a task takes while an agent holds it, or what an agent has in all. `cores` may be a fraction."""

    cores: float = 0.0
    memory_bytes: int = 0
    gpu_memory_bytes: int = 0
    disk_bytes: int = 0
    bandwidth_bps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNeeds:
    """A model that the agent must serve."""

    model: str
    version: str = ""
    gpu_memory_bytes: int = 0
    batchable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolNeeds:
    """A tool that the agent must have, and what it must be allowed to do with it."""

    tool: str
    permissions: Sequence[str] = ()
    environment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeNeeds:
    """Processing power."""

    cores: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IoNeeds:
    """Bandwidth, storage, and where the data is."""

    bandwidth_bps: int = 0
    storage_bytes: int = 0
    data_location: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommunicationNeeds:
    """A link of a certain quality."""

    max_latency_ms: int = 0
    bandwidth_bps: int = 0
    protocol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requires:
    """What an agent must offer to get the task: resources, skills with their least level, labels it carries,
    no task of one of the `anti_affinity` groups beside it, and the needs of one or more families of tasks."""

    resources: Resources = Resources()
    capabilities: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    anti_affinity: Sequence[str] = ()
    model: ModelNeeds | None = None
    tool: ToolNeeds | None = None
    compute: ComputeNeeds | None = None
    io: IoNeeds | None = None
    communication: CommunicationNeeds | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """A named input or output; `locations` are agents or zones that hold it. A task that has an input which
    another one has as its output depends on that one."""

    name: str
    size_bytes: int = 0
    locations: Sequence[str] = ()


NO_REQUIREMENTS: Final = Requires()


@dataclass(frozen=True, slots=True)
class Task:
    """One unit of work.

    `payload` reaches the handler as bytes: text as UTF-8, anything else but bytes as JSON, None as nothing.
    `timeout_s` bounds one attempt from its start (None: the server's default, 300 s). `expected_s` is an
    estimate of one attempt, which placement uses until it has measured its own. `family` is model, tool,
    compute, io, communication, hybrid, or what a plug-in of the server adds, by default that of the needs in
    `requires`; `retry` by default that of the family, `priority` that of the DAG. A `deadline` needs a time
    zone.
    """

    id: str
    type: str
    payload: Any = None
    depends_on: Sequence[str] = ()
    inputs: Sequence[str | Data] = ()
    outputs: Sequence[str | Data] = ()
    priority: Priority | None = None
    timeout_s: float | None = None
    retry: Retry | None = None
    requires: Requires = NO_REQUIREMENTS
    expected_s: float = 0.0
    deadline: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    family: str | None = None
    parent_id: str = ""
    preemptible: bool = False


@dataclass(slots=True, kw_only=True)
class Dag:
    """Tasks and what they share. `failure_policy` says what a task that failed for good means for the rest:
    "continue" cancels what depends on it, "fail_fast" cancels all. `policy` is that of placement, "" the
    namespace's. The server chooses `dag_id` when it is empty."""

    name: str = ""
    namespace: str = "default"
    tasks: list[Task] = field(default_factory=list)
    failure_policy: FailurePolicy = "continue"
    priority: Priority = "medium"
    deadline: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    dag_id: str = ""
    policy: str = ""

    def add(self, task: Task) -> Dag:
        """Add a task; returns the DAG, so that calls can be chained."""
        self.tasks.append(task)
        return self

    def extend(self, tasks: Iterable[Task]) -> Dag:
        """Add several tasks; returns the DAG."""
        self.tasks.extend(tasks)
        return self
