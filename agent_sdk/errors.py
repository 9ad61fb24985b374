"""Every error of the SDK, in one tree.

`reason` is the stable, machine-readable name that the coordinator gives (NOT_FOUND, QUEUE_FULL, DAG_CYCLE,
...), `fields` carry the values it names, `retry_after_ms` is above zero where the very same call may succeed
later. Clients follow the leader and repeat what may be repeated by themselves: an error that reaches the
caller is one that they could not cure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from quorumflow_proto.v1 import common_pb2

DETAIL_KEY = "coordinator-error-bin"
"""The trailing metadata that carries an `ErrorDetail`."""


class QuorumflowError(Exception):
    """The root of the tree; itself raised for what the coordinator could not explain."""

    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        fields: Mapping[str, str] | None = None,
        retry_after_ms: int = 0,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.fields = dict(fields or {})
        self.retry_after_ms = retry_after_ms


# --- what the caller asked for cannot be done ---------------------------------------------------------------


class InvalidRequest(QuorumflowError):
    """The request itself is wrong: no state of the cluster would make it right."""

    default_reason = "INVALID_REQUEST"


class DagCycle(InvalidRequest):
    """The tasks' dependencies form a cycle, named in order."""

    default_reason = "DAG_CYCLE"


class UnknownDependency(InvalidRequest):
    """A task depends on an id that is not in its DAG."""

    default_reason = "UNKNOWN_DEPENDENCY"


class DuplicateTaskId(InvalidRequest):
    """Two tasks of one DAG carry the same id."""

    default_reason = "DUPLICATE_TASK_ID"


class DuplicateProducer(InvalidRequest):
    """Two tasks of one DAG declare the same output."""

    default_reason = "DUPLICATE_PRODUCER"


class LimitExceeded(InvalidRequest):
    """A named limit was exceeded; `fields` hold `limit`, `setting`, `value` where they are known."""

    default_reason = "LIMIT_EXCEEDED"


class ResultTooLarge(LimitExceeded):
    """A result or checkpoint does not fit into the replicated state: store it elsewhere and return a
    `Reference`."""

    default_reason = "RESULT_TOO_LARGE"


class NotFound(QuorumflowError):
    """The named DAG, task, agent or node does not exist, or its retention has ended."""

    default_reason = "NOT_FOUND"


class AlreadyExists(QuorumflowError):
    """The id is taken by something else."""

    default_reason = "ALREADY_EXISTS"


class WrongState(QuorumflowError):
    """The object exists, and its state does not allow the operation."""

    default_reason = "WRONG_STATE"


class StaleFence(QuorumflowError):
    """An attempt or a session that has been superseded."""

    default_reason = "STALE_FENCE"


class StaleVersion(QuorumflowError):
    """A key or a reservation is not at the expected version; `current` is the one that it is at, 0 if it is
    not there."""

    default_reason = "STALE_VERSION"

    @property
    def current(self) -> int:
        """The present version."""
        return int(self.fields.get("current", "0"))


class RevisionCompacted(QuorumflowError):
    """A watch asked for events that are no longer kept: read the state, then watch from its revision."""

    default_reason = "REVISION_COMPACTED"


class AccessDenied(QuorumflowError):
    """The caller is not known, or is not allowed to do this."""

    default_reason = "ACCESS_DENIED"


class Unsupported(QuorumflowError):
    """The coordinator does not offer this call: it is older or newer than this SDK."""

    default_reason = "UNSUPPORTED"


# --- not here, not now --------------------------------------------------------------------------------------


class Unavailable(QuorumflowError):
    """The same call may succeed later, or on another node."""

    default_reason = "UNAVAILABLE"


class NotLeader(Unavailable):
    """Another node leads: `leader_id` and `leader_address` say which, and are empty where that is not
    known."""

    default_reason = "NOT_LEADER"
    leader_id: str = ""
    leader_address: str = ""


class OutcomeUnknown(Unavailable):
    """Leadership was lost before the command was known to be committed: repeat it with the same request
    id."""

    default_reason = "OUTCOME_UNKNOWN"


class Draining(Unavailable):
    """The node or agent is going down and takes nothing new."""

    default_reason = "DRAINING"


class QueueFull(QuorumflowError):
    """A bounded queue of the coordinator is full; nothing was accepted. Try again after `retry_after_ms`."""

    default_reason = "QUEUE_FULL"


class QuotaExceeded(QuorumflowError):
    """A namespace has all that it may have; `fields` hold `namespace`, `quota`, `value`, `limit`."""

    default_reason = "QUOTA_EXCEEDED"


class OutOfSpace(QuorumflowError):
    """The disks of the cluster are nearly full: it finishes what it has, and takes nothing new until there is
    space. `fields` hold `limit`, `setting`, `value` in bytes."""

    default_reason = "OUT_OF_SPACE"


class PluginFailed(QuorumflowError):
    """The family of a task is that of a plug-in, which failed to check it on the coordinator."""

    default_reason = "PLUGIN_FAILED"


class DeadlineExceeded(QuorumflowError):
    """The time that the caller gave is over. A write may or may not have been carried out: the same request
    id tells."""

    default_reason = "DEADLINE_EXCEEDED"


# --- about tasks --------------------------------------------------------------------------------------------


class TaskFailed(QuorumflowError):
    """The task whose result was asked for did not complete."""

    default_reason = "TASK_FAILED"


class TaskCancelled(QuorumflowError):
    """Raised inside a handler: its attempt has been stopped. Let it pass."""

    default_reason = "TASK_CANCELLED"


class PermanentError(QuorumflowError):
    """To be raised by a handler: the task failed, and another attempt would not help."""

    default_reason = "PERMANENT"


# --- from the wire ------------------------------------------------------------------------------------------

_BY_CODE: dict[grpc.StatusCode, type[QuorumflowError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: WrongState,
    grpc.StatusCode.ABORTED: Unavailable,
    grpc.StatusCode.OUT_OF_RANGE: RevisionCompacted,
    # Without a detail it is gRPC itself that refuses: a message is larger than one side takes.
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    # Without a detail it is gRPC's own: grpc.aio hides a refusal behind it that crosses a streamed message.
    grpc.StatusCode.INTERNAL: Unavailable,
    # A server that is stopped cancels the calls that it holds.
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
}

_BY_NUMBER = {code.value[0]: kind for code, kind in _BY_CODE.items()}


def _tree(root: type[QuorumflowError]) -> Iterator[type[QuorumflowError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


_BY_REASON = {kind.default_reason: kind for kind in _tree(QuorumflowError)}


def from_rpc_error(error: grpc.aio.AioRpcError) -> QuorumflowError:
    """The error of the tree that a failed call stands for: by its detail, else by its code."""
    fallback = _BY_CODE.get(error.code(), QuorumflowError)
    for key, value in error.trailing_metadata() or ():
        if key == DETAIL_KEY and isinstance(value, bytes):
            try:
                return from_detail(common_pb2.ErrorDetail.FromString(value), fallback)
            except DecodeError:
                break
    message = error.details() or f"the call failed with {error.code().name}"
    return fallback(message, reason="" if fallback is not QuorumflowError else error.code().name)


def from_call_error(error: common_pb2.CallError) -> QuorumflowError:
    """As `from_rpc_error`, for one request of a stream."""
    return from_detail(error.detail, _BY_NUMBER.get(error.code, QuorumflowError))


def from_detail(
    detail: common_pb2.ErrorDetail, fallback: type[QuorumflowError] = QuorumflowError
) -> QuorumflowError:
    """The error that a detail names; `fallback` where this SDK does not know its reason."""
    kind = _BY_REASON.get(detail.reason, fallback)
    error = kind(
        detail.message, reason=detail.reason, fields=detail.fields, retry_after_ms=detail.retry_after_ms
    )
    if isinstance(error, NotLeader):
        error.leader_id = detail.leader_id
        error.leader_address = detail.leader_address
    return error
