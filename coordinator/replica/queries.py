"""The read side: unfinished DAGs from memory, finished ones from the store.

None of it holds the event loop up for more than a few milliseconds: a client that reads must not cost a
leader its lead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from coordinator.core.answers import ResultRecord
from coordinator.core.model import Dag, DagRecord, DagState, Task
from coordinator.core.state import State
from coordinator.errors import InvalidRequest, NotFound
from coordinator.storage.state_store import StateStore

_UNFINISHED: Final = "u"
_FINISHED: Final = "f"
_MAX_DIGITS: Final = 18
_DAGS_LOOKED_AT: Final = 1_000
_TASKS_LOOKED_AT: Final = 50_000
"""For one page, those included that do not match."""


class Queries:
    """Reads of the applied state. Finished DAGs are read from the store as a whole, one at a time and in many
    steps; the last few are kept."""

    def __init__(
        self, state: Callable[[], State], store: Callable[[], StateStore], *, cached_dags: int = 8
    ) -> None:
        self._state = state
        self._store = store
        self._cached_dags = cached_dags
        self._cache: OrderedDict[int, Dag] = OrderedDict()
        self._reading = asyncio.Lock()

    def dag_record(self, dag_id: str) -> tuple[DagRecord, list[int]]:
        """A DAG's record and its counts of tasks by state. Raises NotFound."""
        state = self._state()
        if (dag := state.dag(dag_id)) is not None:
            return dag.record, dag.counts
        if (ended := state.finished.get(dag_id)) is not None:
            record = self._store().dag_record(ended.number)
            assert record is not None
            return record, list(record.counts)
        raise NotFound(f"DAG {dag_id!r} does not exist, or is no longer kept", dag_id=dag_id)

    async def dag(self, dag_id: str) -> Dag:
        """A DAG with its tasks. Raises NotFound."""
        state = self._state()
        if (dag := state.dag(dag_id)) is not None:
            return dag
        if (ended := state.finished.get(dag_id)) is not None and (
            dag := await self._finished(ended.number)
        ) is not None:
            return dag
        raise NotFound(f"DAG {dag_id!r} does not exist, or is no longer kept", dag_id=dag_id)

    async def task(self, dag_id: str, task_id: str) -> tuple[Dag, Task]:
        """A task and its DAG. Raises NotFound."""
        dag = await self.dag(dag_id)
        task = dag.find(task_id)
        if task is None:
            raise NotFound(f"DAG {dag_id!r} has no task {task_id!r}", dag_id=dag_id, task_id=task_id)
        return dag, task

    def result(self, key: int) -> ResultRecord:
        """What the task left; empty if it left nothing."""
        return self._store().result(key) or ResultRecord()

    def dags(
        self, namespace: str, states: set[DagState], page_token: str, page_size: int
    ) -> tuple[list[tuple[DagRecord, list[int]]], str]:
        """A page of DAGs, the unfinished ones first, newest first, and the token of the next page ("" at
        the end). Where few match a page is not full.

        Raises:
            InvalidRequest: the token is not one of this listing.
        """
        page: list[tuple[DagRecord, list[int]]] = []
        for looked_at, (token, dag_id) in enumerate(self._from(page_token)):
            if len(page) == page_size or looked_at >= max(page_size, _DAGS_LOOKED_AT):
                return page, token
            record, counts = self.dag_record(dag_id)
            if (not namespace or record.header.namespace == namespace) and (
                not states or record.state in states
            ):
                page.append((record, counts))
        return page, ""

    async def tasks(
        self, dag_id: str, states: set[int], page_token: str, page_size: int
    ) -> tuple[Dag, list[Task], str]:
        """A page of a DAG's tasks, and the token of the next ("" at the end). Where few match a page is not
        full. Raises NotFound, InvalidRequest."""
        dag = await self.dag(dag_id)
        start = _number(page_token) if page_token else 0
        end = start + max(page_size, _TASKS_LOOKED_AT)
        matching = (task for task in islice(dag.tasks, start, end) if not states or task.state in states)
        page = list(islice(matching, page_size))
        onward = page[-1].index + 1 if len(page) == page_size else end
        return dag, page, str(onward) if onward < len(dag.tasks) else ""

    def _from(self, page_token: str) -> Iterator[tuple[str, str]]:
        """(token, id) of DAGs from the one that the token names on. DAGs may finish between two pages."""
        state = self._state()
        number = _number(page_token, _UNFINISHED) if page_token.startswith(_UNFINISHED) else None
        sequence = _number(page_token, _FINISHED) if page_token and number is None else None
        if sequence is None:
            for dag in reversed(state.dags.values()):
                if number is None or dag.record.number <= number:
                    yield f"{_UNFINISHED}{dag.record.number}", dag.record.header.dag_id
        for ended in reversed(state.finished.values()):
            if sequence is None or ended.sequence <= sequence:
                yield f"{_FINISHED}{ended.sequence}", ended.dag_id

    async def _finished(self, number: int) -> Dag | None:
        if number not in self._cache:
            async with self._reading:
                if number not in self._cache:
                    await self._read(number)
        if (dag := self._cache.get(number)) is not None:
            self._cache.move_to_end(number)
        return dag

    async def _read(self, number: int) -> None:
        dag = None
        with contextlib.closing(self._store().dag_in_steps(number)) as steps:
            for step in steps:
                dag = step
                await asyncio.sleep(0)
        if dag is not None:
            self._cache[number] = dag
            while len(self._cache) > self._cached_dags:
                self._cache.popitem(last=False)


def _number(page_token: str, prefix: str = "") -> int:
    digits = page_token.removeprefix(prefix)
    well_formed = page_token.startswith(prefix) and digits.isascii() and digits.isdigit()
    if not well_formed or len(digits) > _MAX_DIGITS:
        shown = page_token[:40]
        raise InvalidRequest(f"{shown!r} is not a page token of this listing", page_token=shown)
    return int(digits)
