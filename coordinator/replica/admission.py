"""Admission: how much unfinished work the cluster takes on. Beyond it a submission is refused, and nothing
else suffers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from coordinator.core.lifecycle import TERMINAL
from coordinator.core.namespaces import DEFAULT_NAMESPACE
from coordinator.core.refusals import beyond_quota
from coordinator.core.state import State
from coordinator.errors import QueueFull
from coordinator.replica.refused import raise_refusal

_RECOUNT_S: Final = 0.2
_RETRY_MS: Final = 500


def part_id(request_id: str, first: int) -> str:
    """The request of one part of a DAG that is submitted in parts; its first task has index `first`."""
    return f"{request_id}/{first}"


class Admission:
    """Bounds unfinished DAGs and tasks. The count of tasks is taken anew every `_RECOUNT_S` seconds; in
    between, what was admitted is added to it."""

    def __init__(self, state: Callable[[], State], *, max_dags: int, max_tasks: int) -> None:
        self._state = state
        self._max_dags = max_dags
        self._max_tasks = max_tasks
        self._tasks = 0
        self._counted_s = float("-inf")

    def admit(self, request_id: str, tasks: int, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Take note of a DAG of so many tasks that is about to be submitted. A retry of one that is recorded,
        or of which a part is, takes nothing more. Raises QueueFull, and QuotaExceeded, on which the machine
        has the last word: a large DAG should be refused before its first part."""
        state = self._state()
        if request_id in state.requests or part_id(request_id, 0) in state.requests:
            return
        dags = len(state.dags)
        if dags >= self._max_dags:
            raise _full("DAGs", "limits.max_unfinished_dags", dags, self._max_dags)
        self._recount()
        if self._tasks + tasks > self._max_tasks:
            raise _full("tasks", "limits.max_unfinished_tasks", self._tasks, self._max_tasks)
        refusal = beyond_quota(state, namespace, tasks)
        if refusal is not None:
            raise_refusal(refusal)
        self._tasks += tasks

    def _recount(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._counted_s >= _RECOUNT_S:
            self._counted_s = now_s
            self._tasks = sum(
                len(dag.tasks) - sum(dag.counts[state] for state in TERMINAL)
                for dag in self._state().dags.values()
            )


def _full(what: str, setting: str, value: int, limit: int) -> QueueFull:
    return QueueFull(
        f"{value} unfinished {what} of at most {limit} ({setting}); retry when some have ended",
        retry_after_ms=_RETRY_MS,
        setting=setting,
        value=value,
        limit=limit,
    )
