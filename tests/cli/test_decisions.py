"""`coordctl explain` and `coordctl decisions`: why an agent has a task, what would let one go, what placement
did (E6, E10, G4)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from quorumflow_proto.v1 import client_pb2 as client
from quorumflow_proto.v1 import common_pb2 as common
from quorumflow_proto.v1 import operator_pb2 as operator
from tests.cli.test_coordctl import printed

if TYPE_CHECKING:
    from tests.cli.conftest import Coordctl, Script

ASSIGNMENT = client.AssignmentView(
    attempt=1,
    agent_id="a1",
    at_ms=5,
    recorded=True,
    policy="balanced",
    unit="s",
    how="the cheapest of all, busy or not",
    considered=2,
    expected_s=2.0,
    low_s=1.5,
    high_s=3.0,
    reserved="one of the 2 slots that reservation night keeps for namespace shop, of which 1 were in use",
    candidates=[
        client.AssignmentView.Candidate(
            agent_id="a1",
            cost=2.5,
            terms=[client.AssignmentView.Term(name="run", weight=1, value=2.5, product=2.5)],
        ),
        client.AssignmentView.Candidate(agent_id="a2", cost=4.0, lost="costs 1.5 more"),
    ],
)


async def test_explain_tells_why_an_agent_has_a_task(script: Script, coordctl: Coordctl) -> None:
    script.answers["ExplainTask"] = client.ExplainTaskReply(
        state=common.TASK_STATE_RUNNING, assignments=[ASSIGNMENT]
    )
    (found,) = printed(await coordctl("explain", "d1", "a", "--output", "json"))["assignments"]
    assert (found["agent_id"], found["policy"], found["recorded"]) == ("a1", "balanced", True)
    assert found["candidates"][0]["terms"] == [{"name": "run", "weight": 1, "value": 2.5, "product": 2.5}]
    assert [one["lost"] for one in found["candidates"]] == ["", "costs 1.5 more"]
    assert found["reserved"] == ASSIGNMENT.reserved
    lines = (await coordctl("explain", "d1", "a")).stdout.splitlines()
    assert any(line.split() == ["a1", "2.5", "s", "run=1x2.5", "-"] for line in lines)
    assert any(line.startswith("reserved ") and line.endswith(ASSIGNMENT.reserved) for line in lines)
    assert any(line.startswith("a2") and line.endswith("costs 1.5 more") for line in lines)


async def test_explain_tells_what_would_let_a_task_go(script: Script, coordctl: Coordctl) -> None:
    reply = client.ExplainTaskReply
    script.answers["ExplainTask"] = reply(
        state=common.TASK_STATE_READY,
        near_misses=[reply.NearMiss(agent_id="a1", reason="tool", detail="needs the tool saw")],
        groups=[
            reply.Group(name="hall", agents=3, capable=1, refused={"tool": 2}),
            reply.Group(name="yard", agents=1),
        ],
        unblocked_by=["2 x tool: needs the tool saw"],
        impossible_since_ms=77,
    )
    view = printed(await coordctl("explain", "d1", "a", "--output", "json"))
    assert view["near_misses"] == [{"agent_id": "a1", "reason": "tool", "detail": "needs the tool saw"}]
    assert view["groups"][0] == {
        "name": "hall", "agents": 3, "capable": 1, "feasible": 0, "refused": {"tool": 2},
    }  # fmt: skip
    assert (view["unblocked_by"], view["impossible_since_ms"]) == (["2 x tool: needs the tool saw"], 77)
    shown = (await coordctl("explain", "d1", "a")).stdout
    assert "tool=2" in shown
    assert "2 x tool" in shown


def made(number: int) -> operator.DecisionView:
    return operator.DecisionView(
        number=number, at_ms=9, round=operator.RoundView(waiting=4, placed=1, unplaced={"capacity": 3})
    )


async def test_decisions_are_printed_one_a_line(script: Script, coordctl: Coordctl) -> None:
    change = operator.AdaptationView(parameter="batch", before=9, after=5, because="slow")
    move = operator.MoveView(what="rival", dag_id="d", task_id="t", attempt=2, agent_id="a1", because="late")
    script.answers["ListDecisions"] = operator.ListDecisionsReply(
        term=3,
        last=3,
        decisions=[
            made(1),
            operator.DecisionView(number=2, adaptation=change),
            operator.DecisionView(number=3, move=move),
        ],
    )
    lines = (await coordctl("decisions")).stdout.splitlines()
    assert lines[0].startswith("3/1 9 round waiting=4 placed=1 kept=0 unplaced=capacity=3")
    assert lines[1] == "3/2 0 adaptation parameter=batch before=9.0 after=5.0 because=slow"
    assert lines[2] == "3/3 0 move what=rival dag_id=d task_id=t attempt=2 agent_id=a1 because=late"
    shown = (await coordctl("decisions", "--output", "json")).stdout.splitlines()
    assert [json.loads(line)["kind"] for line in shown] == ["round", "adaptation", "move"]
    assert json.loads(shown[0])["facts"]["unplaced"] == {"capacity": 3}
