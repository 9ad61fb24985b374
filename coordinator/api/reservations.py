"""Reservations, between the wire and the state."""

from __future__ import annotations

from typing import Final

from coordinator.core.commands import SetReservation
from coordinator.core.reservations import ReservationRecord
from coordinator.core.state import State
from coordinator.errors import NotFound
from coordinator.replica.placement import Placement
from quorumflow_proto.v1 import operator_pb2 as pb

_TO_COME: Final = "TO_COME"
_IN_FORCE: Final = "IN_FORCE"
_OVER: Final = "OVER"


def command_from_proto(request: pb.SetReservationRequest) -> SetReservation:
    """What is to be set; whether it makes sense the state machine says."""
    wanted = request.reservation
    record = ReservationRecord(
        wanted.id,
        wanted.namespace,
        wanted.slots if wanted.HasField("slots") else None,
        wanted.begin_ms,
        wanted.end_ms,
        tuple(sorted(set(wanted.agent_ids))),
        wanted.zone,
        wanted.group,
        tuple(sorted(wanted.labels.items())),
    )
    return SetReservation(request.request_id, record, request.expect if request.HasField("expect") else None)


def found_in(state: State, name: str) -> list[ReservationRecord]:
    """The one of this id, or all if there is none given. Raises NotFound."""
    if not name:
        return list(state.reservations.values())
    if name not in state.reservations:
        raise NotFound(f"reservation {name!r} does not exist, or is no longer kept", name=name)
    return [state.reservations[name]]


def reservation_to_proto(record: ReservationRecord, placement: Placement) -> pb.ReservationView:
    """A reservation as an operator sees it, by what the leader knows of agents and of the time."""
    now_ms = placement.now_ms()
    state = _IN_FORCE if record.in_force(now_ms) else _OVER if record.over(now_ms) else _TO_COME
    reservation = pb.Reservation(
        id=record.id,
        namespace=record.namespace,
        slots=record.slots,
        begin_ms=record.begin_ms,
        end_ms=record.end_ms,
        agent_ids=record.agents,
        zone=record.zone,
        group=record.group,
        labels=dict(record.labels),
    )
    return pb.ReservationView(
        reservation=reservation, version=record.version, state=state, agents=placement.covered_by(record)
    )
