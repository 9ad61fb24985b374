"""The tables of a task's life and the delay before another attempt (B4, B5)."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from coordinator.core.lifecycle import HELD, TERMINAL, TRANSITIONS, retry_delay_ms
from coordinator.core.limits import MAX_DELAY_MS
from coordinator.core.model import Backoff, RetryPolicy, TaskState
from coordinator.core.outcome import TaskEvent
from coordinator.core.transaction import Transaction

if TYPE_CHECKING:
    from tests.core.conftest import Driver

_ALLOWED = {
    "PENDING": {"READY", "CANCELLED"},
    "READY": {"ASSIGNED", "CANCELLED"},
    "ASSIGNED": {"ASSIGNED", "RUNNING", "READY", "PENDING", "FAILED", "CANCELLED"},
    "RUNNING": {"ASSIGNED", "COMPLETED", "READY", "PENDING", "FAILED", "CANCELLED"},
}


@pytest.mark.parametrize(("before", "after"), list(product(TaskState, TaskState)))
def test_a_task_moves_along_the_table_alone(before: TaskState, after: TaskState, node: Driver) -> None:
    """B5: all 49 pairs."""
    node.submit("d", {"a": []})
    dag = node.state.dags[1]
    task = dag.tasks[0]
    dag.counts[task.state] -= 1
    dag.counts[before] += 1
    task.state = before
    tx = Transaction(node.state, 99, node.now_ms)
    if after.name in _ALLOWED.get(before.name, ()):
        tx.move(task, after, "why")
        assert task.state is after
        assert sum(dag.counts) == dag.counts[after] == 1
        assert tx.events == [TaskEvent("d", "a", after, 0, "", "why")]
    else:
        with pytest.raises(AssertionError):
            tx.move(task, after)


def test_terminal_and_held_states_agree_with_the_table() -> None:
    """B5: what is terminal goes nowhere; only what an agent held can complete."""
    assert {state for state, following in TRANSITIONS.items() if not following} == TERMINAL
    assert {state for state in TaskState if TaskState.FAILED in TRANSITIONS[state]} == HELD


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Backoff.FIXED, [100, 100, 100, 100, 100]),
        (Backoff.LINEAR, [100, 200, 300, 400, 450]),
        (Backoff.EXPONENTIAL, [100, 200, 400, 450, 450]),
    ],
)
def test_delays_grow_as_the_policy_says_and_are_capped(backoff: Backoff, delays: list[int]) -> None:
    """B4."""
    policy = RetryPolicy(9, backoff, delay_ms=100, max_delay_ms=450)
    assert [retry_delay_ms(policy, failures) for failures in range(1, 6)] == delays


@pytest.mark.parametrize("backoff", Backoff)
@pytest.mark.parametrize("failures", [1, 2, 63, 10**6, 2**63])
@pytest.mark.parametrize("delay_ms", [-(2**63), -1, 0, 1, 10**9, 2**64 - 1])
@pytest.mark.parametrize("max_delay_ms", [-1, 0, 1, 2**64 - 1])
def test_no_policy_makes_a_delay_out_of_bounds(
    backoff: Backoff, failures: int, delay_ms: int, max_delay_ms: int
) -> None:
    """B4: whatever is in the entry."""
    policy = RetryPolicy(9, backoff, delay_ms, max_delay_ms)
    assert 0 <= retry_delay_ms(policy, failures) <= MAX_DELAY_MS
