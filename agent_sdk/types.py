"""What clients read: plain, frozen records. States are the names of the wire contract without their prefix
("COMPLETED"); times are Unix milliseconds with 0 for "not yet"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_sdk.errors import TaskFailed

FINAL_STATES: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
"""Of tasks and of DAGs alike."""

QUOTAS: Final = ("attempts", "milli_cores", "memory_bytes", "gpu_memory_bytes", "tasks")
"""What a namespace may have a quota of."""


@dataclass(frozen=True, slots=True)
class DagStatus:
    """A DAG as read at `revision`: a watch from `revision + 1` misses nothing. `tasks` counts them by state,
    and names only the states that occur. `stale` marks an answer that a follower gave: `age_ms` milliseconds
    ago it held all that was committed, as far as that node knows, -1: never."""

    dag_id: str
    name: str
    namespace: str
    state: str
    tasks: Mapping[str, int]
    created_ms: int
    finished_ms: int
    reason: str
    labels: Mapping[str, str]
    metadata: Mapping[str, str]
    revision: int
    stale: bool = False
    age_ms: int = 0

    @property
    def finished(self) -> bool:
        """Whether the state is final."""
        return self.state in FINAL_STATES

    @property
    def makespan_s(self) -> float | None:
        """Seconds from submission to the end; None while it runs."""
        return (self.finished_ms - self.created_ms) / 1000 if self.finished_ms else None


@dataclass(frozen=True, slots=True)
class Namespace:
    """What is set for a namespace, and what its unfinished DAGs are and hold. `quotas` has those that are
    set, by name (`QUOTAS`); `share` is the largest part of slots, cores, memory or GPU memory that it holds,
    0 to 1."""

    name: str
    weight: float
    quotas: Mapping[str, int]
    policy: str
    dags: int
    tasks: int
    attempts: int
    milli_cores: int
    memory_bytes: int
    gpu_memory_bytes: int
    share: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """Slots of agents that are kept for the work of a namespace: so many `slots` of each, None for all, from
    `begin_ms` (0: at once) until before `end_ms` (0: for good). It is of agents that are all that is given:
    named in `agents`, of the `zone`, in the `group`, with the `labels`; `covered` of those that are known.
    Its `state` is "TO_COME", "IN_FORCE" or "OVER", its `version` that of its last change."""

    id: str
    namespace: str
    slots: int | None
    begin_ms: int
    end_ms: int
    agents: tuple[str, ...]
    zone: str
    group: str
    labels: Mapping[str, str]
    version: int
    state: str
    covered: int


@dataclass(frozen=True, slots=True)
class AttemptStatus:
    """One try of a task on one agent. `outcome` is "LIVE" while the agent holds it."""

    attempt: int
    agent: str
    outcome: str
    assigned_ms: int
    started_ms: int
    ended_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task. `index` is its position in the DAG's topological order; `progress` what its handler
    reported, 0 to 1; `not_before_ms` when its next attempt may start; `reason` why it waits, failed or
    was cancelled. Read at `revision`; `stale` and `age_ms` as those of a `DagStatus`."""

    dag_id: str
    id: str
    index: int
    type: str
    state: str
    attempts: tuple[AttemptStatus, ...]
    depends_on: tuple[str, ...]
    progress: float
    ready_ms: int
    ended_ms: int
    not_before_ms: int
    reason: str
    parent_id: str
    has_result: bool
    revision: int = 0
    stale: bool = False
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task left: `data` inline, or the `reference` under which its handler stored it elsewhere. Read
    at `revision`; `stale` and `age_ms` as those of a `DagStatus`."""

    dag_id: str
    task_id: str
    state: str
    data: bytes
    reference: str
    error: str
    revision: int = 0
    stale: bool = False
    age_ms: int = 0

    @property
    def text(self) -> str:
        """`data` as UTF-8 text. Raises UnicodeDecodeError if it is none."""
        return self.data.decode()

    def json(self) -> Any:
        """`data` as JSON. Raises json.JSONDecodeError if it is none."""
        return json.loads(self.data)

    def raise_for_state(self) -> TaskResult:
        """Itself if the task completed; raises TaskFailed otherwise."""
        if self.state == "COMPLETED":
            return self
        raise TaskFailed(
            f"task {self.task_id!r} of DAG {self.dag_id!r} is {self.state}: {self.error or 'no reason'}",
            fields={"dag_id": self.dag_id, "task_id": self.task_id, "state": self.state},
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why `agents` agents cannot take a task; one of them by name."""

    reason: str
    agents: int
    example_agent: str
    detail: str


@dataclass(frozen=True, slots=True)
class NearMiss:
    """An agent that lacks one thing alone, and how much of it."""

    agent_id: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class AgentGroup:
    """The agents of a group, or of a zone where they have none: how many there are, could ever take the task
    and could now, and by reason how many do not."""

    name: str
    agents: int
    capable: int
    feasible: int
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CostTerm:
    """A part of a cost: `product` is `weight` times `value`."""

    name: str
    weight: float
    value: float
    product: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent with what the task costs there, and why another one has it ("": this one has)."""

    agent_id: str
    cost: float
    terms: tuple[CostTerm, ...]
    lost: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """Why an agent has a task: the first of the `candidates`, of `considered` agents. It was taken down
    (`recorded`) when that was decided, or else is how it would be decided at `at_ms`. Costs are in `unit`.
    The attempt should take `low_s` to `high_s`, in four cases of five; it has taken `actual_s`. `reserved`
    says which slot that is kept for its namespace it has ("": none)."""

    attempt: int
    agent_id: str
    at_ms: int
    recorded: bool
    policy: str
    unit: str
    how: str
    considered: int
    expected_s: float
    low_s: float
    high_s: float
    actual_s: float
    candidates: tuple[Candidate, ...]
    reserved: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task is where it is: what it waits for, which agents refused it for what, which single changes
    would let it go; or why its agents have it. `impossible_since_ms` is 0 where some agent could take it."""

    state: str
    summary: str
    waiting_for: tuple[str, ...]
    refusals: tuple[Refusal, ...]
    agents_total: int
    agents_feasible: int
    near_misses: tuple[NearMiss, ...] = ()
    groups: tuple[AgentGroup, ...] = ()
    unblocked_by: tuple[str, ...] = ()
    impossible_since_ms: int = 0
    assignments: tuple[Assignment, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that placement decided: a `round`, a `move` of an attempt, or the `adaptation` of a
    parameter. `number` counts within the leader's `term`; the `facts` are those of the kind, by name."""

    term: int
    number: int
    at_ms: int
    kind: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DagEvent:
    """A DAG changed its state."""

    revision: int
    at_ms: int
    dag_id: str
    state: str


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """A task changed its state."""

    revision: int
    at_ms: int
    dag_id: str
    task_id: str
    state: str
    attempt: int
    agent: str
    reason: str


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """An agent changed its state."""

    revision: int
    at_ms: int
    agent: str
    state: str


Event = DagEvent | TaskEvent | AgentEvent


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A coordinator node. `digest` is that of its state at `applied_index`, hexadecimal; `differs_at` the
    first entry after which its state was seen to differ from the leader's, 0 if none. With little
    `free_bytes` on its disk (0 where another node is told of) a node is `low_on_space`, and
    `refuses_work` if nobody with more can lead."""

    id: str
    role: str
    grpc_address: str
    raft_address: str
    applied_index: int
    last_log_index: int
    digest: str
    draining: bool
    version: str
    free_bytes: int = 0
    low_on_space: bool = False
    refuses_work: bool = False
    kind: str = "voter"
    lag: int = 0
    differs_at: int = 0
    term: int = 0
    commit_index: int = 0
    leader: str = ""
    leader_address: str = ""
    cluster_id: str = ""
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The cluster as its leader sees it. `tasks` counts those of unfinished DAGs by state."""

    cluster_id: str
    leader: str
    leader_address: str
    term: int
    commit_index: int
    nodes: tuple[NodeStatus, ...]
    tasks: Mapping[str, int]
    unfinished_dags: int
    agents: int


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """A member of the cluster: `kind` is voter or learner, `lag` how many entries of the leader's log it
    lacks. A learner with `promote` becomes a voter by itself. `incarnation` names the data folder that it is
    bound to, "" until the leader has met it."""

    id: str
    kind: str
    raft_address: str
    grpc_address: str
    incarnation: str
    promote: bool
    leader: bool
    lag: int
    connected: bool


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """An agent. `cpu`, `memory`, `network` and `gpu` are 0 to 1, as is `load_score`, by which it is judged:
    one that is `overloaded` takes nothing new. `since_ms` is the time of its present state; `speed` and what
    follows to `groups` are as the agent says."""

    agent_id: str
    state: str
    session_epoch: int
    slots: int
    credit: int
    held: int
    running: int
    completed: int
    failed: int
    task_types: tuple[str, ...]
    capabilities: Mapping[str, int]
    labels: Mapping[str, str]
    zone: str
    cpu: float
    memory: float
    since_ms: int
    speed: float
    busy_watts: float
    tool_limits: Mapping[str, int]
    model_limits: Mapping[str, int]
    data: tuple[str, ...]
    groups: tuple[str, ...]
    load_score: float
    overloaded: bool
    network: float
    gpu: float


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """The agents of a group, "" being that of agents without one or a zone: how many there are, their slots,
    attempts that they hold, seconds of work that these should take, and the mean of their loads. The rest is
    of those that are `accepting` new tasks: slots that are free, the seconds until one is (None if nobody
    accepts), the greatest speed, the least power of a busy slot (0: nobody says), and the most that one of
    them has `free` of each resource."""

    name: str
    agents: int
    accepting: int
    slots: int
    held: int
    held_s: float
    load_score: float
    free_slots: int
    wait_s: float | None
    speed: float
    busy_watts: float
    free: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ForecastOutcome:
    """What was said of a time (Unix ms), what would have been had nothing changed, and what happened."""

    target_ms: int
    forecast: float
    naive: float
    actual: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of a series at `target_ms`, `ahead_s` seconds from the latest step, by the model in
    use; `low` to `high` should hold four outcomes of five. `agent_id` is "" for the cluster itself. `error`
    is the rolling mean absolute error of what was said before, `naive_error` the same had it been said that
    nothing changes; both 0 before the first of the `scored` outcomes, the latest of which are `outcomes`."""

    agent_id: str
    series: str
    horizon: str
    ahead_s: int
    target_ms: int
    model: str
    value: float
    low: float
    high: float
    now: float
    scored: int
    error: float
    naive_error: float
    outcomes: tuple[ForecastOutcome, ...]

    @property
    def relative_error(self) -> float | None:
        """The error in parts of the naive one's: below 1 is better. None if that is 0."""
        return self.error / self.naive_error if self.naive_error else None


@dataclass(frozen=True, slots=True)
class KvItem:
    """A key of the key-value space. `version` is new with each change, and no other change of any key has or
    had it; `created` is the version of the put that found the key absent. `stale` and `age_ms` as those of a
    `DagStatus`."""

    key: str
    value: bytes
    version: int
    created: int
    stale: bool = False
    age_ms: int = 0


@dataclass(frozen=True, slots=True)
class KvEvent:
    """A change of a key: it has this value since `version`, or was `deleted` then and the value is empty.
    `created` is the version at which the key had begun; `at_ms` is Unix time by the leader's clock."""

    key: str
    version: int
    deleted: bool
    value: bytes
    created: int
    at_ms: int
