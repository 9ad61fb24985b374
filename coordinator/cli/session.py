"""What holds for one run of `coordctl`: whom to ask, for how long, and how to print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from agent_sdk import Client
from coordinator.cli.output import Format, Record, print_json, print_record

CALL_TIMEOUT_S: Final = 30.0
DEFAULT_ENDPOINTS: Final = "127.0.0.1:7400"

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Session:
    """What holds for one run of the program. No `timeout_s`: `CALL_TIMEOUT_S` for a call, none for a wait."""

    endpoints: str = DEFAULT_ENDPOINTS
    output: Format = Format.TABLE
    timeout_s: float | None = None

    def client(self) -> Client:
        """A client of the cluster; close it."""
        return Client(self.endpoints, timeout_s=self.timeout_s or CALL_TIMEOUT_S)

    def show(self, view: Record) -> None:
        """Print one object."""
        print_json(view) if self.output is Format.JSON else print_record(view)


def session_options(command: Command, *, variable: str | None = None) -> Command:
    """`--endpoints`, `--output`, `--timeout`: each may stand before or after the command's name."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        session = ctx.ensure_object(Session)
        if value is not None:
            setattr(session, str(parameter.name), Format(value) if parameter.name == "output" else value)

    shared: dict[str, Any] = {"expose_value": False, "is_eager": True, "callback": remember}
    options = (
        click.option("--endpoints", envvar=variable, metavar="HOST:PORT,...", help="Nodes to ask.", **shared),
        click.option("--output", type=click.Choice(list(map(str, Format))), help="How to print.", **shared),
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(min=0, min_open=True),
            help="Seconds until giving up; by default 30 for a call, and none for --wait.",
            **shared,
        ),
    )
    for option in options:
        command = option(command)
    return command


def stale_option(command: Command) -> Command:
    """`--stale`, of commands that read."""
    return click.option(
        "--stale",
        "--allow-stale",
        "stale",
        is_flag=True,
        help="Take what the first node that answers knows, led or not, and say how old it may be.",
    )(command)


def root_options(command: Command) -> Command:
    """The same for the program itself, where the environment counts too."""
    return session_options(command, variable="COORDCTL_ENDPOINTS")
