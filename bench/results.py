"""The report of a suite: what was measured, on what and with what."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from bench.figures import Figure, Kind
from bench.machine import machine, others, versions

RESULTS: Final = Path(__file__).parent / "results"
"""Where reports go, unless another file is named."""


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Its JSON form is what other programs read. `plan` is what was asked for beyond what each workload has
    by itself. With a `scale` other than 1 the figures are no measurement, and one that is not `complete` was
    broken off."""

    machine: dict[str, str | int | float]
    versions: dict[str, str]
    workloads: dict[str, Figure]
    plan: dict[str, float] = {}
    scale: float = 1.0
    complete: bool = True


def begin(plan: Mapping[str, float] | None = None) -> Report:
    """A report without figures yet; prints what it has, and warns of what runs already."""
    report = Report(machine=machine(), versions=versions(), workloads={}, plan=dict(plan or {}))
    click.echo("machine: " + ", ".join(f"{name} {fact}" for name, fact in report.machine.items()))
    click.echo("versions: " + ", ".join(f"{name} {fact}" for name, fact in report.versions.items()))
    if beside := others():
        report.machine["others"] = len(beside)
        click.echo(f"{len(beside)} nodes or agents run already and take their part: {beside}", err=True)
    return report


def add(report: Report, found: Mapping[Kind, Figure], per: str) -> None:
    """Take up the figures of a workload, and print them, those of one cost with what each task or write
    cost behind them."""
    for cost, alike in groupby(found.items(), key=lambda one: one[1].cost(per)):
        for kind, figure in alike:
            click.echo(f"{kind.key:11} {kind.title:40} {figure}")
            report.workloads[kind.key] = figure
        if cost:
            click.echo(f"{'':11} {cost}")


def write(report: Report, file: Path) -> None:
    """As JSON, if there is anything."""
    if not report.workloads:
        click.echo("nothing was measured, and nothing is written")
        return
    file.write_bytes(as_json(report))
    click.echo(f"written to {file}")


def as_json(report: object) -> bytes:
    """For people, too."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def new_file(name: str, suffix: str = "json") -> Path:
    """Where to put something of this moment: NAME-TIME.SUFFIX among the results."""
    return RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.{suffix}"


class Target(click.Path):
    """A file that will be written when all has been measured: that it can be is found out before. Its folder
    is made."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        file = Path(os.fsdecode(super().convert(value, param, ctx)))
        there = file.exists()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.open("ab").close()
        except OSError as error:
            self.fail(f"{file} cannot be written: {error.strerror}", param, ctx)
        if not there:
            file.unlink()
        return file


def json_option(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option `--json FILE` of a program whose reports have this name, as the argument `file`."""
    return click.option(
        "--json",
        "file",
        type=Target(),
        default=lambda: new_file(name),
        show_default=f"bench/results/{name}-TIME.json",
        help="Where the report goes.",
    )
