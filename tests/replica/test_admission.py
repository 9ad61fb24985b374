"""Unfinished work is bounded (E8): beyond the bound a submission is refused, with the bound's name and a
time to come back."""

from __future__ import annotations

import pytest

from coordinator.errors import QueueFull
from coordinator.replica.admission import Admission


async def test_tasks_are_bounded_also_between_two_counts(log, make_applier):
    applier = make_applier("a")
    applier.apply([log.chain("one", 6)])
    admission = Admission(lambda: applier.state, max_dags=10, max_tasks=10)
    admission.admit(4)
    with pytest.raises(QueueFull) as caught:
        admission.admit(1)
    assert caught.value.fields["setting"] == "limits.max_unfinished_tasks"
    assert caught.value.retry_after_ms > 0


async def test_dags_are_bounded(log, make_applier):
    applier = make_applier("a")
    admission = Admission(lambda: applier.state, max_dags=1, max_tasks=1_000)
    admission.admit(1)
    applier.apply([log.chain("one")])
    with pytest.raises(QueueFull) as caught:
        admission.admit(1)
    assert caught.value.fields["setting"] == "limits.max_unfinished_dags"
