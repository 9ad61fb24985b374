"""Who is likely to ask again soon (principle 7)."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.commands import KvPut, WriteId
from coordinator.core.outcome import KvStored
from coordinator.replica.callers import Callers
from tests.replica.nodes import Nodes


def test_who_waits_for_an_answer_and_who_has_had_one_is_expected_until_it_is_back() -> None:
    callers = Callers()
    assert not callers.are_expected
    callers.came()
    assert not callers.are_expected, "it is here"
    callers.left(1)
    assert callers.are_expected
    callers.answered(1)
    assert callers.are_expected
    callers.came()
    assert not callers.are_expected


def test_who_is_late_twice_is_not_expected_any_more_and_may_come_all_the_same() -> None:
    callers = Callers()
    callers.left(3)
    callers.answered(2)
    callers.stay_away()
    assert callers.are_expected
    callers.answered(1)
    callers.came()
    assert callers.are_expected, "one of the two that are late has not come"
    callers.stay_away()
    assert not callers.are_expected
    callers.came()
    assert not callers.are_expected


def test_a_client_that_is_gone_is_not_expected_for_ever_where_others_come_and_go() -> None:
    callers = Callers()
    callers.left(3)
    callers.answered(3)
    for _ in range(2):
        callers.came()
        callers.came()
        assert callers.are_expected
        callers.stay_away()
        callers.left(2)
        callers.answered(2)
    callers.came()
    callers.came()
    assert not callers.are_expected


def test_nobody_is_expected_by_who_leads_no_more() -> None:
    callers = Callers()
    callers.left(2)
    callers.answered(1)
    callers.forget()
    assert not callers.are_expected


@given(st.integers(1, 8), st.lists(st.sampled_from(["come", "leave", "answer"]), max_size=60))
def test_in_a_closed_loop_all_are_here_exactly_when_none_is_expected(clients: int, events: list[str]) -> None:
    """However their commands fall into entries. Each client has asked once before."""
    callers = Callers()
    away, here, under_way = 0, clients, deque[int]()
    for event in events:
        if event == "come" and away:
            callers.came()
            away, here = away - 1, here + 1
        elif event == "leave" and here:
            callers.left(here)
            under_way.append(here)
            here = 0
        elif event == "answer" and under_way:
            answered = under_way.popleft()
            callers.answered(answered)
            away += answered
        assert callers.are_expected == (here < clients)


async def test_whoever_asks_something_of_a_node_is_a_caller(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 1)
    await nodes.start()
    try:
        node = nodes.nodes[await nodes.led()]
        came = list[int]()
        node.proposer._callers.came = lambda: came.append(1)
        await node.propose(KvPut(WriteId("", 0, 0), "k", b""), KvStored)
        assert came == [1]
    finally:
        await nodes.stop()
