"""`coordctl groups`: agents by group, as the global layer of placement sees them."""

from __future__ import annotations

from typing import Final

import click

from coordinator.cli import views
from coordinator.cli.output import Format, print_json, print_table
from coordinator.cli.session import Session, session_options

_COLUMNS: Final = [
    "group", "agents", "accepting", "slots", "free_slots", "held", "held_s", "load", "wait_s", "speed",
    "busy_watts", "free_cores", "free_memory_bytes",
]  # fmt: skip


@click.command()
@session_options
@click.pass_obj
def groups(session: Session) -> None:
    """Show the groups of agents: who accepts tasks, what is free, how loaded they are.

    An agent is in the groups that it names, else in that of its zone; or, where scheduling.group_by names a
    label, in that of its value.
    """
    with session.client() as client:
        found = [views.group(one) for one in client.groups()]
    if session.output is Format.JSON:
        print_json({"groups": found})
    else:
        print_table([_row(view) for view in found], _COLUMNS)


def _row(view: views.View) -> views.View:
    free = view["free"]
    return view | {
        "group": view["group"] or "(none)",
        "free_cores": free["milli_cores"] / 1_000,
        "free_memory_bytes": free["memory_bytes"],
    }
