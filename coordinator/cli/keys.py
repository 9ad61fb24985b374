"""`coordctl kv`: the replicated key-value space from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from coordinator.cli import views
from coordinator.cli.output import Format, note, print_json, print_table
from coordinator.cli.session import Session, session_options, stale_option
from coordinator.errors import NotFound

_SHOWN_CHARS: Final = 60
"""Of a value in a table or a line of text."""

Command = TypeVar("Command", bound=Callable[..., Any])


def expect_option(command: Command) -> Command:
    """`--expect VERSION`."""
    return click.option(
        "--expect",
        type=click.IntRange(min=0),
        help="Only if the key is at this version; 0: only if it does not exist.",
    )(command)


@click.group()
def kv() -> None:
    """A small replicated key-value space."""


@kv.command()
@click.argument("key")
@click.argument("value", required=False)
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help='Take the value from this file; "-" is stdin.',
)
@expect_option
@session_options
@click.pass_obj
def put(session: Session, key: str, value: str | None, file: Path | None, expect: int | None) -> None:
    """Give KEY the VALUE, or what a file holds."""
    if (value is None) == (file is None):
        raise click.UsageError("give either VALUE or --file")
    data = _read(file) if file is not None else (value or "").encode()
    with session.client() as client:
        item = client.kv.put(key, data, expect=expect)
    session.show({"key": item.key, "version": item.version, "created": item.created})


@kv.command()
@click.argument("key")
@stale_option
@session_options
@click.pass_obj
def get(session: Session, key: str, stale: bool) -> None:
    """Print the value of KEY, byte for byte; as JSON with its version."""
    with session.client() as client:
        item = client.kv.get(key, allow_stale=stale)
    if item is None:
        raise NotFound(f"key {key!r} does not exist", key=key)
    if session.output is Format.JSON:
        print_json(views.key(item) | (views.freshness(item) if stale else {}))
        return
    sys.stdout.buffer.write(item.value)
    if stale:
        note(views.freshness(item))


@kv.command()
@click.argument("key")
@expect_option
@session_options
@click.pass_obj
def delete(session: Session, key: str, expect: int | None) -> None:
    """Remove KEY; to remove what is not there is no error."""
    with session.client() as client:
        session.show({"key": key, "deleted": client.kv.delete(key, expect=expect)})


@kv.command(name="range")
@click.argument("prefix", default="")
@stale_option
@session_options
@click.pass_obj
def list_keys(session: Session, prefix: str, stale: bool) -> None:
    """List the keys that begin with PREFIX, or all, in order."""
    with session.client() as client:
        items = [
            views.key(item) | (views.freshness(item) if stale else {})
            for item in client.kv.range(prefix, allow_stale=stale)
        ]
    if session.output is Format.JSON:
        print_json({"items": items})
    else:
        rows = [item | {"key": _printable(item["key"]), "value": _shown(item)} for item in items]
        columns = ["key", "version", "created", "value"]
        print_table(rows, [*columns, "stale", "age_ms"] if stale else columns)


@kv.command()
@click.argument("prefix", default="")
@click.option("--from-revision", type=click.IntRange(min=0), default=0, help="Replay from this version on.")
@session_options
@click.pass_obj
def watch(session: Session, prefix: str, from_revision: int) -> None:
    """Print changes of keys that begin with PREFIX, or of all, as they happen, one a line."""
    with session.client() as client:
        for change in client.kv.watch(prefix, from_revision):
            view = views.key_change(change)
            if session.output is Format.JSON:
                print_json(view)
            else:
                what = "deleted" if change.deleted else _shown(view)
                click.echo(f"{change.version} {_printable(change.key)} {what}")


def _read(file: Path) -> bytes:
    return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()


def _shown(view: views.View) -> str:
    """A value on a line: its beginning as text, unless it is not text."""
    if "value" not in view:
        return f"base64:{view['value_base64'][:_SHOWN_CHARS]}"
    value: str = view["value"]
    return _printable(value if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]}...")


def _printable(text: str) -> str:
    """Text that cannot move the cursor, or do worse to a terminal."""
    return text if text.isprintable() else repr(text)
