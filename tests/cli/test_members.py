"""`coordctl member` against a scripted server: what it sends, the shapes of its JSON, what it says of a wrong
name or a wrong moment, its exit codes (A3, G4)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import errors
from quorumflow_proto.v1 import operator_pb2 as pb

if TYPE_CHECKING:
    from click.testing import Result

    from tests.cli.conftest import Coordctl, Script

PLACE = ("--raft", "h4:7401", "--grpc", "h4:7400")


def reply(*learners: str) -> pb.MembersReply:
    """Three voters, of which n1 leads, and these learners."""
    members = [view(f"n{number}", "voter") for number in (1, 2, 3)]
    return pb.MembersReply(members=[*members, *(view(one, "learner") for one in learners)])


def view(node_id: str, kind: str) -> pb.MemberView:
    """A member at addresses that are made of its id."""
    host = node_id.replace("n", "h")
    return pb.MemberView(
        id=node_id,
        kind=kind,
        raft_address=f"{host}:7401",
        grpc_address=f"{host}:7400",
        leader=node_id == "n1",
        connected=kind == "voter",
        lag=0 if kind == "voter" else 7,
        promote=kind == "learner",
    )


def listed(result: Result) -> list[dict[str, Any]]:
    """The members that a successful command printed as JSON."""
    assert (result.exit_code, result.stderr) == (0, "")
    members: list[dict[str, Any]] = json.loads(result.stdout)["members"]
    return members


async def test_list_shows_who_votes_leads_and_lags(script: Script, coordctl: Coordctl) -> None:
    script.answers["ListMembers"] = reply("n4")
    rows = listed(await coordctl("member", "list", "--output", "json"))
    columns = ("id", "kind", "leader", "connected", "lag", "promote")
    assert [tuple(row[name] for name in columns) for row in rows][2:] == [
        ("n3", "voter", False, True, 0, False),
        ("n4", "learner", False, False, 7, True),
    ]
    table = await coordctl("member", "list")
    assert table.stdout.splitlines()[0].split() == [*columns, "raft", "grpc", "incarnation"]


@pytest.mark.parametrize("promote", [False, True])
async def test_add_names_the_addresses(script: Script, coordctl: Coordctl, promote: bool) -> None:
    script.answers["ChangeMembers"] = reply("n4")
    flag = ["--promote"] if promote else []
    rows = listed(await coordctl("member", "add", "n4", *PLACE, *flag, "--output", "json"))
    assert rows[-1]["id"] == "n4"
    (request,) = script.requests("ChangeMembers")
    new = pb.NewMember(id="n4", raft_address="h4:7401", grpc_address="h4:7400", promote=promote)
    assert request == pb.ChangeMembersRequest(add=new)


CHANGES = [
    (["promote", "n4"], pb.ChangeMembersRequest(promote="n4")),
    (["remove", "n3"], pb.ChangeMembersRequest(remove="n3")),
    (
        ["update", "n3", "--raft", "h9:1"],
        pb.ChangeMembersRequest(update=pb.NewAddresses(id="n3", raft_address="h9:1")),
    ),
    (
        ["replace", "n3", "n5", "--raft", "h5:1", "--grpc", "h5:2"],
        pb.ChangeMembersRequest(
            replace=pb.Replacement(
                dead="n3",
                new=pb.NewMember(id="n5", raft_address="h5:1", grpc_address="h5:2", promote=True),
            )
        ),
    ),
]


@pytest.mark.parametrize(("command", "sent"), CHANGES, ids=[command[0] for command, _ in CHANGES])
async def test_a_change_is_asked_for_once(
    script: Script, coordctl: Coordctl, command: list[str], sent: pb.ChangeMembersRequest
) -> None:
    script.answers |= {"ListMembers": reply("n4"), "ChangeMembers": reply("n4")}
    assert len(listed(await coordctl("member", *command, "--output", "json"))) == 4
    assert script.requests("ChangeMembers") == [sent]


@pytest.mark.parametrize("new", ["n3", "n5"])
async def test_a_replacement_stands_where_the_dead_one_stood_unless_it_is_told_otherwise(
    script: Script, coordctl: Coordctl, new: str
) -> None:
    script.answers |= {"ListMembers": reply(), "ChangeMembers": reply(new)}
    assert (await coordctl("member", "replace", "n3", new)).exit_code == 0
    (request,) = script.requests("ChangeMembers")
    place = request.replace.new.raft_address, request.replace.new.grpc_address
    assert place == ("h3:7401", "h3:7400")


async def test_a_replacement_may_be_repeated_once_the_dead_one_is_gone(
    script: Script, coordctl: Coordctl
) -> None:
    script.answers |= {"ListMembers": reply("n5"), "ChangeMembers": reply("n5")}
    assert (await coordctl("member", "replace", "n4", "n5")).exit_code == 0
    assert script.requests("ChangeMembers")[0].replace.new.raft_address == "h5:7401"


@pytest.mark.parametrize("command", [["remove", "n9"], ["replace", "n9", "n8"]], ids=" ".join)
async def test_a_name_that_nobody_has_is_not_passed_over(
    script: Script, coordctl: Coordctl, command: list[str]
) -> None:
    script.answers["ListMembers"] = reply()
    result = await coordctl("member", *command)
    assert result.exit_code == 3
    assert "there is no member 'n9'; there are n1, n2, n3" in result.stderr
    assert script.requests("ChangeMembers") == []


@pytest.mark.parametrize(("target", "sent"), [([], ""), (["n2"], "n2")])
async def test_transfer_says_who_leads_then(
    script: Script, coordctl: Coordctl, target: list[str], sent: str
) -> None:
    script.answers["TransferLeadership"] = pb.TransferLeadershipReply(leader_id="n2")
    result = await coordctl("member", "transfer", *target, "--output", "json")
    assert json.loads(result.stdout) == {"leader": "n2"}
    assert script.requests("TransferLeadership")[0].target == sent


WRONG_USAGE = [
    ["add", "n4"],
    ["add", "n4", "--raft", "h4:1"],
    ["add"],
    ["promote"],
    ["remove"],
    ["replace", "n3"],
    ["update", "n3"],
    ["update"],
    ["nonsense"],
]


@pytest.mark.parametrize("command", WRONG_USAGE, ids=" ".join)
async def test_wrong_usage_asks_nobody(script: Script, coordctl: Coordctl, command: list[str]) -> None:
    assert (await coordctl("member", *command)).exit_code == 2
    assert script.asked == []


async def test_a_change_that_waits_for_another_is_tried_until_its_time_is_over(
    script: Script, coordctl: Coordctl
) -> None:
    """Two changes at once: the second is retried, and says in the end what it waited for."""
    busy = "the change at entry 7 is not committed yet"
    script.answers["ChangeMembers"] = errors.Unavailable(busy, retry_after_ms=10)
    result = await coordctl("member", "promote", "n4", "--timeout", "0.3")
    assert result.exit_code == 4
    assert busy in result.stderr
    assert len(script.requests("ChangeMembers")) > 1


async def test_a_change_that_waited_for_another_is_made_then(script: Script, coordctl: Coordctl) -> None:
    script.answers["ChangeMembers"] = [errors.Unavailable("busy", retry_after_ms=10), reply("n4")]
    assert listed(await coordctl("member", "promote", "n4", "--output", "json"))
