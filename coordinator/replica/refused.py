"""From a refusal of the state machine to the error of the tree that has its reason."""

from __future__ import annotations

from typing import Final, NoReturn

from coordinator import errors
from coordinator.core.outcome import Refusal

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
    )
}


def raise_refusal(refusal: Refusal) -> NoReturn:
    """Raise it. A reason outside of the table is a mistake of the machine's author, and raises KeyError."""
    error = _BY_REASON[refusal.reason](refusal.message)
    error.fields.update(refusal.fields)
    raise error
