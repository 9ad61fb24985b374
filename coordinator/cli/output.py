"""What the programs print: JSON for programs, tables for people, errors to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum

import click
from rich.console import Console
from rich.table import Table

from coordinator.cli.exits import Failure

Record = Mapping[str, object]


class Format(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"


def print_json(value: object) -> None:
    """One line of JSON on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))


def note(record: Record) -> None:
    """One object as a line on stderr, beside the content on stdout."""
    click.echo(" ".join(f"{name}={value}" for name, value in record.items()), err=True)


def print_record(record: Record) -> None:
    """One object, a line per field."""
    print_rows(["field", "value"], [[name, cell(value)] for name, value in record.items()])


def print_table(records: Sequence[Record], columns: Sequence[str]) -> None:
    """Some fields of many objects, a line per object."""
    print_rows(columns, [[cell(record[column]) for column in columns] for record in records])


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A framed table in a terminal; elsewhere plain columns, which nothing wraps or cuts."""
    if sys.stdout.isatty():
        table = Table(*columns)
        for row in rows:
            table.add_row(*(value.replace("[", "\\[") for value in row))
        Console().print(table)
        return
    widths = [max(len(row[position]) for row in [columns, *rows]) for position in range(len(columns))]
    for row in [columns, *rows]:
        line = "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def cell(value: object) -> str:
    """A value as a table shows it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={cell(inner)}" for name, inner in value.items()) or "-"
    if isinstance(value, list | tuple):
        return " ".join(cell(inner) for inner in value) or "-"
    return str(value)


def print_error(error: Failure, program: str, format: Format) -> None:  # noqa: A002 - the option's name
    """An error on stderr: a sentence for people, `{"error": {"reason", "message", ...}}` for programs."""
    if format is Format.JSON:
        detail = {
            "reason": error.reason,
            "message": error.message,
            "fields": error.fields,
            "retry_after_ms": error.retry_after_ms,
        }
        click.echo(json.dumps({"error": detail}, ensure_ascii=False), err=True)
    else:
        click.echo(f"{program}: {error.message} ({error.reason})", err=True)
