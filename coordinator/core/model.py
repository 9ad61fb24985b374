"""What the state that every node holds is made of: DAGs, tasks, attempts, agents.

Times are Unix milliseconds as stamped by the leader, durations milliseconds, sizes bytes. A task's *key*
is its DAG's number shifted left by `INDEX_BITS`, plus its index in the DAG; indexes are a topological
order, so that every dependency has a lower index than its dependant. Structs without cycles opt out of
garbage collection: a million tasks must not be walked.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import Final

import msgspec

from coordinator.core.namespaces import DEFAULT_NAMESPACE, Usage
from coordinator.core.requirements import NO_RESOURCES, NOTHING_TAKEN, Taken, has_place
from coordinator.core.requirements import FamilyNeeds as FamilyNeeds
from coordinator.core.requirements import Requirements as Requirements
from coordinator.core.requirements import Resources as Resources

INDEX_BITS: Final = 24
INDEX_MASK: Final = (1 << INDEX_BITS) - 1

PROFILES_SHARED: Final = 2_048
"""Beyond them the one that was longest not met is another object when it is met again."""


class TaskState(IntEnum):
    """Numbers as on the wire (`proto/coordinator/v1/common.proto`)."""

    PENDING = 1
    READY = 2
    ASSIGNED = 3
    RUNNING = 4
    COMPLETED = 5
    FAILED = 6
    CANCELLED = 7


class DagState(IntEnum):
    """STAGING: a streamed submission has not arrived whole, and none of its tasks may be placed."""

    STAGING = 1
    RUNNING = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5


class AttemptOutcome(IntEnum):
    """LIVE: the attempt is with its agent. SUPERSEDED: another attempt of the task completed first."""

    LIVE = 0
    COMPLETED = 1
    FAILED = 2
    TIMED_OUT = 3
    CANCELLED = 4
    LOST = 5
    RESCHEDULED = 6
    REJECTED = 7
    SUPERSEDED = 8
    PREEMPTED = 9


class AgentState(IntEnum):
    """CONNECTED agents have a session; DISCONNECTED ones may come back and keep what they hold until they are
    declared LOST; STOPPED ones said goodbye."""

    CONNECTED = 1
    DISCONNECTED = 2
    LOST = 3
    STOPPED = 4


class Drain(IntEnum):
    """Why an agent takes nothing new: it is LEAVING by itself, or an OPERATOR wants it empty (which
    outlives its sessions)."""

    NONE = 0
    LEAVING = 1
    OPERATOR = 2


class TaskFamily(IntEnum):
    """The kinds of work of requirement B1."""

    # Enumerations hash their names, in Python: this is part of keys that are looked up for every task.
    __hash__ = int.__hash__

    UNSPECIFIED = 0
    MODEL = 1
    TOOL = 2
    COMPUTE = 3
    IO = 4
    COMMUNICATION = 5
    HYBRID = 6


class Priority(IntEnum):
    """Higher goes first."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    URGENT = 4


class Backoff(IntEnum):
    """How the delay grows with the number of attempts made."""

    FIXED = 1
    LINEAR = 2
    EXPONENTIAL = 3


class FailurePolicy(IntEnum):
    """What a task that failed for good means for the rest of its DAG."""

    CONTINUE = 1
    FAIL_FAST = 2


class RetryPolicy(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`max_attempts` counts the first one; delays in ms."""

    max_attempts: int = 1
    backoff: Backoff = Backoff.FIXED
    delay_ms: int = 0
    max_delay_ms: int = 60_000


class TaskProfile(msgspec.Struct, frozen=True, array_like=True, cache_hash=True):
    """What many tasks of a DAG share. Hashable; tasks of one profile are alike to the scheduler.
    `family_name` is the family of a plug-in, "" for one of the six; then `family` is the one that it is
    like."""

    type: str
    family: TaskFamily = TaskFamily.UNSPECIFIED
    requirements: Requirements = Requirements()
    priority: Priority = Priority.MEDIUM
    timeout_ms: int = 300_000
    retry: RetryPolicy = RetryPolicy()
    deadline_ms: int = 0
    preemptible: bool = False
    family_name: str = ""


@lru_cache(maxsize=PROFILES_SHARED)
def shared(profile: TaskProfile) -> TaskProfile:
    """The profile as one object for all small DAGs that have it: it takes its memory once, and whoever looks
    something up by it need not compare it field by field."""
    return profile


class DataItem(msgspec.Struct, frozen=True, array_like=True):
    """A named input or output, with its size in bytes and the agents or zones that hold it."""

    name: str
    size_bytes: int = 0
    locations: tuple[str, ...] = ()


class TaskExtras(msgspec.Struct, frozen=True, array_like=True):
    """What few tasks carry and no decision on the hot path needs."""

    inputs: tuple[DataItem, ...] = ()
    outputs: tuple[DataItem, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    parent_id: str = ""


class TaskBlock(msgspec.Struct, array_like=True):
    """A run of tasks of one DAG by column, as submitted and as stored: indexes `first` ... `first +
    len(ids) - 1`. `profiles` are positions in the DAG's list of profiles; `depends` are task indexes, each
    lower than the task's own; `extras` is keyed by position in the block."""

    first: int
    ids: list[str]
    profiles: list[int]
    depends: list[tuple[int, ...]]
    payloads: list[bytes]
    expected_ms: list[int]
    extras: dict[int, TaskExtras] = {}


class DagHeader(msgspec.Struct, array_like=True):
    """What a DAG is, apart from its tasks. `policy` is that of its placement, "" its namespace's."""

    dag_id: str
    namespace: str = DEFAULT_NAMESPACE
    name: str = ""
    failure_policy: FailurePolicy = FailurePolicy.CONTINUE
    priority: Priority = Priority.MEDIUM
    deadline_ms: int = 0
    labels: dict[str, str] = {}
    metadata: dict[str, str] = {}
    policy: str = ""


class Attempt(msgspec.Struct, array_like=True, gc=False):
    """One try of a task on one agent. `epoch` is the agent's session that it is bound to; zero times mean not
    yet: it runs since `started_ms`."""

    number: int
    agent: str
    epoch: int
    assigned_ms: int
    outcome: AttemptOutcome = AttemptOutcome.LIVE
    started_ms: int = 0
    ended_ms: int = 0
    reason: str = ""


class TaskRecord(msgspec.Struct, array_like=True, gc=False):
    """The stored, changing part of a task. Without one it is as its block and its predecessors' ends say."""

    state: TaskState
    attempt: int = 0
    failures: int = 0
    not_before_ms: int = 0
    ready_ms: int = 0
    ended_ms: int = 0
    progress: float = 0.0
    has_result: bool = False
    has_checkpoint: bool = False
    reason: str = ""
    attempts: tuple[Attempt, ...] = ()


class Task(msgspec.Struct, gc=False):
    """A task of an unfinished DAG. `waiting` counts predecessors that have not completed; `attempt` is the
    number of the last one made; `failures` counts the attempts that used up one of the retry policy's;
    `attempts` keeps `limits.ATTEMPTS_KEPT`: the last ones, and any that is live. `progress` is the greatest
    of its live attempts, `read_log2` the logarithm of the bytes that it reads (`kinds.read_log2`)."""

    key: int
    id: str
    profile: TaskProfile
    depends: tuple[int, ...]
    payload: bytes
    expected_ms: int
    state: TaskState = TaskState.PENDING
    waiting: int = 0
    successors: tuple[int, ...] = ()
    attempt: int = 0
    failures: int = 0
    not_before_ms: int = 0
    ready_ms: int = 0
    ended_ms: int = 0
    progress: float = 0.0
    has_result: bool = False
    has_checkpoint: bool = False
    reason: str = ""
    attempts: tuple[Attempt, ...] = ()
    read_log2: int = 0

    @property
    def hint(self) -> int:
        """What the client says of how long it takes, in one number that goes along wherever durations count:
        `expected_ms` where it says so, or else minus `read_log2`; 0 where it says neither."""
        return self.expected_ms if self.expected_ms > 0 else -self.read_log2

    @property
    def index(self) -> int:
        """Its position in the DAG's topological order."""
        return self.key & INDEX_MASK

    @property
    def live(self) -> tuple[Attempt, ...]:
        """The attempts that agents hold, the oldest first; `limits.LIVE_ATTEMPTS` at most."""
        return tuple([one for one in self.attempts if one.outcome is AttemptOutcome.LIVE])

    def live_attempt(self, number: int) -> Attempt | None:
        """The attempt with this number, if an agent holds it."""
        attempts = self.attempts
        # Nearly always the last one is meant.
        if attempts and attempts[-1].number == number:
            return attempts[-1] if attempts[-1].outcome is AttemptOutcome.LIVE else None
        return next((one for one in self.live if one.number == number), None)

    def record(self) -> TaskRecord:
        """What is stored of it."""
        return TaskRecord(
            self.state,
            self.attempt,
            self.failures,
            self.not_before_ms,
            self.ready_ms,
            self.ended_ms,
            self.progress,
            self.has_result,
            self.has_checkpoint,
            self.reason,
            self.attempts,
        )


class DagRecord(msgspec.Struct, array_like=True):
    """What is stored of a DAG. `ending` is the state that it is being driven to, every unfinished task being
    cancelled; `sweep_from` the index from which tasks may have to be cancelled, -1 if none; `revision` the
    log index of its last change of state; `counts` of tasks by state, of a finished one."""

    number: int
    header: DagHeader
    profiles: list[TaskProfile]
    state: DagState
    created_ms: int
    finished_ms: int = 0
    ending: DagState | None = None
    sweep_from: int = -1
    reason: str = ""
    revision: int = 0
    counts: tuple[int, ...] = ()


class Dag(msgspec.Struct):
    """An unfinished DAG in memory: its record and its tasks by index. `counts` of tasks by state follow from
    the tasks; `extras` are those of its blocks, by task index; `usage` is its namespace's."""

    record: DagRecord
    tasks: list[Task]
    counts: list[int]
    extras: dict[int, TaskExtras] = {}
    index_of: dict[str, int] = {}
    usage: Usage = msgspec.field(default_factory=Usage)

    def find(self, task_id: str) -> Task | None:
        """The task with this id. The index of ids is completed on demand: few DAGs are ever asked."""
        for task in self.tasks[len(self.index_of) :]:
            self.index_of[task.id] = task.key & INDEX_MASK
        position = self.index_of.get(task_id)
        return None if position is None else self.tasks[position]


class AgentSpec(msgspec.Struct, frozen=True, array_like=True):
    """What an agent says of itself when it opens a session, or later in it. `credit` bounds the attempts that
    it holds, `slots` those that run at once; "*" in `task_types` stands for every type. `speed` is relative
    to other agents, `busy_watts` the power that one busy slot adds (0: not known); the limits are sorted
    (name, tasks at once) pairs; `data` are the items and locations that are with it."""

    agent_id: str
    instance_id: str
    slots: int
    credit: int
    task_types: tuple[str, ...] = ("*",)
    capabilities: tuple[tuple[str, int], ...] = ()
    resources: Resources = Resources()
    labels: tuple[tuple[str, str], ...] = ()
    zone: str = ""
    tools: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    cached_models: tuple[str, ...] = ()
    speed: float = 1.0
    busy_watts: float = 0.0
    tool_limits: tuple[tuple[str, int], ...] = ()
    model_limits: tuple[tuple[str, int], ...] = ()
    data: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class AgentLoad(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Measured on the agent: `cpu`, `memory`, `gpu` as fractions of all, rates in bytes/s, `queued` and
    `running` attempts."""

    cpu: float = 0.0
    memory: float = 0.0
    disk_read_bps: int = 0
    disk_write_bps: int = 0
    net_sent_bps: int = 0
    net_received_bps: int = 0
    queued: int = 0
    running: int = 0
    gpu: float = 0.0
    gpu_memory_free_bytes: int = 0
    latency_ms: float = 0.0
    packet_loss: float = 0.0


class AgentRecord(msgspec.Struct, array_like=True):
    """What is stored of an agent. `epoch` is its latest session, numbered higher than every session before
    it, also those of agents that were forgotten; `since_ms` is when it came into its state. `stopping` are
    the attempts, as (key, number), that were taken from it and whose end it has not yet reported: they still
    take what they took."""

    spec: AgentSpec
    epoch: int
    state: AgentState
    since_ms: int
    drain: Drain = Drain.NONE
    stopping: dict[tuple[int, int], Taken] = {}


class AgentStats(msgspec.Struct, array_like=True, gc=False):
    """Attempts that ended on an agent."""

    completed: int = 0
    failed: int = 0


class Agent(msgspec.Struct):
    """An agent in memory. `held` maps the keys of its live attempts to their numbers. `taken` is the sum of
    the resources that those and the stopping ones take, in the order of `Resources`; `tools` and `models`
    count those of them that use each. All of it follows from the tasks."""

    record: AgentRecord
    held: dict[int, int] = {}
    taken: list[int] = msgspec.field(default_factory=lambda: [0] * len(NO_RESOURCES.__struct_fields__))
    tools: dict[str, int] = {}
    models: dict[str, int] = {}
    stats: AgentStats = msgspec.field(default_factory=AgentStats)
    load: AgentLoad = AgentLoad()

    def take(self, needed: Taken, times: int = 1) -> None:
        """Count what an attempt takes; with `times` -1, takes no more."""
        if needed == NOTHING_TAKEN:
            return
        for at, name in enumerate(NO_RESOURCES.__struct_fields__):
            self.taken[at] += times * getattr(needed, name)
        for name, users in ((needed.tool, self.tools), (needed.model, self.models)):
            if name:
                users[name] = users.get(name, 0) + times
                if not users[name]:
                    del users[name]

    def has_room_for(self, needed: Taken) -> bool:
        """Whether one more attempt fits beside what is taken."""
        if needed == NOTHING_TAKEN:
            return True
        spec = self.record.spec
        for at, name in enumerate(NO_RESOURCES.__struct_fields__):
            amount = getattr(needed, name)
            if amount and amount + self.taken[at] > getattr(spec.resources, name):
                return False
        return has_place(self.tools, needed.tool, spec.tool_limits) and has_place(
            self.models, needed.model, spec.model_limits
        )


STATES: Final = max(TaskState) + 1
"""Length of a list of counts by task state."""


def task_key(dag_number: int, index: int) -> int:
    """The key of the task at `index` of the DAG with this number."""
    return (dag_number << INDEX_BITS) | index
