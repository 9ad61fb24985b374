"""Request ids make a retry safe: the same id has the same reply and one effect, within bounds (B4, B6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordinator.core import commands as c
from coordinator.core import machine
from coordinator.core.limits import MAX_TIME_MS, REQUEST_TTL_MS
from coordinator.core.outcome import Refusal, Submitted, Table

if TYPE_CHECKING:
    from tests.core.conftest import Driver


def test_a_retry_has_the_reply_of_the_first_and_no_effect(node: Driver) -> None:
    """B4: in a later entry, in the same one, and after the DAG has ended and is purged."""
    node.join("w")
    request = node.submission("d", {"a": []}, request_id="r1")
    first, second = node.apply(request, request).replies
    assert isinstance(first, Submitted)
    assert first == second
    assert node.do(request) == first
    node.complete("w", "d", "a")
    node.do(c.PurgeDags(["d"]))
    outcome = node.apply(request)
    assert outcome.replies == [first]
    assert outcome.events == []
    assert node.state.dags == {}


def test_a_refusal_is_remembered_as_well(node: Driver) -> None:
    """B4: the retry must not succeed where its caller may already have heard of the refusal."""
    request = c.CancelDag("r1", "d")
    refusal = node.do(request)
    assert isinstance(refusal, Refusal)
    node.submit("d", {"a": []})
    assert node.do(request) == refusal
    assert node.dag_state("d") == "RUNNING"


def test_requests_without_an_id_are_all_new(node: Driver) -> None:
    """B4."""
    node.submit("d", {"a": []})
    assert node.refused(node.submission("d", {"a": []})) == "ALREADY_EXISTS"
    assert node.state.requests == {}


def test_a_reply_is_forgotten_after_its_time(node: Driver) -> None:
    """B4: by the leaders' clock, in memory and on disk."""
    node.do(node.submission("d", {"a": []}, request_id="r1"))
    node.now_ms += REQUEST_TTL_MS - 1
    node.do(node.submission("e", {"a": []}, request_id="r2"))
    assert list(node.state.requests) == ["r1", "r2"]
    node.now_ms += 1
    assert node.refused(node.submission("d", {"a": []}, request_id="r1")) == "ALREADY_EXISTS"
    assert list(node.state.requests) == ["r2", "r1"]
    node.now_ms += REQUEST_TTL_MS
    node.apply()
    assert node.state.requests == {}
    assert node.store.keys(Table.REQUEST) == []


def test_the_oldest_replies_make_room(node: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """B4: at most the bound is kept from one entry to the next."""
    monkeypatch.setattr(machine, "REQUESTS_KEPT", 3)
    for at in range(6):
        node.do(c.CancelDag(f"r{at}", "nothing"))
    node.apply()
    assert list(node.state.requests) == ["r3", "r4", "r5"]
    assert len(node.store.keys(Table.REQUEST)) == 3


def test_time_never_goes_back_and_is_believed_to_a_bound(node: Driver) -> None:
    """B4: a new leader's clock may be behind; what is stored fits into 64 bits."""
    node.apply(at_ms=5_000)
    node.apply(at_ms=-(2**63))
    assert node.state.machine.now_ms == 5_000
    node.submit("d", {"a": []}, request_id="r1")
    node.apply(c.CancelDag("r2", "d"), at_ms=2**64 - 1)
    assert node.state.machine.now_ms == MAX_TIME_MS
