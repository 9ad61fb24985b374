"""`coordctl reservation`: slots of agents that are kept for the work of a namespace."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from coordinator.cli import views
from coordinator.cli.output import Format, print_json, print_table
from coordinator.cli.session import Session, session_options

_COLUMNS: Final = ["id", "namespace", "state", "slots", "begin", "end", "where", "agents", "version"]
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FROM_NOW: Final = re.compile(r"\+(\d{1,9})([smhd])")

Command = TypeVar("Command", bound=Callable[..., Any])


def expect_option(command: Command) -> Command:
    """`--expect`."""
    return click.option(
        "--expect",
        type=click.IntRange(min=0),
        help="The version that it must have, 0 for none: otherwise nothing happens.",
    )(command)


@click.group()
def reservation() -> None:
    """Slots of agents that are kept for the work of a namespace, for a while or for good."""


@reservation.command(name="list")
@session_options
@click.pass_obj
def list_reservations(session: Session) -> None:
    """List all, the oldest first: where two want the same slots, it has them."""
    with session.client() as client:
        found = [views.reservation(one) for one in client.reservations.list()]
    if session.output is Format.JSON:
        print_json({"reservations": found})
    else:
        print_table([_row(view) for view in found], _COLUMNS)


@reservation.command()
@click.argument("reservation_id")
@session_options
@click.pass_obj
def show(session: Session, reservation_id: str) -> None:
    """Show one."""
    with session.client() as client:
        session.show(views.reservation(client.reservations.get(reservation_id)))


@reservation.command(name="set")
@click.argument("reservation_id")
@click.option("--namespace", required=True, help="Whose work has the slots.")
@click.option("--slots", type=click.IntRange(min=1), help="So many of each agent; otherwise all.")
@click.option("--agent", "agents", multiple=True, help="Of this agent; several may be given.")
@click.option("--zone", default="", help="Of the agents of this zone.")
@click.option("--group", default="", help="Of the agents of this group.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Of agents with this label.")
@click.option("--begin", default="", metavar="TIME", help="From then on; otherwise at once.")
@click.option("--end", default="", metavar="TIME", help="Until then; otherwise for good.")
@expect_option
@session_options
@click.pass_obj
def set_reservation(
    session: Session,
    /,
    reservation_id: str,
    namespace: str,
    labels: tuple[str, ...],
    begin: str,
    end: str,
    **fields: Any,
) -> None:
    """Make it, or make it another one, of which all is as given here.

    It is of the agents that are all that is given, and of every agent where nothing is. Times are such as
    2026-12-24T18:00+01:00, in UTC without an offset, or +2h from now.
    """
    fields |= {"labels": dict(_label(one) for one in labels)}
    fields |= {"begin_ms": _unix_ms("--begin", begin), "end_ms": _unix_ms("--end", end)}
    with session.client() as client:
        session.show(views.reservation(client.reservations.set(reservation_id, namespace, **fields)))


@reservation.command()
@click.argument("reservation_id")
@expect_option
@session_options
@click.pass_obj
def remove(session: Session, reservation_id: str, expect: int | None) -> None:
    """Keep its slots no more."""
    with session.client() as client:
        client.reservations.remove(reservation_id, expect=expect)
    session.show({"id": reservation_id, "removed": True})


def _label(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise click.UsageError(f"--label {given!r}: give NAME=VALUE")
    return name, value


def _unix_ms(option: str, given: str) -> int:
    """0 if nothing is given."""
    if not given:
        return 0
    if (found := _FROM_NOW.fullmatch(given)) is not None:
        return time.time_ns() // 1_000_000 + int(found[1]) * _UNITS[found[2]] * 1_000
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise click.UsageError(
            f"{option} {given!r} is no time: give one such as 2026-12-24T18:00+01:00, or +2h"
        ) from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)


def _row(view: views.View) -> views.View:
    where = {name: view[name] for name in ("zone", "group", "agents", "labels") if view[name]}
    times = {name: _shown(view[f"{name}_ms"]) for name in ("begin", "end")}
    slots = "all" if view["slots"] is None else view["slots"]
    return view | times | {"where": where, "slots": slots, "agents": view["covered"]}


def _shown(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1_000, UTC).isoformat(timespec="seconds") if unix_ms else ""
