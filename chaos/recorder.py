"""Follows all events of a cluster in a thread, across changes of its leader."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from agent_sdk import AgentEvent, Client, Event, QuorumflowError, TaskEvent
from agent_sdk.errors import RevisionCompacted, WrongState
from agent_sdk.types import FINAL_STATES


class Sequel(NamedTuple):
    """When an attempt was assigned, by the leader's stamp, and when an event about it arrived here: a leader
    stamps what it can no longer commit, too. Both in Unix ms."""

    assigned_ms: int
    told_ms: int


class Recorder:
    """What the cluster has told since `start`. Read it freely from other threads; it only grows. Nodes keep
    events in memory: where all of them die at once, `may_miss` lets it go on with what comes after."""

    def __init__(self, endpoints: Sequence[str], *, may_miss: bool = False) -> None:
        self.endings: Counter[tuple[str, str]] = Counter()
        """How often each task, as (DAG id, task id), was told to have ended."""
        self.assignments: list[Sequel] = []
        """Attempts that were assigned."""
        self.beginnings: list[Sequel] = []
        """Attempts that were told to have begun."""
        self.lost_agents: set[str] = set()
        """Agents that were declared lost at some time."""
        self.problem = ""
        """Why the events could not be followed to the end, if so."""
        self.gaps = 0
        """How often events were missed, where they may be."""
        self._may_miss = may_miss
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
        """When the first attempt that was assigned after this moment was told, in Unix ms."""
        return first_told(self.assignments, at_ms)

    def first_beginning_after(self, at_ms: int) -> int | None:
        """When the first beginning of an attempt assigned after this moment was told, in Unix ms."""
        return first_told(self.beginnings, at_ms)

    def _follow(self) -> None:
        from_revision = self._revision
        while True:
            try:
                for event in self._client.watch(from_revision=from_revision):
                    self._take(event)
            except WrongState:
                # `stop` has closed the client.
                return
            except QuorumflowError as error:
                if not (self._may_miss and isinstance(error, RevisionCompacted)):
                    self.problem = error.message
                    return
                self.gaps += 1
                from_revision = 0

    def _take(self, event: Event) -> None:
        if isinstance(event, AgentEvent):
            if event.state == "LOST":
                self.lost_agents.add(event.agent)
        elif isinstance(event, TaskEvent):
            self._take_task(event)

    def _take_task(self, event: TaskEvent) -> None:
        attempt = (event.dag_id, event.task_id, event.attempt)
        now_ms = time.time_ns() // 1_000_000
        if event.state == "ASSIGNED":
            self.assignments.append(Sequel(event.at_ms, now_ms))
            self._assigned[attempt] = event.at_ms
        elif event.state == "RUNNING" and attempt in self._assigned:
            self.beginnings.append(Sequel(self._assigned.pop(attempt), now_ms))
        elif event.state in FINAL_STATES:
            self.endings[event.dag_id, event.task_id] += 1


def first_told(sequels: Sequence[Sequel], at_ms: int) -> int | None:
    """When the first that was both assigned and told after a moment was told; they are in the order in which
    they were told. A clock that is ahead may stamp the assignments of before as later ones."""
    since = bisect_right(sequels, at_ms, key=lambda one: one.told_ms)
    later = (sequels[at] for at in range(since, len(sequels)))
    return next((one.told_ms for one in later if one.assigned_ms > at_ms), None)
