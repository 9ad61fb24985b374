"""`python -m chaos`: drills on real processes. Exit codes: 0 every promise held, 1 one was broken, 2 the
drill could not be carried out."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from agent_sdk import QuorumflowError
from chaos.drills import leader_kill
from coordinator.errors import CoordinatorError

_DURATIONS: Final = ("assigned_ms", "begun_ms", "acknowledged_ms", "caught_up_ms")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Break clusters of real processes, measure how they take it, and check what became of the work."""


@main.command("list")
@click.pass_context
def list_drills(context: click.Context) -> None:
    """List the drills."""
    for name, command in main.commands.items():
        if command is not context.command:
            click.echo(f"{name:<14} {command.get_short_help_str(100)}")


@main.command("leader-kill")
@click.option("--rounds", type=click.IntRange(1, 1_000), default=10, show_default=True)
@click.option(
    "--limit-ms", type=click.IntRange(1), default=1_500, show_default=True, help="To the next assignment."
)
@click.option("--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Of the cluster.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write it here.")
def leader_kill_command(rounds: int, limit_ms: int, directory: Path | None, json_file: Path | None) -> None:
    """Kill the leader under load, again and again; time to the next assignment and acknowledgement."""
    console = Console()
    began = _surroundings()
    try:
        with tempfile.TemporaryDirectory(prefix="quorumflow-drill-") as scratch:
            report = leader_kill.run(
                directory or Path(scratch),
                rounds=rounds,
                limit_ms=limit_ms,
                on_round=lambda one: console.print(_line(one)),
            )
    except (CoordinatorError, QuorumflowError) as error:
        console.print(f"[red]{error}[/red]")
        sys.exit(2)
    _show(console, report)
    if json_file is not None:
        content = {"surroundings": began, "held": report.held, **asdict(report), **_figures(report)}
        content["checks"] = [check._asdict() for check in report.checks]
        json_file.write_text(json.dumps(content, indent=2) + "\n")
    sys.exit(0 if report.held else 1)


def _line(one: leader_kill.Round) -> str:
    return f"killed {one.killed}, {one.successor} leads: next assignment after {one.assigned_ms} ms"


def _show(console: Console, report: leader_kill.Report) -> None:
    headings = ("round", "killed", "successor", "running", "assigned", "begun", "acked", "caught up")
    table = Table(*headings, title="ms after the kill; caught up: after the restart", box=SIMPLE)
    for number, one in enumerate(report.rounds, start=1):
        values = (one.running, *(getattr(one, name) for name in _DURATIONS))
        table.add_row(str(number), one.killed, one.successor, *map(str, values))
    table.add_section()
    for name, figures in _figures(report).items():
        table.add_row(name, "", "", "", *(f"{value:.0f}" for value in figures.values()))
    console.print(table)
    for check in report.checks:
        console.print(f"{'held  ' if check.held else 'BROKEN'}  {check.promise}: {check.found}")
    console.print(f"{report.dags} workflows, {report.tasks} tasks; {len(report.problems)} without an answer")
    for problem in report.problems[:5]:
        console.print(problem)


def _figures(report: leader_kill.Report) -> dict[str, dict[str, float]]:
    """Median and worst of each duration, in ms."""
    columns = {name: [getattr(one, name) for one in report.rounds] for name in _DURATIONS}
    return {
        "median": {name: median(values) for name, values in columns.items()},
        "worst": {name: max(values) for name, values in columns.items()},
    }


def _surroundings() -> dict[str, object]:
    return {
        "version": version("quorumflow"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load_average_before": os.getloadavg(),
    }


if __name__ == "__main__":
    main()
