"""Unfinished work is bounded (E8): beyond the bound a submission is refused, with the bound's name and a
time to come back."""

from __future__ import annotations

import pytest

from coordinator.core.namespaces import NamespaceRecord, Quotas
from coordinator.errors import QueueFull, QuotaExceeded
from coordinator.replica.admission import Admission


async def test_tasks_are_bounded_also_between_two_counts(log, make_applier):
    applier = make_applier("a")
    applier.apply([log.chain("one", 6)])
    admission = Admission(lambda: applier.state, max_dags=10, max_tasks=10)
    admission.admit("new", 4)
    with pytest.raises(QueueFull) as caught:
        admission.admit("new", 1)
    assert caught.value.fields["setting"] == "limits.max_unfinished_tasks"
    assert caught.value.retry_after_ms > 0


async def test_dags_are_bounded(log, make_applier):
    applier = make_applier("a")
    admission = Admission(lambda: applier.state, max_dags=1, max_tasks=1_000)
    admission.admit("new", 1)
    applier.apply([log.chain("one")])
    with pytest.raises(QueueFull) as caught:
        admission.admit("new", 1)
    assert caught.value.fields["setting"] == "limits.max_unfinished_dags"


@pytest.mark.parametrize("recorded", ["request-one", "request-one/0"])
async def test_a_retry_of_what_is_recorded_takes_nothing_more(recorded, log, make_applier):
    """A first try that took the last place, and whose answer was lost, must not be told that it is full: its
    client would believe that nothing was accepted, and submit the work anew."""
    applier = make_applier("a")
    admission = Admission(lambda: applier.state, max_dags=1, max_tasks=3)
    applier.apply([log.chain("one")])
    applier.state.requests[recorded] = applier.state.requests["request-one"]
    for _ in range(2):
        admission.admit(recorded.removesuffix("/0"), 3)
    with pytest.raises(QueueFull):
        admission.admit("request-two", 1)


async def test_a_dag_beyond_its_quota_is_refused_before_its_first_part(log, make_applier):
    applier = make_applier("a")
    applier.state.namespaces.settings["shop"] = NamespaceRecord("shop", quotas=Quotas(tasks=5))
    admission = Admission(lambda: applier.state, max_dags=10, max_tasks=100)
    admission.admit("new", 5, "shop")
    with pytest.raises(QuotaExceeded) as caught:
        admission.admit("new", 6, "shop")
    assert caught.value.fields == {"namespace": "shop", "quota": "tasks", "value": "0", "limit": "5"}
    admission.admit("new", 6)
