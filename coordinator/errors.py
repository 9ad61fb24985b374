"""Every error of the coordinator, in one tree.

Each names what happened, the value, the limit that it broke where there is one, and what to do. `reason`
is the stable, machine-readable name that travels to clients; `fields` carry the values; `retry_after_ms`
is above zero where the very same call may succeed later.
"""

from __future__ import annotations

from typing import ClassVar


class CoordinatorError(Exception):
    """The root of the tree. `fields` values are strings, as they travel in the error detail."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, retry_after_ms: int = 0, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.fields = {name: str(value) for name, value in fields.items()}


# --- what a caller asked for cannot be done -----------------------------------------------------------------


class InvalidRequest(CoordinatorError):
    """The request itself is wrong: no state of the cluster would make it right."""

    reason = "INVALID_REQUEST"


class DagCycle(InvalidRequest):
    """The tasks' dependencies form a cycle, named in order."""

    reason = "DAG_CYCLE"


class UnknownDependency(InvalidRequest):
    """A task depends on an id that is not in its DAG."""

    reason = "UNKNOWN_DEPENDENCY"


class DuplicateTaskId(InvalidRequest):
    """Two tasks of one DAG carry the same id."""

    reason = "DUPLICATE_TASK_ID"


class DuplicateProducer(InvalidRequest):
    """Two tasks of one DAG declare the same output."""

    reason = "DUPLICATE_PRODUCER"


class LimitExceeded(InvalidRequest):
    """A named limit was exceeded; `fields` hold `limit`, `setting`, `value`."""

    reason = "LIMIT_EXCEEDED"


class UnreadableWorkflow(InvalidRequest):
    """A workflow file is not of any format that is understood; the message names the place."""

    reason = "UNREADABLE_WORKFLOW"


class UnreadableBackup(InvalidRequest):
    """A backup is damaged, cut short, or of an unknown format; the message names the place."""

    reason = "UNREADABLE_BACKUP"


class NotFound(CoordinatorError):
    """The named DAG, task, agent or node does not exist, or its retention has ended."""

    reason = "NOT_FOUND"


class AlreadyExists(CoordinatorError):
    """The id is taken by something else."""

    reason = "ALREADY_EXISTS"


class WrongState(CoordinatorError):
    """The object exists, and its state does not allow the operation."""

    reason = "WRONG_STATE"


class StaleFence(CoordinatorError):
    """An attempt, session epoch or term that has been superseded."""

    reason = "STALE_FENCE"


class StaleVersion(CoordinatorError):
    """A key or a reservation is not at the expected version; `current` is the one that it is at, 0 if it is
    not there."""

    reason = "STALE_VERSION"


class RevisionCompacted(CoordinatorError):
    """A watch asked for events that are no longer kept: list again, then watch from the list's revision."""

    reason = "REVISION_COMPACTED"


# --- not here, not now --------------------------------------------------------------------------------------


class Unavailable(CoordinatorError):
    """The same call may succeed later, or on another node."""

    reason = "UNAVAILABLE"


class NotLeader(Unavailable):
    """Another node leads: `leader_id` and `leader_address` say which, where they are known."""

    reason = "NOT_LEADER"

    def __init__(self, leader_id: str = "", leader_address: str = "") -> None:
        whom = f"{leader_id} at {leader_address}" if leader_id else "a node that this one does not know yet"
        super().__init__(
            f"this node does not lead; the leader is {whom}",
            retry_after_ms=0 if leader_id else 100,
            leader_id=leader_id,
            leader_address=leader_address,
        )
        self.leader_id = leader_id
        self.leader_address = leader_address


class OutcomeUnknown(Unavailable):
    """Leadership was lost before the command was known to be committed: retry it with the same request id."""

    reason = "OUTCOME_UNKNOWN"


class QueueFull(CoordinatorError):
    """A bounded queue is full; nothing was accepted. Retry after `retry_after_ms`."""

    reason = "QUEUE_FULL"


class QuotaExceeded(CoordinatorError):
    """A namespace has all that it may have; `fields` hold `namespace`, `quota`, `value`, `limit`."""

    reason = "QUOTA_EXCEEDED"


class OutOfSpace(CoordinatorError):
    """The disks of the cluster are nearly full, and nothing new is taken until there is space; `fields` hold
    `limit`, `setting`, `value` in bytes."""

    reason = "OUT_OF_SPACE"


class ModelFailed(CoordinatorError):
    """A model that runs beside the node gave no forecast; the others go on."""

    reason = "MODEL_FAILED"


class Draining(Unavailable):
    """The node or agent is going down and takes nothing new."""

    reason = "DRAINING"


# --- what stops a node --------------------------------------------------------------------------------------


class Fatal(CoordinatorError):
    """The node must stop: going on could break a promise."""

    reason = "FATAL"


class StorageFault(Fatal):
    """A write or sync failed (full disk, I/O error): what is in memory may not be on disk."""

    reason = "STORAGE_FAULT"


class LogCorrupt(Fatal):
    """The log on disk is not what was written: replace the node rather than serve from it."""

    reason = "LOG_CORRUPT"


class StateCorrupt(Fatal):
    """The stored state or a snapshot does not match its checksum."""

    reason = "STATE_CORRUPT"


class UnknownFormat(Fatal):
    """An entry, record or snapshot carries a format version that this program does not know: upgrade it."""

    reason = "UNKNOWN_FORMAT"


class StateDiverged(Fatal):
    """The state here is not that of the other nodes at the same entry; `fields` hold `last_equal` and
    `first_different`, the indexes of the entries after which that was seen."""

    reason = "STATE_DIVERGED"


class ApplyFailed(Fatal):
    """Applying a committed entry raised: a bug, and going on would let this node diverge from the others."""

    reason = "APPLY_FAILED"


class Removed(Fatal):
    """The cluster has removed this node, or bound its id to another data folder: it must not take part."""

    reason = "REMOVED"


# --- what is wrong at start ---------------------------------------------------------------------------------


class ConfigError(CoordinatorError):
    """A setting is missing, malformed or contradicts another; the message names the key and its source."""

    reason = "CONFIG"


class PluginFailed(CoordinatorError):
    """A plug-in cannot be loaded, is not what its entry point says, or failed when it was asked; the message
    names it."""

    reason = "PLUGIN_FAILED"


class StartFailed(CoordinatorError):
    """A port, directory or lock that the process needs cannot be had."""

    reason = "START_FAILED"
