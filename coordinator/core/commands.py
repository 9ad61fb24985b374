"""What may be asked of the state machine. One log entry carries a list of commands and the time at which the
leader made it.

To add a command: a struct here, in `Command`; an applier in `coordinator/core/appliers/`; its line in
`machine.APPLIERS`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from coordinator.core.model import (
    AgentLoad,
    AgentSpec,
    AttemptOutcome,
    DagHeader,
    TaskBlock,
    TaskExtras,
    TaskProfile,
)
from coordinator.core.namespaces import NO_QUOTAS, Quotas
from coordinator.core.reservations import ReservationRecord

FORMAT: Final = 4
"""Of entries, as they are made now; a node that meets a later one stops."""

FIRST_FORMAT: Final = 1
"""The oldest that is carried out. Its entries teach nothing: whoever carries them out after an upgrade must
come to the state of those who did before."""

LEARNING_FORMAT: Final = 2
"""From here on, ends are counted in the history."""

SIZING_FORMAT: Final = 3
"""From here on, with what was read."""


class SubmitDag(msgspec.Struct, tag=1, array_like=True):
    """A whole DAG. Validated before it was proposed; ids and limits are checked again."""

    request_id: str
    header: DagHeader
    profiles: list[TaskProfile]
    block: TaskBlock


class StageDag(msgspec.Struct, tag=2, array_like=True):
    """A further part of a large DAG: the first one (block.first == 0) creates it in STAGING. `last`
    releases it. `profiles` are those that this part adds to the DAG's list. Each part has a request id of
    its own."""

    request_id: str
    header: DagHeader
    profiles: list[TaskProfile]
    block: TaskBlock
    last: bool


class CancelDag(msgspec.Struct, tag=3, array_like=True):
    """Durable: whatever happens next, no further task of it starts."""

    request_id: str
    dag_id: str
    reason: str = ""


class CancelTask(msgspec.Struct, tag=4, array_like=True):
    """Cancels one task and what depends on it."""

    request_id: str
    dag_id: str
    task_id: str
    reason: str = ""


class RescheduleTask(msgspec.Struct, tag=5, array_like=True):
    """Supersedes the live attempt, or ends the wait for the next one."""

    request_id: str
    dag_id: str
    task_id: str
    reason: str = ""


class NewTask(msgspec.Struct, array_like=True):
    """A task that a running one adds; `depends_on` are ids of tasks before it in the list or in the DAG."""

    id: str
    profile: TaskProfile
    depends_on: tuple[str, ...] = ()
    payload: bytes = b""
    expected_ms: int = 0
    extras: TaskExtras | None = None


class SpawnTasks(msgspec.Struct, tag=6, array_like=True):
    """Adds tasks to the DAG of a running attempt."""

    request_id: str
    agent: str
    epoch: int
    parent: int
    attempt: int
    tasks: list[NewTask]


class Choice(msgspec.Struct, array_like=True, gc=False):
    """Attempt number `attempt` of the task `key` goes to `agent`, whose session is `epoch`: of a READY task,
    or as a `rival` beside an attempt that is live on another agent."""

    key: int
    attempt: int
    agent: str
    epoch: int
    rival: bool = False


class Assign(msgspec.Struct, tag=7, array_like=True):
    """A round of placement. Each choice is checked again; what no longer holds is dropped."""

    choices: list[Choice]


class AssignRoots(msgspec.Struct, tag=44, array_like=True):
    """The same for tasks of a DAG that is submitted in this very entry, before this, with the request id
    `submission`: nobody knows its number then, so that the `key` of each choice is the task's index. None is
    a rival."""

    submission: str
    choices: list[Choice]


class Move(msgspec.Struct, array_like=True, gc=False):
    """The live attempt number `attempt` is to make room for that of `choice`, of the same task."""

    attempt: int
    choice: Choice


class Recall(msgspec.Struct, tag=22, array_like=True):
    """Takes attempts that have not begun from their agents, and gives their tasks to others at once. What has
    begun meanwhile, or cannot be given as chosen, stays where it is."""

    moves: list[Move]
    reason: str


class Preempt(msgspec.Struct, tag=23, array_like=True):
    """Ends these live (key, attempt), to make room: of preemptible tasks, and of those of which another
    attempt goes on. Without one the task is READY again."""

    attempts: list[tuple[int, int]]
    reason: str


class ReportKind(IntEnum):
    """What an agent tells of an attempt."""

    STARTED = 1
    PROGRESS = 2
    CHECKPOINT = 3
    ENDED = 4


class AttemptReport(msgspec.Struct, array_like=True, gc=False):
    """`data` is the checkpoint or the inline result; `text` the error, or the reference of a large result."""

    key: int
    attempt: int
    kind: ReportKind
    outcome: AttemptOutcome = AttemptOutcome.LIVE
    data: bytes = b""
    text: str = ""
    reference: str = ""
    progress: float = 0.0
    duration_us: int = 0
    retryable: bool = True


class Report(msgspec.Struct, tag=8, array_like=True):
    """What an agent's session reported, in order."""

    agent: str
    epoch: int
    reports: list[AttemptReport]


class OpenSession(msgspec.Struct, tag=9, array_like=True):
    """An agent says hello. `held` are the attempts that it still has, as (key, attempt)."""

    spec: AgentSpec
    held: list[tuple[int, int]]


class ChangeAgent(msgspec.Struct, tag=24, array_like=True):
    """The agent, in its session `epoch`, is no longer as it said: it is as `spec` says. What it holds stays
    with it, also where it offers less than that takes."""

    spec: AgentSpec
    epoch: int


class CloseSession(msgspec.Struct, tag=10, array_like=True):
    """The session's stream has ended. With `goodbye` the agent left for good and holds nothing."""

    agent: str
    epoch: int
    goodbye: bool


class LoseAgents(msgspec.Struct, tag=11, array_like=True):
    """These (agent, epoch) did not come back in time: what they held goes to others."""

    agents: list[tuple[str, int]]
    reason: str


class DrainAgent(msgspec.Struct, tag=12, array_like=True):
    """Nothing new for this agent: by an operator, or because it is `leaving` by itself; or `undo` of that."""

    request_id: str
    agent: str
    undo: bool = False
    leaving: bool = False


class ExpireAttempts(msgspec.Struct, tag=13, array_like=True):
    """These (key, attempt) have run for longer than their timeout."""

    attempts: list[tuple[int, int]]


class WakeTasks(msgspec.Struct, tag=14, array_like=True):
    """The delay before the next attempt of these tasks is over."""

    keys: list[int]


class SweepDag(msgspec.Struct, tag=15, array_like=True):
    """The next step of a cancel or failure that spreads through a large DAG."""

    number: int


class RecordLoads(msgspec.Struct, tag=16, array_like=True):
    """One batch of load reports, by agent."""

    loads: dict[str, AgentLoad]


class PurgeDags(msgspec.Struct, tag=17, array_like=True):
    """The retention of these finished DAGs has ended."""

    dag_ids: list[str]


class DropStaged(msgspec.Struct, tag=18, array_like=True):
    """A streamed submission stopped half-way: remove what was staged."""

    dag_id: str
    reason: str


class ForgetAgents(msgspec.Struct, tag=19, array_like=True):
    """Agents that were lost or stopped long ago, as (agent, epoch): remove them from the list."""

    agents: list[tuple[str, int]]


class WriteId(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The write `number` of the client that calls itself `writer`, which waits for none below `answered` any
    more. Without a writer a write is new whenever it comes."""

    writer: str = ""
    number: int = 0
    answered: int = 0


class KvPut(msgspec.Struct, tag=20, array_like=True, gc=False):
    """Gives a key a value. `expect` is the version that it must have: 0 for none, None for any."""

    write: WriteId
    key: str
    value: bytes
    expect: int | None = None


class KvDelete(msgspec.Struct, tag=21, array_like=True, gc=False):
    """Removes a key; `expect` as in `KvPut`."""

    write: WriteId
    key: str
    expect: int | None = None


class KeepLoads(msgspec.Struct, tag=30, array_like=True):
    """What was measured in step `number` of a grid of time, packed by the leader: the past from which the
    next one forecasts."""

    grid: int
    number: int
    packed: bytes


class SetNamespace(msgspec.Struct, tag=40, array_like=True):
    """Sets what is not None for a namespace, and lifts the quotas that `lifted` names; all else stays as it
    is."""

    request_id: str
    name: str
    weight: float | None = None
    policy: str | None = None
    quotas: Quotas = NO_QUOTAS
    lifted: tuple[str, ...] = ()


class UnsetNamespace(msgspec.Struct, tag=41, array_like=True):
    """The namespace has no settings of its own any more."""

    request_id: str
    name: str


class SetReservation(msgspec.Struct, tag=42, array_like=True):
    """Makes the reservation, or another one of it. What it says of its own versions does not count; `expect`
    is the version that it must have: 0 for none, None for any."""

    request_id: str
    record: ReservationRecord
    expect: int | None = None


class RemoveReservation(msgspec.Struct, tag=43, array_like=True):
    """Slots are kept for it no more; `expect` as in `SetReservation`."""

    request_id: str
    id: str
    expect: int | None = None


Command = (
    SubmitDag
    | StageDag
    | CancelDag
    | CancelTask
    | RescheduleTask
    | SpawnTasks
    | Assign
    | AssignRoots
    | Report
    | OpenSession
    | CloseSession
    | LoseAgents
    | DrainAgent
    | ExpireAttempts
    | WakeTasks
    | SweepDag
    | RecordLoads
    | PurgeDags
    | DropStaged
    | ForgetAgents
    | KvPut
    | KvDelete
    | Recall
    | Preempt
    | ChangeAgent
    | KeepLoads
    | SetNamespace
    | UnsetNamespace
    | SetReservation
    | RemoveReservation
)


class Entry(msgspec.Struct, array_like=True):
    """The payload of one log entry: `at_ms` is the leader's clock when it was made."""

    format: int
    at_ms: int
    commands: list[Command]
