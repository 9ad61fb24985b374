"""From a reply of the state machine to what was asked of it: a refusal becomes the error of the tree that
has its reason."""

from __future__ import annotations

from typing import Final, NoReturn, TypeVar

from coordinator import errors
from coordinator.core.outcome import Refusal, Reply

_BY_REASON: Final[dict[str, type[errors.CoordinatorError]]] = {
    kind.reason: kind
    for kind in (
        errors.InvalidRequest,
        errors.UnknownDependency,
        errors.DuplicateTaskId,
        errors.LimitExceeded,
        errors.NotFound,
        errors.AlreadyExists,
        errors.WrongState,
        errors.StaleFence,
        errors.StaleVersion,
        errors.QueueFull,
        errors.QuotaExceeded,
    )
}

_Reply = TypeVar("_Reply", bound=Reply)


def accepted(reply: Reply, expected: type[_Reply]) -> _Reply:
    """The reply that was hoped for. Raises the error that a refusal names, AlreadyExists if the reply is to
    another kind of request."""
    if isinstance(reply, expected):
        return reply
    if isinstance(reply, Refusal):
        raise_refusal(reply)
    raise errors.AlreadyExists(
        "this request id was used before, for another kind of request; choose a new one"
    )


def raise_refusal(refusal: Refusal) -> NoReturn:
    """Raise it. A reason outside of the table is a mistake of the machine's author, and raises KeyError."""
    error = _BY_REASON[refusal.reason](refusal.message)
    error.fields.update(refusal.fields)
    raise error
