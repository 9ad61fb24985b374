"""`python -m chaos`: drills on real processes. Exit codes: 0 every promise held, 1 one was broken, 2 a drill
could not be carried out."""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console

from agent_sdk import QuorumflowError
from chaos.drills import catalogue
from chaos.drills.drill import run
from chaos.drills.stage import missing
from chaos.plan import Plan
from chaos.report import terminal
from chaos.report.files import write_report
from coordinator.errors import CoordinatorError

ALL: Final = "all"
_HELD, _BROKEN, _IMPOSSIBLE = 0, 1, 2
_LONGEST_S: Final = 7 * 86_400.0
_ROUND_S: Final = 60.0
"""More than any fault takes with what follows it, where rounds are counted and not time."""
_SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0}


def seconds(text: str) -> float:
    """A number of seconds, or 90s, 15m, 2h."""
    number = text.rstrip("smh")
    try:
        value = float(number) * _SECONDS[text[len(number) :]]
    except (ValueError, KeyError):
        value = 0.0
    if not 0 < value <= _LONGEST_S:
        raise click.BadParameter(f"{text!r} is not a duration such as 90, 90s, 15m or 2h, of at most a week")
    return value


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Break clusters of real processes, measure how they take it, and check what became of the work."""


@main.command("list")
def list_drills() -> None:
    """List the drills."""
    for name in catalogue.names():
        plan = catalogue.find(name)
        reason = missing(plan)
        click.echo(f"{name:<18} {plan.summary}{f' (not here: {reason})' if reason else ''}")


@main.command("run")
@click.argument("what", metavar="NAME|all|PLAN.yaml")
@click.option("--duration", "duration_s", type=seconds, metavar="TIME", help="While faults strike: 90s, 15m.")
@click.option(
    "--rounds", type=click.IntRange(1, 10_000), help="Faults of each track; as many as fit by default."
)
@click.option("--seed", type=int, help="Of what is drawn; a new one by default.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Keep reports, logs and state here."
)
@click.option("--endpoints", default="", help="host:port,... of a cluster that runs already.")
@click.option("--untimed", is_flag=True, help="Judge what was promised, not how long anything took.")
def run_command(
    what: str,
    duration_s: float | None,
    rounds: int | None,
    seed: int | None,
    out: Path | None,
    endpoints: str,
    untimed: bool,
) -> None:
    """Carry out a drill, all of them, or the plan in a file, and say whether every promise held."""
    console = Console()
    seed = random.randrange(1 << 32) if seed is None else seed  # noqa: S311 - a drill
    addresses = [one.strip() for one in endpoints.split(",") if one.strip()]
    try:
        plans = [catalogue.find(name) for name in (catalogue.names() if what == ALL else [what])]
    except CoordinatorError as error:
        console.print(f"[red]{error}[/red]")
        sys.exit(_IMPOSSIBLE)
    codes = []
    with _folder(out) as folder:
        for plan in plans:
            if reason := missing(plan, existing=bool(addresses)):
                console.print(f"[yellow]{plan.name} is left out: {reason}[/yellow]")
                codes.append(_HELD if what == ALL else _IMPOSSIBLE)
            else:
                adjusted = _adjusted(plan, duration_s, rounds, untimed)
                place = folder / plan.name
                codes.append(_carry_out(console, adjusted, place, seed, addresses, kept=out is not None))
    sys.exit(max(codes))


def _carry_out(
    console: Console, plan: Plan, folder: Path, seed: int, endpoints: list[str], *, kept: bool
) -> int:
    """The exit code of one drill."""
    console.rule(plan.name)
    console.print(f"{plan.summary} Seed {seed}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        outcome = run(
            plan,
            folder,
            seed=seed,
            endpoints=endpoints,
            on_incident=lambda one: console.print(terminal.line(one), soft_wrap=True),
        )
    except (CoordinatorError, QuorumflowError, OSError) as error:
        console.print(f"[red]{plan.name} could not be carried out: {error}[/red]")
        return _IMPOSSIBLE
    terminal.show(console, outcome)
    files = write_report(outcome, folder)
    if kept:
        console.print("see " + " and ".join(map(str, files)), soft_wrap=True)
    return _HELD if outcome.held else _BROKEN


def _adjusted(plan: Plan, duration_s: float | None, rounds: int | None, untimed: bool) -> Plan:
    """The plan, as far as the command line overrules it."""
    if untimed:
        plan = msgspec.structs.replace(plan, limits=[], elections=None)
    if rounds is not None:
        tracks = [msgspec.structs.replace(track, rounds=rounds) for track in plan.tracks]
        plan = msgspec.structs.replace(plan, tracks=tracks, duration_s=rounds * _ROUND_S)
    return plan if duration_s is None else msgspec.structs.replace(plan, duration_s=duration_s)


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """Where the drills work: for good where that was asked for, else as long as they last."""
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="quorumflow-drill-") as scratch:
        yield Path(scratch)


if __name__ == "__main__":
    main()
