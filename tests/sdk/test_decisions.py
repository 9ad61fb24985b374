"""Decisions of placement as a client reads them: to the end, or on and on through changes of leader (E6)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agent_sdk import AsyncClient
from quorumflow_proto.v1 import operator_pb2
from tests.sdk.scripted import Node


@pytest.fixture
async def client(node: Node) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(node.address, timeout_s=15.0) as open_client:
        yield open_client


def decisions(term: int, *numbers: int, last: int = 0) -> operator_pb2.ListDecisionsReply:
    made = [
        operator_pb2.DecisionView(number=number, round=operator_pb2.RoundView(placed=number))
        for number in numbers
    ]
    return operator_pb2.ListDecisionsReply(term=term, last=last or max(numbers, default=0), decisions=made)


async def test_decisions_end_with_the_last_one_that_there_was(client: AsyncClient, node: Node) -> None:
    node.script.on("ListDecisions", decisions(3, 1, 2, last=3), decisions(3, 3, 4, last=9))
    assert [one.number async for one in client.decisions()] == [1, 2, 3, 4]
    asked = [(one.term, one.after, one.wait_ms) for one in node.script.calls["ListDecisions"]]
    assert asked == [(0, 0, 0), (3, 2, 0)]


async def test_decisions_are_followed_from_one_leader_to_the_next(client: AsyncClient, node: Node) -> None:
    node.script.on(
        "ListDecisions",
        decisions(3, 7),
        decisions(3, last=7),
        decisions(4, 1),
        decisions(4, 2),
        decisions(5, 1),
    )
    seen = []
    async for one in client.decisions(follow=True):
        seen.append((one.term, one.number, one.facts["placed"]))
        if one.term == 5:
            break
    assert seen == [(3, 7, 7), (4, 1, 1), (4, 2, 2), (5, 1, 1)]
    asked = [(one.term, one.after) for one in node.script.calls["ListDecisions"]]
    assert asked == [(0, 0), (3, 7), (3, 7), (4, 1), (4, 2)]
    assert all(one.wait_ms > 0 for one in node.script.calls["ListDecisions"])
