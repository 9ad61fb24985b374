"""Exit codes that scripts can trust: one table for the errors of the coordinator and those of the SDK."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from agent_sdk import errors as sdk
from coordinator import errors

Failure = errors.CoordinatorError | sdk.QuorumflowError
"""What a command may end with. Both trees have `reason`, `message`, `fields` and `retry_after_ms`."""


class Exit(IntEnum):
    """What a program's exit code means. `docs/cli.md` lists them for users."""

    OK = 0
    FAILED = 1
    """What was asked for ended badly: the DAG FAILED or was CANCELLED, a node was stopped by a fault."""
    INVALID = 2
    """The command line, a file or the configuration is wrong."""
    NOT_FOUND = 3
    UNAVAILABLE = 4
    """The cluster did not answer in time, or a process could not start: it may succeed later."""
    REFUSED = 5
    """By the state of the object, or by a limit."""
    INTERNAL = 6
    """An error that should not occur: please report it."""
    INTERRUPTED = 130


_EXITS: Final[dict[type[Exception], Exit]] = {
    errors.InvalidRequest: Exit.INVALID,
    errors.ConfigError: Exit.INVALID,
    errors.PluginFailed: Exit.INVALID,
    errors.LimitExceeded: Exit.REFUSED,
    errors.NotFound: Exit.NOT_FOUND,
    errors.AlreadyExists: Exit.REFUSED,
    errors.WrongState: Exit.REFUSED,
    errors.OutOfSpace: Exit.REFUSED,
    errors.QuotaExceeded: Exit.REFUSED,
    errors.StaleVersion: Exit.REFUSED,
    errors.Unavailable: Exit.UNAVAILABLE,
    errors.StartFailed: Exit.UNAVAILABLE,
    errors.Removed: Exit.REFUSED,
    errors.Fatal: Exit.FAILED,
    errors.CoordinatorError: Exit.INTERNAL,
    sdk.InvalidRequest: Exit.INVALID,
    sdk.LimitExceeded: Exit.REFUSED,
    sdk.NotFound: Exit.NOT_FOUND,
    sdk.AlreadyExists: Exit.REFUSED,
    sdk.WrongState: Exit.REFUSED,
    sdk.StaleFence: Exit.REFUSED,
    sdk.StaleVersion: Exit.REFUSED,
    sdk.QueueFull: Exit.REFUSED,
    sdk.OutOfSpace: Exit.REFUSED,
    sdk.QuotaExceeded: Exit.REFUSED,
    sdk.RevisionCompacted: Exit.REFUSED,
    sdk.AccessDenied: Exit.REFUSED,
    sdk.Unsupported: Exit.REFUSED,
    sdk.Unavailable: Exit.UNAVAILABLE,
    sdk.DeadlineExceeded: Exit.UNAVAILABLE,
    sdk.QuorumflowError: Exit.INTERNAL,
}


def exit_of(error: Failure) -> Exit:
    """The code of the nearest class above the error's own."""
    return next(_EXITS[kind] for kind in type(error).__mro__ if kind in _EXITS)
