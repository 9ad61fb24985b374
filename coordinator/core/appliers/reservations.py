"""Commands about reservations."""

from __future__ import annotations

import msgspec

from coordinator.core.commands import RemoveReservation, SetReservation
from coordinator.core.limits import (
    MAX_TIME_MS,
    RESERVATIONS_KEPT,
    RESERVED_AGENTS,
    RESERVED_CHARS,
    RESERVED_LABELS,
    RESERVED_SLOTS,
)
from coordinator.core.outcome import Done, Refusal, Reply, ReservationSet, Table
from coordinator.core.refusals import not_found, stale_version
from coordinator.core.reservations import ReservationRecord
from coordinator.core.transaction import Transaction


def change(tx: Transaction, command: SetReservation) -> Reply:
    """Make it, or change it as a whole: one that is changed keeps its place among those of its agents."""
    record, known = command.record, tx.state.reservations.get(command.record.id)
    refusal = refusal_of(record, tx.now_ms) or stale_version("reservation", record.id, command.expect, known)
    if refusal is None and known is None and not _make_room(tx):
        refusal = Refusal(
            "LIMIT_EXCEEDED",
            f"there are {RESERVATIONS_KEPT} reservations already, none of which is over; remove one that is "
            "not needed any more",
            {"limit": str(RESERVATIONS_KEPT), "value": str(len(tx.state.reservations))},
        )
    if refusal is not None:
        return refusal
    version = tx.next_sequence()
    record = msgspec.structs.replace(
        record, version=version, created=version if known is None else known.created
    )
    tx.state.reservations[record.id] = record
    tx.write(Table.RESERVATION, record.id.encode(), record)
    tx.effects.reservations = True
    return ReservationSet(record)


def remove(tx: Transaction, command: RemoveReservation) -> Reply:
    """Forget it: what waited because of it goes on."""
    known = tx.state.reservations.get(command.id)
    if known is None:
        return not_found("reservation", command.id[:RESERVED_CHARS])
    stale = stale_version("reservation", command.id, command.expect, known)
    if stale is not None:
        return stale
    _forget(tx, known)
    return Done(1)


def refusal_of(record: ReservationRecord, now_ms: int) -> Refusal | None:
    """Why no reservation could be so; None if one could."""
    labels = [part for label in record.labels for part in label]
    names = {"id": [record.id], "namespace": [record.namespace], "agent": record.agents}
    chosen = {"zone": [record.zone], "group": [record.group], "label": labels}
    for what, found in (names | chosen).items():
        for name in found:
            if len(name) > RESERVED_CHARS or (what in names and not name) or not name.isprintable():
                return _senseless(
                    f"the {what} {name[:RESERVED_CHARS]!r} of a reservation has {len(name)} characters; "
                    f"allowed: 1 to {RESERVED_CHARS} that are printable",
                    value=name[:RESERVED_CHARS],
                    limit=RESERVED_CHARS,
                )
    for many, most, what in (
        (len(record.agents), RESERVED_AGENTS, "agents"),
        (len(record.labels), RESERVED_LABELS, "labels"),
    ):
        if many > most:
            return _senseless(
                f"reservation {record.id!r} names {many} {what}; allowed: {most}", value=many, limit=most
            )
    return _wrong_amount(record) or _wrong_time(record, now_ms)


def _wrong_amount(record: ReservationRecord) -> Refusal | None:
    if record.slots is None:
        if record.agents or record.zone or record.group or record.labels:
            return None
        return _senseless(
            f"reservation {record.id!r} would keep every slot of every agent; name agents, a zone, a group "
            "or labels, or say how many slots of each agent"
        )
    if 0 < record.slots <= RESERVED_SLOTS:
        return None
    return _senseless(
        f"reservation {record.id!r} is to keep {record.slots} slots of each agent; allowed: 1 to "
        f"{RESERVED_SLOTS}",
        value=record.slots,
        limit=RESERVED_SLOTS,
    )


def _wrong_time(record: ReservationRecord, now_ms: int) -> Refusal | None:
    begin_ms, end_ms = record.begin_ms, record.end_ms
    if not (0 <= begin_ms <= MAX_TIME_MS and 0 <= end_ms <= MAX_TIME_MS):
        return _senseless(
            f"reservation {record.id!r} is from {begin_ms} to {end_ms} ms; allowed: 0 to {MAX_TIME_MS}",
            value=max(begin_ms, end_ms),
            limit=MAX_TIME_MS,
        )
    if end_ms and end_ms <= max(begin_ms, now_ms):
        return _senseless(
            f"reservation {record.id!r} is to end at {end_ms} ms, and it begins at {begin_ms} ms and it is "
            f"{now_ms} ms now; its end must be later than both, or 0 for none",
            value=end_ms,
        )
    return None


def _senseless(message: str, **fields: object) -> Refusal:
    return Refusal("INVALID_REQUEST", message, {name: str(value) for name, value in fields.items()})


def _make_room(tx: Transaction) -> bool:
    """Whether there is room for one more, once the one is forgotten that has been over for longest."""
    if len(tx.state.reservations) < RESERVATIONS_KEPT:
        return True
    over = [one for one in tx.state.reservations.values() if one.over(tx.now_ms)]
    if over:
        _forget(tx, min(over, key=lambda one: (one.end_ms, one.created)))
    return bool(over)


def _forget(tx: Transaction, record: ReservationRecord) -> None:
    del tx.state.reservations[record.id]
    tx.write(Table.RESERVATION, record.id.encode(), None)
    tx.effects.reservations = True
