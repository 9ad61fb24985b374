"""Follows all events of a cluster in a thread, across changes of its leader."""

from __future__ import annotations

import threading
from collections import Counter

from agent_sdk import AgentEvent, Client, Event, QuorumflowError, TaskEvent
from agent_sdk.errors import WrongState
from agent_sdk.types import FINAL_STATES


class Recorder:
    """What the cluster has told since `start`. Read it freely from other threads; it only grows."""

    def __init__(self, endpoints: list[str]) -> None:
        self.endings: Counter[tuple[str, str]] = Counter()
        """How often each task, as (DAG id, task id), was told to have ended."""
        self.assigned_ms: list[int] = []
        """When attempts were assigned, by the leaders' clocks, in Unix ms."""
        self.begun_ms: list[tuple[int, int]] = []
        """(When it was assigned, when it was told to have begun) of each attempt that began."""
        self.lost_agents: set[str] = set()
        """Agents that were declared lost at some time."""
        self.problem = ""
        """Why the events could not be followed to the end, if so."""
        self._client = Client(endpoints)
        self._assigned: dict[tuple[str, str, int], int] = {}
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
        """When the first attempt after this moment was assigned, in Unix ms."""
        return min((assigned for assigned in self.assigned_ms if assigned > at_ms), default=None)

    def first_beginning_after(self, at_ms: int) -> int | None:
        """When the first of the attempts assigned after this moment began, in Unix ms."""
        return min((begun for assigned, begun in self.begun_ms if assigned > at_ms), default=None)

    def _follow(self) -> None:
        try:
            for event in self._client.watch(from_revision=self._revision):
                self._take(event)
        except WrongState:
            # `stop` has closed the client.
            return
        except QuorumflowError as error:
            self.problem = error.message

    def _take(self, event: Event) -> None:
        if isinstance(event, AgentEvent):
            if event.state == "LOST":
                self.lost_agents.add(event.agent)
        elif isinstance(event, TaskEvent):
            self._take_task(event)

    def _take_task(self, event: TaskEvent) -> None:
        attempt = (event.dag_id, event.task_id, event.attempt)
        if event.state == "ASSIGNED":
            self.assigned_ms.append(event.at_ms)
            self._assigned[attempt] = event.at_ms
        elif event.state == "RUNNING" and attempt in self._assigned:
            self.begun_ms.append((self._assigned.pop(attempt), event.at_ms))
        elif event.state in FINAL_STATES:
            self.endings[event.dag_id, event.task_id] += 1
