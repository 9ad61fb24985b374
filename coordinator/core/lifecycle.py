"""The tables of the life of a task, and the delay before another attempt."""

from __future__ import annotations

from typing import Final

from coordinator.core.limits import MAX_DELAY_MS
from coordinator.core.model import Backoff, RetryPolicy, TaskState

TERMINAL: Final = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})
HELD: Final = frozenset({TaskState.ASSIGNED, TaskState.RUNNING})

TRANSITIONS: Final[dict[TaskState, frozenset[TaskState]]] = {
    TaskState.PENDING: frozenset({TaskState.READY, TaskState.CANCELLED}),
    TaskState.READY: frozenset({TaskState.ASSIGNED, TaskState.CANCELLED}),
    TaskState.ASSIGNED: frozenset(
        {
            TaskState.ASSIGNED,
            TaskState.RUNNING,
            TaskState.READY,
            TaskState.PENDING,
            TaskState.FAILED,
            TaskState.CANCELLED,
        }
    ),
    TaskState.RUNNING: frozenset(
        {
            TaskState.ASSIGNED,
            TaskState.COMPLETED,
            TaskState.FAILED,
            TaskState.CANCELLED,
            TaskState.READY,
            TaskState.PENDING,
        }
    ),
    TaskState.COMPLETED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELLED: frozenset(),
}
"""Whence a task may go. ASSIGNED goes back to READY or PENDING when its attempt comes to nothing, and to
ASSIGNED when it is recalled for another agent. RUNNING goes back to ASSIGNED when the attempt that runs comes
to nothing beside one that has not begun: a held task is RUNNING if one of its live attempts is. A terminal
state is final."""


def retry_delay_ms(policy: RetryPolicy, failures: int) -> int:
    """The delay in ms before the attempt that follows failure number `failures` (1 is the first); never below
    0 nor above `MAX_DELAY_MS`."""
    if policy.backoff is Backoff.LINEAR:
        delay = policy.delay_ms * failures
    elif policy.backoff is Backoff.EXPONENTIAL:
        # The exponent is bounded, so that a large count of failures makes no huge integer.
        delay = policy.delay_ms << min(failures - 1, 32)
    else:
        delay = policy.delay_ms
    return max(0, min(delay, policy.max_delay_ms or MAX_DELAY_MS, MAX_DELAY_MS))
