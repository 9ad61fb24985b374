"""Drafts for the tests of DAG building."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from coordinator.core.model import DagHeader, DataItem
from coordinator.dag.draft import DagDraft, TaskDraft

DraftOf = Callable[..., DagDraft]


@pytest.fixture(scope="session")
def draft_of() -> DraftOf:
    """`draft_of({"b": ["a"], "a": []})`: a DAG of tasks by id with their dependencies; `data` gives (inputs,
    outputs) by id."""

    def make(
        depends: Mapping[str, Sequence[str]],
        data: Mapping[str, tuple[Sequence[str], Sequence[str]]] | None = None,
        expected_ms: Mapping[str, int] | None = None,
    ) -> DagDraft:
        tasks = []
        for task_id, before in depends.items():
            inputs, outputs = (data or {}).get(task_id, ((), ()))
            tasks.append(
                TaskDraft(
                    id=task_id,
                    type="noop",
                    depends_on=tuple(before),
                    inputs=tuple(map(DataItem, inputs)),
                    outputs=tuple(map(DataItem, outputs)),
                    expected_ms=(expected_ms or {}).get(task_id, 0),
                )
            )
        return DagDraft(DagHeader("d"), tasks)

    return make
