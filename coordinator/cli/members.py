"""`coordctl member`: who belongs to the cluster, and changes of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import click

from agent_sdk import Client
from agent_sdk.errors import NotFound
from agent_sdk.types import MemberStatus
from coordinator.cli import views
from coordinator.cli.output import Format, print_json, print_table
from coordinator.cli.session import Session, session_options

_COLUMNS: Final = ["id", "kind", "leader", "connected", "lag", "promote", "raft", "grpc", "incarnation"]

Command = TypeVar("Command", bound=Callable[..., Any])


def address_options(command: Command) -> Command:
    """`--raft` and `--grpc`."""
    for flag, what in (("--grpc", "clients and agents"), ("--raft", "the other nodes")):
        command = click.option(
            flag, required=True, metavar="HOST:PORT", help=f"Where {what} reach the node."
        )(command)
    return command


@click.group()
def member() -> None:
    """Who belongs to the cluster. Changes are made one at a time, and may be repeated safely."""


@member.command(name="list")
@session_options
@click.pass_obj
def list_members(session: Session) -> None:
    """List voters and learners, with what each lacks of the leader's log."""
    with session.client() as client:
        _show(session, client.members.list())


@member.command()
@click.argument("node_id")
@address_options
@click.option("--promote", is_flag=True, help="Let it vote as soon as it has caught up.")
@session_options
@click.pass_obj
def add(session: Session, node_id: str, raft: str, grpc: str, promote: bool) -> None:
    """Add a node as a learner. It starts with an empty data folder and join=true."""
    with session.client() as client:
        _show(session, client.members.add(node_id, raft, grpc, promote=promote))


@member.command()
@click.argument("node_id")
@session_options
@click.pass_obj
def promote(session: Session, node_id: str) -> None:
    """Make a learner that has caught up a voter."""
    with session.client() as client:
        _show(session, client.members.promote(node_id))


@member.command()
@click.argument("node_id")
@session_options
@click.pass_obj
def remove(session: Session, node_id: str) -> None:
    """Remove a node, be it the leader. It stops by itself once it hears of it."""
    with session.client() as client:
        _known(client, node_id)
        _show(session, client.members.remove(node_id))


@member.command()
@click.argument("dead")
@click.argument("new")
@click.option("--raft", metavar="HOST:PORT", help="Of NEW; by default where DEAD was.")
@click.option("--grpc", metavar="HOST:PORT", help="Of NEW; by default where DEAD was.")
@session_options
@click.pass_obj
def replace(session: Session, dead: str, new: str, raft: str | None, grpc: str | None) -> None:
    """Put NEW in the place of DEAD: it votes as soon as it has caught up.

    NEW may be DEAD itself, whose disk was wiped or exchanged.
    """
    with session.client() as client:
        former = _known(client, dead, new)
        there = raft or former.raft_address, grpc or former.grpc_address
        _show(session, client.members.replace(dead, new, *there))


@member.command()
@click.argument("node_id")
@click.option("--raft", default="", metavar="HOST:PORT", help="Where the other nodes reach it now.")
@click.option("--grpc", default="", metavar="HOST:PORT", help="Where clients and agents reach it now.")
@session_options
@click.pass_obj
def update(session: Session, node_id: str, raft: str, grpc: str) -> None:
    """Tell the cluster that a node has other addresses."""
    if not raft and not grpc:
        raise click.UsageError("give --raft, --grpc or both")
    with session.client() as client:
        _show(session, client.members.update(node_id, raft=raft, grpc=grpc))


@member.command()
@click.argument("target", default="")
@session_options
@click.pass_obj
def transfer(session: Session, target: str) -> None:
    """Hand leadership to TARGET, or to the most caught-up voter."""
    with session.client() as client:
        session.show({"leader": client.members.transfer(target)})


def _known(client: Client, *node_ids: str) -> MemberStatus:
    """The first of these that is a member. Raises NotFound: the name is misspelt, or all is done already."""
    members = {one.id: one for one in client.members.list()}
    for node_id in node_ids:
        if node_id in members:
            return members[node_id]
    raise NotFound(
        f"there is no member {node_ids[0]!r}; there are {', '.join(members)}. If it was one, it has left",
        fields={"node": node_ids[0]},
    )


def _show(session: Session, members: Iterable[MemberStatus]) -> None:
    rows = [views.member(one) for one in members]
    if session.output is Format.JSON:
        print_json({"members": rows})
    else:
        print_table(rows, _COLUMNS)
