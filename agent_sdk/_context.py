"""What a handler is given."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from agent_sdk._dag import Task
from agent_sdk._ledger import Attempt
from agent_sdk._reporter import Reporter
from agent_sdk.errors import TaskCancelled


class TaskContext:
    """One attempt, as its handler sees it. All but the coroutines may be called from any thread."""

    __slots__ = ("_attempt", "_reporter", "_started_s")

    def __init__(self, attempt: Attempt, reporter: Reporter) -> None:
        self._attempt = attempt
        self._reporter = reporter
        self._started_s = time.time()

    @property
    def dag_id(self) -> str:
        """Of the DAG."""
        return self._attempt.assignment.dag_id

    @property
    def task_id(self) -> str:
        """Of the task in its DAG."""
        return self._attempt.assignment.task_id

    @property
    def type(self) -> str:
        """The task's type."""
        return self._attempt.assignment.type

    @property
    def attempt(self) -> int:
        """The number of this attempt; the first is 1."""
        return self._attempt.key[1]

    @property
    def payload(self) -> bytes:
        """As it was submitted."""
        return self._attempt.assignment.payload

    def json(self) -> Any:
        """The payload as JSON. Raises json.JSONDecodeError if it is none."""
        return json.loads(self.payload)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The task's metadata."""
        return self._attempt.assignment.metadata

    @property
    def checkpoint(self) -> bytes | None:
        """The last one that an earlier attempt saved, if any: resume from it."""
        return self._attempt.assignment.checkpoint or None

    @property
    def expected_s(self) -> float:
        """What the coordinator expects this attempt to take, in seconds; 0 if it does not know."""
        return self._attempt.assignment.expected_ms / 1000

    @property
    def deadline(self) -> float | None:
        """Unix time in seconds at which this attempt will have run out of time; None if it has no limit."""
        timeout_ms = self._attempt.assignment.timeout_ms
        return self._started_s + timeout_ms / 1000 if timeout_ms else None

    def progress(self, fraction: float, note: str = "") -> None:
        """Tell how far it is, from 0 to 1. Cheap: calls in quick succession are told as one. Raises
        InvalidRequest."""
        self._reporter.progress(self._attempt, fraction, note)

    def save_checkpoint(self, state: bytes) -> None:
        """Keep `state` for the next attempt, should this one not complete. Raises ResultTooLarge."""
        self._reporter.checkpoint(self._attempt, state)

    @property
    def cancelled(self) -> bool:
        """Whether the attempt should end early: it was cancelled, ran out of time, or belongs to another
        agent by now."""
        return self._attempt.stopped.is_set()

    def raise_if_cancelled(self) -> None:
        """Raises TaskCancelled if the attempt should end early."""
        if self.cancelled:
            raise TaskCancelled(self._attempt.stop_reason)

    async def wait_cancelled(self) -> None:
        """Return when the attempt should end early."""
        await self._attempt.stopped.wait()

    def spawn(self, tasks: Sequence[Task]) -> None:
        """Add tasks to this task's own DAG; returns when they are recorded. For handlers that are plain
        functions. Raises InvalidRequest and its kind when they are refused, TaskCancelled when this attempt
        is stopped meanwhile."""
        self._reporter.spawn_from_thread(self._attempt, tasks)

    async def spawn_async(self, tasks: Sequence[Task]) -> None:
        """`spawn` for handlers that are coroutines."""
        await self._reporter.spawn(self._attempt, tasks)
