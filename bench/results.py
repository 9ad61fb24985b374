"""The report of a suite: what was measured, on what and with what."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec

from bench.figures import Figure, Kind
from bench.machine import machine, others, versions

RESULTS: Final = Path(__file__).parent / "results"
"""Where reports go, unless another file is named."""


class Report(msgspec.Struct, omit_defaults=True):
    """Its JSON form is what other programs read. `plan` is what was asked for beyond what each workload has
    by itself. With a `scale` other than 1 the figures are no measurement, and one that is not `complete` was
    broken off."""

    machine: dict[str, str | int | float]
    versions: dict[str, str]
    workloads: dict[str, Figure]
    plan: dict[str, float] = {}
    scale: float = 1.0
    complete: bool = True


class Facts(NamedTuple):
    """What was measured on, and with what."""

    machine: dict[str, str | int | float]
    versions: dict[str, str]


def facts(**more: str) -> Facts:
    """Those of now, with the versions of `more`; prints them, and warns of what runs already."""
    found = Facts(machine(), {**versions(), **more})
    for title, named in found._asdict().items():
        click.echo(f"{title}: " + ", ".join(f"{name} {fact}" for name, fact in named.items()))
    if beside := others():
        found.machine["others"] = len(beside)
        click.echo(f"{len(beside)} nodes or agents run already and take their part: {beside}", err=True)
    return found


def begin(plan: Mapping[str, float] | None = None) -> Report:
    """A report without figures yet, which is not complete before it is said to be."""
    return Report(*facts(), workloads={}, plan=dict(plan or {}), complete=False)


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
    save(report, file)


def save(report: object, file: Path) -> None:
    """As JSON that people can read too."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    click.echo(f"written to {file}")


def new_file(name: str, suffix: str = "json") -> Path:
    """Where to put something of this moment: NAME-TIME.SUFFIX among the results."""
    return RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.{suffix}"
