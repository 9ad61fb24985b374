"""Follows all events of a cluster in a thread, across changes of its leader."""

from __future__ import annotations

import threading
from collections import Counter

from agent_sdk import Client, QuorumflowError, TaskEvent

_TERMINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


class Recorder:
    """What the cluster has told since `start`. Read it freely; it only grows."""

    def __init__(self, endpoints: list[str]) -> None:
        self.endings: Counter[tuple[str, str]] = Counter()
        """How often each task, as (DAG id, task id), was told to have ended."""
        self.assigned_ms: list[int] = []
        """When tasks were assigned, by the leaders' clock, in Unix ms."""
        self.problem = ""
        self._client = Client(endpoints)
        self._thread = threading.Thread(target=self._follow, name="recorder", daemon=True)
        self._revision = self._client.cluster_status().commit_index + 1

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Let go of the stream."""
        self._client.close()
        self._thread.join(timeout=5)

    def first_assignment_after(self, at_ms: int) -> int | None:
        """When the first task after this moment was assigned, in Unix ms."""
        return min((moment for moment in self.assigned_ms if moment > at_ms), default=None)

    def _follow(self) -> None:
        try:
            for event in self._client.watch(from_revision=self._revision):
                if isinstance(event, TaskEvent):
                    self._take(event)
        except QuorumflowError as error:
            self.problem = error.message

    def _take(self, event: TaskEvent) -> None:
        if event.state == "ASSIGNED":
            self.assigned_ms.append(event.at_ms)
        elif event.state in _TERMINAL:
            self.endings[event.dag_id, event.task_id] += 1
