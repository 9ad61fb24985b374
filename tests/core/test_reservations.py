"""Reservations: what an operator may reserve, and slots that no command gives to others (E9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core import commands as c
from coordinator.core.limits import MAX_TIME_MS, RESERVATIONS_KEPT, RESERVED_AGENTS, RESERVED_SLOTS
from coordinator.core.model import AgentSpec
from coordinator.core.outcome import Done, Refusal, ReservationSet
from coordinator.core.reservations import ReservationRecord, kept_of, room_of
from tests.core.conftest import START_MS

if TYPE_CHECKING:
    from tests.core.conftest import Driver

HOUR_MS = 3_600_000


def reserved(node: Driver, name: str = "sale", namespace: str = "shop", **fields: Any) -> ReservationRecord:
    """The reservation after it was set."""
    expect = fields.pop("expect", None)
    reply = node.do(c.SetReservation("", ReservationRecord(name, namespace, **fields), expect))
    assert isinstance(reply, ReservationSet), reply
    return reply.record


def submit(node: Driver, tasks: str = "abcd", **namespaces: str) -> None:
    """A DAG of these tasks each, in these namespaces."""
    for dag_id, namespace in (namespaces or {"d": "default", "s": "shop"}).items():
        node.submit(dag_id, {name: [] for name in tasks}, namespace=namespace)


def test_a_reservation_is_set_as_a_whole_and_numbered(node: Driver) -> None:
    """Each change has a version of its own; the first is its creation."""
    first = reserved(node, slots=1, zone="eu")
    assert (first.created, first.slots, first.zone) == (first.version, 1, "eu")
    second = reserved(node, slots=2, expect=first.version)
    assert (second.slots, second.zone, second.created) == (2, "", first.version)
    assert second.version > first.version
    assert node.outcomes[-1].effects.reservations
    assert node.do(c.RemoveReservation("", "sale", second.version)) == Done(1)
    assert node.outcomes[-1].effects.reservations
    assert node.state.reservations == {}
    assert node.refused(c.RemoveReservation("", "sale")) == "NOT_FOUND"


def test_a_change_of_what_has_changed_meanwhile_is_refused_with_its_version(node: Driver) -> None:
    """So two operators do not undo each other's work unseen."""
    known = reserved(node, slots=1)
    for command in (
        c.SetReservation("", ReservationRecord("sale", "shop", 2), 0),
        c.SetReservation("", ReservationRecord("sale", "shop", 2), known.version + 1),
        c.RemoveReservation("", "sale", known.version - 1),
    ):
        reply = node.do(command)
        assert isinstance(reply, Refusal)
        assert (reply.reason, reply.fields["current"]) == ("STALE_VERSION", str(known.version))
    unknown = node.do(c.SetReservation("", ReservationRecord("other", "shop", 2), 3))
    assert isinstance(unknown, Refusal)
    assert (unknown.reason, unknown.fields["current"]) == ("STALE_VERSION", "0")
    assert unknown.message.startswith("reservation 'other' is not there, and version 3 was expected")
    assert list(node.state.reservations.values()) == [known]


def test_a_refusal_shows_the_beginning_of_a_long_name_and_carries_the_whole(node: Driver) -> None:
    """Messages travel in headers, which are short."""
    for name in ("n" * 64, "n" * 65):
        refused = node.do(c.SetReservation("", ReservationRecord(name, "shop", 1), 7))
        assert isinstance(refused, Refusal)
        assert refused.fields == {"reservation": name, "expected": "7", "current": "0"}
        assert (repr(name) in refused.message) == (len(name) == 64)
        assert "n" * 61 in refused.message


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "a\nb"},
        {"id": "n" * 257},
        {"namespace": ""},
        {"slots": 0},
        {"slots": -1},
        {"slots": RESERVED_SLOTS + 1},
        {"slots": None},
        {"begin_ms": -1},
        {"begin_ms": MAX_TIME_MS + 1},
        {"end_ms": START_MS},
        {"end_ms": START_MS + HOUR_MS, "begin_ms": START_MS + HOUR_MS},
        {"agents": ("",)},
        {"agents": ("w",) * (RESERVED_AGENTS + 1)},
        {"labels": (("a" * 257, ""),)},
        {"labels": (("a", "b"),) * 17},
        {"zone": "\0"},
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(node: Driver, fields: dict[str, Any]) -> None:
    """Also what clients cannot send: the log may hold anything. Without agents and slots it would be all
    there is."""
    record = msgspec.structs.replace(ReservationRecord("sale", "shop", 1), **fields)
    assert node.refused(c.SetReservation("", record)) == "INVALID_REQUEST"
    assert node.state.reservations == {}


def test_their_number_is_bounded_and_one_that_is_over_makes_room(node: Driver) -> None:
    """The one that has been over for longest goes first, and one that is known may always be changed."""
    for at in range(RESERVATIONS_KEPT):
        reserved(node, f"r{at}", slots=1, end_ms=node.now_ms + 1_000 + at if at in (5, 7) else 0)
    assert node.refused(c.SetReservation("", ReservationRecord("more", "shop", 1))) == "LIMIT_EXCEEDED"
    assert reserved(node, "r3", slots=2).slots == 2
    node.now_ms += HOUR_MS
    reserved(node, "more", slots=1)
    assert "r5" not in node.state.reservations
    assert "r7" in node.state.reservations


@pytest.mark.parametrize(
    ("fields", "others"),
    [
        ({"slots": 1}, 3),
        ({"slots": 3}, 1),
        ({"slots": 9}, 0),
        ({"agents": ("w",)}, 0),
        ({"agents": ("v",)}, 4),
        ({"zone": "eu"}, 0),
        ({"zone": "us"}, 4),
        ({"group": "big", "slots": 2}, 2),
        ({"group": "small", "slots": 2}, 4),
        ({"labels": (("disk", "ssd"),)}, 0),
        ({"labels": (("disk", "ssd"), ("gpu", "a"))}, 4),
        ({"slots": 2, "begin_ms": START_MS + 1}, 4),
        ({"slots": 2, "begin_ms": START_MS}, 2),
        ({"slots": 2, "end_ms": START_MS + 1}, 2),
    ],
)
def test_others_do_not_take_the_last_slots(node: Driver, fields: dict[str, Any], others: int) -> None:
    """One entry with more choices than there is room for: the rest of the tasks is told of again. Those that
    slots are kept for take what there is."""
    reserved(node, **fields)
    node.join("w", slots=4, credit=8, zone="eu", groups=("big",), labels=(("disk", "ssd"),))
    submit(node)
    assert node.assign("w", "d", *"abcd") == Done(others)
    assert node.outcomes[-1].effects.ready == [node.key("d", name) for name in "abcd"[others:]]
    assert node.assign("w", "s", *"abcd") == Done(4)


def test_what_its_namespace_holds_is_of_the_slots_that_are_kept(node: Driver) -> None:
    """Others have the rest of the agent at any time, and nothing of it is kept twice."""
    reserved(node, slots=2)
    node.join("w", slots=4, credit=8)
    submit(node)
    assert node.assign("w", "s", "a") == Done(1)
    assert node.assign("w", "d", *"abcd") == Done(2)
    assert node.assign("w", "s", "b") == Done(1)
    assert node.assign("w", "d", "c") == Done(0)
    node.do(node.said("w", "s", "a"))
    assert node.assign("w", "d", "c") == Done(0)
    node.do(node.said("w", "d", "a"))
    assert node.assign("w", "d", "c") == Done(1)


def test_what_runs_when_it_begins_goes_on(node: Driver) -> None:
    """Nothing is added until enough has ended, and all is as before when it is over."""
    end_ms = node.now_ms + 2 * HOUR_MS
    reserved(node, slots=3, begin_ms=node.now_ms + HOUR_MS, end_ms=end_ms)
    node.join("w", slots=4, credit=8)
    submit(node, "abcdef", d="default")
    node.start("w", "d", *"abc")
    node.now_ms += HOUR_MS
    assert node.assign("w", "d", "d") == Done(0)
    for name in "abc":
        assert node.assign("w", "d", "d") == Done(0)
        node.do(node.said("w", "d", name))
    assert node.assign("w", "d", "d") == Done(1)
    assert node.assign("w", "d", "e") == Done(0)
    node.now_ms = end_ms
    assert node.assign("w", "d", "e", "f") == Done(2)


def test_second_attempts_and_moves_leave_it_alone_too(node: Driver) -> None:
    """There is one way to an agent's slots."""
    reserved(node, agents=("v",))
    for agent in "vw":
        node.join(agent)
    submit(node, "a")
    node.assign("w", "d", "a")
    assert node.do(c.Assign([node.choice("v", "d", "a", rival=True)])) == Done(0)
    assert node.do(c.Recall([c.Move(1, node.choice("v", "d", "a"))], "sooner")) == Done(0)
    node.assign("w", "s", "a")
    assert node.do(c.Recall([c.Move(1, node.choice("v", "s", "a"))], "sooner")) == Done(1)


def test_of_two_that_want_the_same_slots_the_older_one_has_them(node: Driver) -> None:
    """Also after it was changed; the younger one has what is left."""
    reserved(node, "first", "shop", slots=3)
    reserved(node, "second", "lab", slots=3)
    reserved(node, "first", "shop", slots=3, zone="")
    node.join("w", slots=4, credit=8)
    spec, known = node.state.agents["w"].record.spec, node.state.reservations.values()
    assert kept_of(spec, known, node.now_ms) == {"shop": 3, "lab": 1}
    submit(node, "abcd", s="shop", l="lab", d="default")
    assert node.assign("w", "d", "a") == Done(0)
    assert node.assign("w", "l", *"abcd") == Done(1)
    assert node.assign("w", "s", *"abcd") == Done(3)


records = st.builds(
    ReservationRecord,
    st.just("r"),
    st.sampled_from("abc"),
    st.none() | st.integers(1, 5),
    st.integers(0, 3),
    st.integers(0, 5),
)


@given(st.lists(records, max_size=6), st.integers(0, 5), st.integers(-1, 6), st.integers(0, 6))
def test_no_more_is_kept_than_there_is(
    known: list[ReservationRecord], slots: int, credit: int, at_ms: int
) -> None:
    """As much as is wanted, where there is as much."""
    spec = AgentSpec("w", "i", slots, credit)
    kept, room = kept_of(spec, known, at_ms), room_of(spec)
    wanted = [one.slots for one in known if one.in_force(at_ms)]
    assert sum(kept.values()) == (room if None in wanted else min(room, sum(filter(None, wanted))))
    assert all(0 < one <= room for one in kept.values())
