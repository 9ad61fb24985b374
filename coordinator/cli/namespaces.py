"""`coordctl namespace`: weights, quotas and policies of namespaces."""

from __future__ import annotations

from typing import Final

import click

from agent_sdk.types import QUOTAS
from coordinator.cli import views
from coordinator.cli.output import Format, print_json, print_table
from coordinator.cli.session import Session, session_options

_COLUMNS: Final = ["name", "weight", "share", "attempts", "tasks", "dags", "policy", "quotas"]
_DIGITS: Final = 3


@click.group()
def namespace() -> None:
    """What namespaces may have. One is there as soon as a DAG names it, with a weight of 1 and no quota."""


@namespace.command(name="list")
@session_options
@click.pass_obj
def list_namespaces(session: Session) -> None:
    """List those that have settings or unfinished DAGs, with what they hold."""
    with session.client() as client:
        found = [views.namespace(one) for one in client.namespaces.list()]
    if session.output is Format.JSON:
        print_json({"namespaces": found})
    else:
        print_table([_row(view) for view in found], _COLUMNS)


@namespace.command()
@click.argument("name")
@session_options
@click.pass_obj
def show(session: Session, name: str) -> None:
    """Show one, with what it holds."""
    with session.client() as client:
        session.show(views.namespace(client.namespaces.get(name)))


@namespace.command(name="set")
@click.argument("name")
@click.option("--weight", type=float, help="Of its share, where several want more than there is.")
@click.option("--policy", help='How its DAGs are placed that name no policy; "" as the cluster has it.')
@click.option(
    "--quota",
    "quotas",
    multiple=True,
    metavar="NAME=LIMIT",
    help=f"One of {', '.join(QUOTAS)}; without a limit (attempts=) it is lifted. May be given several times.",
)
@session_options
@click.pass_obj
def set_namespace(
    session: Session, name: str, weight: float | None, policy: str | None, quotas: tuple[str, ...]
) -> None:
    """Set what is given, and leave the rest as it is."""
    if weight is None and policy is None and not quotas:
        raise click.UsageError("give --weight, --policy or --quota")
    limits = dict(_quota(one) for one in quotas)
    with session.client() as client:
        session.show(
            views.namespace(client.namespaces.set(name, weight=weight, policy=policy, quotas=limits))
        )


@namespace.command()
@click.argument("name")
@session_options
@click.pass_obj
def unset(session: Session, name: str) -> None:
    """Forget all that is set for a namespace."""
    with session.client() as client:
        session.show(views.namespace(client.namespaces.unset(name)))


def _quota(given: str) -> tuple[str, int | None]:
    quota, equals, limit = given.partition("=")
    if not equals or quota not in QUOTAS or not (limit.isdecimal() or not limit):
        raise click.UsageError(
            f"--quota {given!r}: give NAME=LIMIT, the name one of {', '.join(QUOTAS)}, the limit 0 or more"
        )
    return quota, int(limit) if limit else None


def _row(view: views.View) -> views.View:
    quotas = {quota: limit for quota, limit in view["quotas"].items() if limit is not None}
    return view | {"quotas": quotas, "share": round(view["share"], _DIGITS)}
