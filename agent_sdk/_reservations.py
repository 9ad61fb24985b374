"""Reservations: slots of agents that are kept for the work of a namespace, as an operator sets them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from agent_sdk._leader import LeaderCalls
from agent_sdk._loop_thread import LoopThread
from agent_sdk.errors import InvalidRequest
from agent_sdk.types import Reservation
from quorumflow_proto.v1 import operator_pb2 as pb

_MOST_SLOTS: Final = (1 << 32) - 1
"""That travel; the coordinator takes fewer."""

Listed = tuple[Reservation, ...]


class AsyncReservations:
    """`AsyncClient.reservations`."""

    def __init__(self, calls: LeaderCalls) -> None:
        self._calls = calls

    async def list(self) -> Listed:
        """All of them, in the order in which slots are given to them: the oldest first."""
        return await self._list("")

    async def get(self, reservation_id: str) -> Reservation:
        """One of them. Raises NotFound."""
        return (await self._list(reservation_id))[0]

    async def set(
        self,
        reservation_id: str,
        namespace: str,
        *,
        slots: int | None = None,
        agents: Iterable[str] = (),
        zone: str = "",
        group: str = "",
        labels: Mapping[str, str] | None = None,
        begin_ms: int = 0,
        end_ms: int = 0,
        expect: int | None = None,
        request_id: str | None = None,
    ) -> Reservation:
        """Make it, or make it another one, of which all is as given here. Arguments are as in `Reservation`;
        `expect` is the version that it must have, 0 for none. Raises InvalidRequest, LimitExceeded,
        StaleVersion."""
        if slots is not None and not 0 < slots <= _MOST_SLOTS:
            raise InvalidRequest(f"a reservation is of 1 to {_MOST_SLOTS} slots of each agent, not {slots}")
        reservation = pb.Reservation(
            id=reservation_id,
            namespace=namespace,
            slots=slots,
            begin_ms=begin_ms,
            end_ms=end_ms,
            agent_ids=agents,
            zone=zone,
            group=group,
            labels=labels or {},
        )
        request = pb.SetReservationRequest(
            request_id=request_id or self._calls.new_id(), reservation=reservation, expect=expect
        )
        return _reservation(
            await self._calls.call(lambda node, left_s: node.operator.SetReservation(request, timeout=left_s))
        )

    async def remove(
        self, reservation_id: str, *, expect: int | None = None, request_id: str | None = None
    ) -> None:
        """Keep its slots no more; `expect` as in `set`. Raises NotFound, StaleVersion."""
        request = pb.RemoveReservationRequest(
            request_id=request_id or self._calls.new_id(), id=reservation_id, expect=expect
        )
        await self._calls.call(lambda node, left_s: node.operator.RemoveReservation(request, timeout=left_s))

    async def _list(self, reservation_id: str) -> Listed:
        request = pb.ListReservationsRequest(id=reservation_id)
        reply = await self._calls.call(
            lambda node, left_s: node.operator.ListReservations(request, timeout=left_s)
        )
        return tuple(_reservation(view) for view in reply.reservations)


class Reservations:
    """`Client.reservations`: as `AsyncReservations`, for code without an event loop."""

    def __init__(self, loop: LoopThread, reservations: AsyncReservations) -> None:
        self._loop = loop
        self._reservations = reservations

    def list(self) -> Listed:
        """All of them, in the order in which slots are given to them: the oldest first."""
        return self._loop.run(self._reservations.list())

    def get(self, reservation_id: str) -> Reservation:
        """One of them."""
        return self._loop.run(self._reservations.get(reservation_id))

    def set(
        self,
        reservation_id: str,
        namespace: str,
        *,
        slots: int | None = None,
        agents: Iterable[str] = (),
        zone: str = "",
        group: str = "",
        labels: Mapping[str, str] | None = None,
        begin_ms: int = 0,
        end_ms: int = 0,
        expect: int | None = None,
        request_id: str | None = None,
    ) -> Reservation:
        """Make it, or make it another one, of which all is as given here."""
        return self._loop.run(
            self._reservations.set(
                reservation_id,
                namespace,
                slots=slots,
                agents=agents,
                zone=zone,
                group=group,
                labels=labels,
                begin_ms=begin_ms,
                end_ms=end_ms,
                expect=expect,
                request_id=request_id,
            )
        )

    def remove(
        self, reservation_id: str, *, expect: int | None = None, request_id: str | None = None
    ) -> None:
        """Keep its slots no more."""
        self._loop.run(self._reservations.remove(reservation_id, expect=expect, request_id=request_id))


def _reservation(view: pb.ReservationView) -> Reservation:
    found = view.reservation
    return Reservation(
        id=found.id,
        namespace=found.namespace,
        slots=found.slots if found.HasField("slots") else None,
        begin_ms=found.begin_ms,
        end_ms=found.end_ms,
        agents=tuple(found.agent_ids),
        zone=found.zone,
        group=found.group,
        labels=dict(found.labels),
        version=view.version,
        state=view.state,
        covered=view.agents,
    )
