"""The report of a suite: what was measured, on what and with what."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
import msgspec

from bench.figures import Figure, Kind
from bench.machine import machine, versions

RESULTS: Final = Path(__file__).parent / "results"
"""Where reports go, unless another file is named."""


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Its JSON form is what other programs read. With a `scale` other than 1 the figures are no
    measurement."""

    machine: dict[str, str | int | float]
    versions: dict[str, str]
    workloads: dict[str, Figure]
    scale: float = 1.0


def begin() -> Report:
    """A report without figures yet; prints what it has."""
    report = Report(machine=machine(), versions=versions(), workloads={})
    click.echo("machine: " + ", ".join(f"{name} {fact}" for name, fact in report.machine.items()))
    click.echo("versions: " + ", ".join(f"{name} {fact}" for name, fact in report.versions.items()))
    return report


def add(report: Report, found: Mapping[Kind, Figure], per: str) -> None:
    """Take up the figures of a workload, and print them; they share what `per` task or write they cost."""
    for kind, figure in found.items():
        click.echo(f"{kind.key:11} {kind.title:40} {figure}")
        report.workloads[kind.key] = figure
    if cost := next(iter(found.values())).cost(per):
        click.echo(f"{'':11} {cost}")


def write(report: Report, file: Path) -> None:
    """As JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    click.echo(f"written to {file}")


def new_file(name: str, suffix: str = "json") -> Path:
    """Where to put something of this moment: NAME-TIME.SUFFIX among the results."""
    return RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.{suffix}"
