"""The garbage collector does not look at what a node keeps of its work, however much that is: it stops the
event loop for as long as it looks (A1: no stall that costs the lead)."""

from __future__ import annotations

import gc

from coordinator.core.model import TaskProfile, TaskState
from coordinator.core.outcome import TaskEvent
from coordinator.replica.watch import EventHistory
from coordinator.scheduling.tasks.waiting import WaitingTable, WaitingTask
from tests.core.conftest import Driver

MANY = 2_000


def looked_at() -> int:
    """Objects that a full collection looks at."""
    gc.collect()
    return len(gc.get_objects())


def test_events_that_are_kept_are_not_looked_at() -> None:
    history: EventHistory[TaskEvent] = EventHistory(MANY, applied=0)
    before = looked_at()
    for revision in range(1, MANY + 1):
        history.record(revision, 0, [TaskEvent("d", "a", TaskState.READY, 1, "", "")])
    assert looked_at() - before < MANY / 20


def test_waiting_tasks_are_not_looked_at() -> None:
    table, profile = WaitingTable(), TaskProfile("t")
    before = looked_at()
    for key in range(MANY):
        table.add(profile, WaitingTask(0, key))
    assert looked_at() - before < MANY / 20


def test_the_tasks_of_a_state_are_not_looked_at() -> None:
    node = Driver()
    before = looked_at()
    node.submit("d", {f"t{at}": [f"t{at - 1}"] if at % 2 else [] for at in range(MANY)})
    assert looked_at() - before < MANY / 20
