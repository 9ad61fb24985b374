"""What memory keeps of DAGs that have ended."""

from __future__ import annotations

import msgspec

from coordinator.core.model import DagState


class FinishedDag(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a finished DAG is found; `sequence` orders them by their end."""

    dag_id: str
    number: int
    sequence: int
    state: DagState
    finished_ms: int
