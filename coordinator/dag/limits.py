"""How large a DAG may be. Every bound is a setting; its name stands in the error of whoever meets it."""

from __future__ import annotations

from typing import Final

import msgspec

from coordinator.core import limits as core_limits
from coordinator.errors import LimitExceeded

SETTING_PREFIX: Final = "limits."
"""The setting of the bound `max_dag_tasks` is `limits.max_dag_tasks`, and so on."""


class DagLimits(msgspec.Struct, frozen=True):
    """Names with `dag` bound a whole DAG, all others one task of it; edges are counted without duplicates.

    `max_data_items` bounds inputs and outputs together; `max_labels` and `max_label_bytes` bound labels
    and metadata each, on a task as on a DAG; `max_requirements` bounds capabilities, labels, permissions
    and anti-affinity together. Durations in ms, lengths of ids, types and names in characters.
    `default_timeout_ms` is no bound: it holds for a task that names none.
    """

    max_dag_tasks: int = 200_000
    max_dag_edges: int = 2_000_000
    max_dag_payload_bytes: int = 256 << 20
    max_payload_bytes: int = 256 << 10
    max_id_length: int = 256
    max_dependencies: int = 100_000
    max_data_items: int = 10_000
    max_labels: int = 64
    max_label_bytes: int = 8 << 10
    max_requirements: int = 128
    max_attempts: int = 100
    max_delay_ms: int = core_limits.MAX_DELAY_MS
    max_timeout_ms: int = 7 * 86_400_000
    default_timeout_ms: int = 300_000

    def check(self, bound: str, value: int, what: str, task_id: str = "") -> None:
        """Refuse a `value` above the bound of this name; `what` it measures, and of which task, goes into the
        message.

        Raises:
            LimitExceeded: with `limit`, `setting` and `value` in its fields, and `task_id` where there is
            one.
        """
        limit: int = getattr(self, bound)
        if value <= limit:
            return
        setting = SETTING_PREFIX + bound
        subject = f"task {task_id!r}: {what}" if task_id else what
        raise LimitExceeded(
            f"{subject} is {value:,}, above the limit of {limit:,} ({setting})",
            limit=limit,
            setting=setting,
            value=value,
            task_id=task_id,
        )
