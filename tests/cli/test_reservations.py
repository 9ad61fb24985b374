"""`coordctl reservation` against a scripted server: what it sends, the shapes of its JSON, what it says of
times that are none, its exit codes (A3, E9, G4)."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from coordinator import errors
from coordinator.cli.exits import Exit
from quorumflow_proto.v1 import operator_pb2 as pb

if TYPE_CHECKING:
    from tests.cli.conftest import Coordctl, Script

JSON = ("--output", "json")


def view(name: str = "sale", slots: int | None = 2, end_ms: int = 0) -> pb.ReservationView:
    """One that is in force."""
    reservation = pb.Reservation(id=name, namespace="shop", slots=slots, zone="eu", end_ms=end_ms)
    return pb.ReservationView(reservation=reservation, version=7, state="IN_FORCE", agents=3)


async def test_list_shows_whose_slots_where_and_until_when(script: Script, coordctl: Coordctl) -> None:
    found = [view(), view("all", None, 1_798_131_600_000)]
    script.answers["ListReservations"] = pb.ListReservationsReply(reservations=found)
    listed = json.loads((await coordctl("reservation", "list", *JSON)).stdout)["reservations"]
    assert [(one["id"], one["slots"], one["end_ms"]) for one in listed] == [
        ("sale", 2, 0),
        ("all", None, 1_798_131_600_000),
    ]
    assert (listed[0]["covered"], listed[0]["state"], listed[0]["version"]) == (3, "IN_FORCE", 7)
    table = (await coordctl("reservation", "list")).stdout.splitlines()
    assert table[2].split() == [
        *("all", "shop", "IN_FORCE", "all", "-", "2026-12-24T17:00:00+00:00", "zone=eu", "3", "7")
    ]


async def test_set_sends_all_that_is_given(script: Script, coordctl: Coordctl) -> None:
    """Times with an offset, without one, and from now on."""
    script.answers["SetReservation"] = view()
    given = ("--namespace", "shop", "--slots", "2", "--zone", "eu", "--group", "big", "--expect", "0")
    agents = ("--agent", "b", "--agent", "a", "--label", "disk=ssd", "--label", "rack=")
    for begin, end in (("2026-12-24T18:00+01:00", "2026-12-24T18:00"), ("+90s", "+2h")):
        times = ("--begin", begin, "--end", end)
        done = await coordctl("reservation", "set", "sale", *given, *agents, *times, *JSON)
        assert done.exit_code == Exit.OK, done.stderr
    first, second = (script.asked[at][1] for at in (0, 1))
    assert isinstance(first, pb.SetReservationRequest)
    assert isinstance(second, pb.SetReservationRequest)
    assert first.request_id != second.request_id
    assert first.HasField("expect")
    wanted = first.reservation
    assert (wanted.id, wanted.namespace, wanted.slots, wanted.zone) == ("sale", "shop", 2, "eu")
    assert (wanted.group, dict(wanted.labels)) == ("big", {"disk": "ssd", "rack": ""})
    assert (wanted.begin_ms, wanted.end_ms) == (1_798_131_600_000, 1_798_135_200_000)
    later = second.reservation
    assert later.end_ms - later.begin_ms in range(7_110_000, 7_111_000)
    assert abs(later.begin_ms - 90_000 - time.time_ns() // 1_000_000) < 60_000


async def test_what_is_not_given_is_not_sent(script: Script, coordctl: Coordctl) -> None:
    script.answers["SetReservation"] = view()
    await coordctl("reservation", "set", "sale", "--namespace", "shop", "--agent", "a")
    request = script.asked[0][1]
    assert isinstance(request, pb.SetReservationRequest)
    assert not request.HasField("expect")
    assert not request.reservation.HasField("slots")
    assert (request.reservation.begin_ms, request.reservation.end_ms) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--zone", "eu"], "--namespace"),
        (["--namespace", "shop", "--slots", "0"], "0 is not in the range"),
        (["--namespace", "shop", "--label", "disk"], "give NAME=VALUE"),
        (["--namespace", "shop", "--begin", "tomorrow"], "--begin 'tomorrow' is no time"),
        (["--namespace", "shop", "--end", "+2w"], "--end '+2w' is no time"),
    ],
)
async def test_what_makes_no_sense_is_not_sent(
    script: Script, coordctl: Coordctl, arguments: list[str], says: str
) -> None:
    done = await coordctl("reservation", "set", "sale", *arguments)
    assert done.exit_code == Exit.INVALID
    assert says in done.stderr
    assert script.asked == []


async def test_remove_says_what_it_is_at_if_that_is_not_expected(script: Script, coordctl: Coordctl) -> None:
    script.answers["RemoveReservation"] = [
        pb.RemoveReservationReply(),
        errors.StaleVersion("reservation 'sale' is at version 9", current=9),
        errors.NotFound("reservation 'sale' does not exist"),
    ]
    done = await coordctl("reservation", "remove", "sale", *JSON)
    assert json.loads(done.stdout) == {"id": "sale", "removed": True}
    stale = await coordctl("reservation", "remove", "sale", "--expect", "8", *JSON)
    assert json.loads(stale.stderr)["error"]["fields"]["current"] == "9"
    request = script.asked[1][1]
    assert isinstance(request, pb.RemoveReservationRequest)
    assert request.expect == 8
    gone = await coordctl("reservation", "remove", "sale", *JSON)
    assert (stale.exit_code, gone.exit_code) == (Exit.REFUSED, Exit.NOT_FOUND)
