"""`coordctl decisions`, and what `coordctl explain` prints for people."""

from __future__ import annotations

from typing import Final

import click

from agent_sdk.types import Decision, Explanation
from coordinator.cli import views
from coordinator.cli.output import Format, cell, print_json, print_record, print_table
from coordinator.cli.session import Session, session_options

_TABLES: Final = {
    "refusals": ["reason", "agents", "example_agent", "detail"],
    "near_misses": ["agent_id", "reason", "detail"],
    "groups": ["name", "agents", "capable", "feasible", "refused"],
}


@click.command()
@click.option("--follow", is_flag=True, help="Go on with what is decided from now on.")
@session_options
@click.pass_obj
def decisions(session: Session, follow: bool) -> None:
    """Print what placement has decided of late, one decision a line: rounds, second attempts and what had to
    make room, and parameters that were adapted, with the reason."""
    with session.client() as client:
        for one in client.decisions(follow=follow):
            if session.output is Format.JSON:
                print_json(views.decision(one))
            else:
                click.echo(_line(one))


def print_explanation(view: views.View, found: Explanation) -> None:
    """The facts, and below them a table of each kind that there is."""
    tables = {name: view.pop(name) for name in _TABLES}
    del view["assignments"]
    print_record(view)
    for name, rows in tables.items():
        # A lone group says no more than the record.
        if rows and (name != "groups" or len(rows) > 1):
            print_table(rows, _TABLES[name])
    for one in found.assignments:
        print_record(views.assignment(one))
        print_table(views.candidates(one), ["agent", "cost", "terms", "lost"])


def _line(one: Decision) -> str:
    facts = " ".join(f"{name}={cell(value)}" for name, value in one.facts.items())
    return f"{one.term}/{one.number} {one.at_ms} {one.kind} {facts}"
