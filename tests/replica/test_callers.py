"""Who is likely to ask again soon (principle 7)."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.api.submissions import submissions_on
from coordinator.core.commands import KvPut, WriteId
from coordinator.core.outcome import KvStored, Submitted
from coordinator.replica.callers import Callers
from quorumflow_proto.v1.client_pb2 import DagSubmission
from tests.replica.nodes import Nodes


def test_who_waits_for_an_answer_and_who_has_had_one_is_expected_until_it_is_back() -> None:
    callers = Callers()
    assert not callers.are_expected
    callers.came(0.0)
    assert not callers.are_expected, "it is here"
    callers.left(1)
    assert callers.are_expected
    callers.answered(1, 0.001)
    assert callers.are_expected
    callers.came(0.0)
    assert not callers.are_expected


def test_who_is_late_twice_is_not_expected_any_more_and_may_come_all_the_same() -> None:
    callers = Callers()
    callers.left(3)
    callers.answered(2, 0.001)
    callers.stay_away()
    assert callers.are_expected
    callers.answered(1, 0.001)
    callers.came(0.0)
    assert callers.are_expected, "one of the two that are late has not come"
    callers.stay_away()
    assert not callers.are_expected
    callers.came(0.0)
    assert not callers.are_expected


def test_a_client_that_is_gone_is_not_expected_for_ever_where_others_come_and_go() -> None:
    callers = Callers()
    callers.left(3)
    callers.answered(3, 0.001)
    for _ in range(2):
        callers.came(0.0)
        callers.came(0.0)
        assert callers.are_expected
        callers.stay_away()
        callers.left(2)
        callers.answered(2, 0.001)
    callers.came(0.0)
    callers.came(0.0)
    assert not callers.are_expected


def test_nobody_is_expected_by_who_leads_no_more() -> None:
    callers = Callers()
    callers.left(2)
    callers.answered(1, 0.001)
    callers.forget()
    assert not callers.are_expected


@given(st.integers(1, 8), st.lists(st.sampled_from(["come", "leave", "answer"]), max_size=60))
def test_in_a_closed_loop_all_are_here_exactly_when_none_is_expected(clients: int, events: list[str]) -> None:
    """However their commands fall into entries. Each client has asked once before."""
    callers = Callers()
    away, here, under_way = 0, clients, deque[int]()
    for event in events:
        if event == "come" and away:
            callers.came(0.0)
            away, here = away - 1, here + 1
        elif event == "leave" and here:
            callers.left(here)
            under_way.append(here)
            here = 0
        elif event == "answer" and under_way:
            answered = under_way.popleft()
            callers.answered(answered, 0.001)
            away += answered
        assert callers.are_expected == (here < clients)


def after(cycles: int, commands: int, *, gap_s: float, making_s: float, commit_s: float) -> Callers:
    """Entries one after the other, each for so many commands with such gaps, the first of them when the last
    entry had been applied."""
    callers, now_s = Callers(), 0.0
    for _ in range(cycles):
        for _ in range(commands):
            now_s += gap_s
            callers.came(now_s)
        callers.left(commands)
        callers.made(now_s, now_s + making_s)
        now_s += commit_s
        callers.answered(commands, commit_s)
    return callers


@pytest.mark.parametrize("making_s", [0.0, 0.0003, 0.0009])
@pytest.mark.parametrize("gap_s", [0.0001, 0.01])
def test_a_client_by_itself_is_never_dense_since_it_waits_for_each_commit(
    gap_s: float, making_s: float
) -> None:
    assert not after(100, 1, gap_s=gap_s, making_s=making_s, commit_s=0.001).are_dense


def test_clients_are_dense_where_several_come_within_a_commit() -> None:
    assert after(100, 8, gap_s=0.0001, making_s=0.0003, commit_s=0.001).are_dense
    assert not after(100, 8, gap_s=0.002, making_s=0.0003, commit_s=0.001).are_dense


def test_clients_are_dense_where_each_has_waited_for_the_last_one_s_entry_to_be_made() -> None:
    callers, now_s = Callers(), 0.0
    for _ in range(100):
        callers.came(now_s)
        callers.left(1)
        callers.made(now_s, now_s + 0.0009)
        callers.answered(1, 0.0015)
        # The next one was there already.
        now_s += 0.0011
    assert callers.are_dense


@pytest.mark.parametrize(("wait_ms", "asked"), [(0, True), (1_000, False)])
async def test_who_waits_for_the_end_of_a_dag_will_not_come_back_before(wait_ms: int, asked: bool) -> None:
    class Stub:
        """As much of a node as a submission meets."""

        leadership = SimpleNamespace(serving=lambda: asyncio.sleep(0))

        async def submit(self, command: object, *, asked: bool) -> asyncio.Future[Submitted]:
            told.append(asked)
            return asyncio.get_running_loop().create_future()

    told = list[bool]()
    submissions = SimpleNamespace(small=lambda request: request)
    await submissions_on(Stub(), submissions).propose(DagSubmission(wait_ms=wait_ms))
    assert told == [asked]


async def test_whoever_asks_something_of_a_node_is_a_caller(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 1)
    await nodes.start()
    try:
        node = nodes.nodes[await nodes.led()]
        came = list[int]()
        node.proposer._callers.came = lambda now_s: came.append(1)
        await node.propose(KvPut(WriteId("", 0, 0), "k", b""), KvStored)
        assert came == [1]
    finally:
        await nodes.stop()
