"""`python -m chaos.sim`: worlds from seeds. Exit codes: 0 every promise held, 1 one was broken, 3 every
promise held and some kind of fault never came about."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import count

import click
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from chaos.sim.batch import Totals, run_all
from chaos.sim.failures import Failures, show_plan
from chaos.sim.plan import draw
from chaos.sim.reduction import only
from chaos.sim.run import Result, run

_COVERED_FROM = 200
"""So many seeds must bring every kind of fault about."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, help="How many to run.")
@click.option("--from", "first", type=click.IntRange(0), default=1, show_default=True, help="The first one.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes.")
@click.option("--seed", type=click.IntRange(0), help="Run this one alone, and print its trace.")
@click.option("--faults", help="Of that seed's faults only those with these numbers: 0,3,17.")
@click.option("--forever", is_flag=True, help="Go on until stopped.")
@click.option(
    "--shrink-s",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds to spend on cutting down the schedules of seeds that fail, all together.",
)
def main(
    seeds: int, first: int, jobs: int, seed: int | None, faults: str | None, forever: bool, shrink_s: float
) -> None:
    """Run whole clusters, agents and clients in one process on virtual time, with faults, and check every
    promise."""
    console = Console(highlight=False, soft_wrap=True)
    if seed is not None:
        sys.exit(_show_one(console, seed, faults))
    asked: Iterable[int] = count(first) if forever else range(first, first + seeds)
    totals = Totals()
    failures = Failures(console, shrink_s)
    try:
        run_all(asked, jobs, totals, lambda result: _tell(console, totals, failures, result))
    except KeyboardInterrupt:
        console.print("stopped")
    _show(console, totals)
    uncovered = totals.missing and totals.seeds >= _COVERED_FROM
    sys.exit(1 if totals.failed else 3 if uncovered else 0)


def _show_one(console: Console, seed: int, faults: str | None) -> int:
    plan = draw(seed)
    if faults is not None:
        plan = only(plan, _numbers(faults, len(plan.faults)))
    result = run(plan, keep_trace=True)
    for line in result.last_events:
        console.print(line, markup=False)
    show_plan(console, plan)
    for violation in result.violations:
        console.print(f"BROKEN  {violation}", markup=False)
    console.print(f"seed {seed}: {result.virtual_s:.1f} virtual seconds, trace {result.digest}")
    return 1 if result.violations else 0


def _numbers(faults: str, count_faults: int) -> list[int]:
    try:
        numbers = [int(number) for number in faults.split(",") if number]
    except ValueError:
        raise click.BadParameter(f"{faults!r} is not a list of numbers like 0,3,17") from None
    if any(not 0 <= number < count_faults for number in numbers):
        raise click.BadParameter(f"{faults!r} has numbers beyond the schedule's, 0 to {count_faults - 1}")
    return numbers


def _tell(console: Console, totals: Totals, failures: Failures, result: Result) -> None:
    """Whatever is worth knowing before the end."""
    if result.violations:
        failures.tell(result)
    elif totals.seeds % 100 == 0:
        console.print(f"{totals.seeds} seeds, {totals.seeds_per_s:.2f} a second, {len(totals.failed)} failed")


def _show(console: Console, totals: Totals) -> None:
    table = Table("faults", "", "what followed", "", box=SIMPLE)
    faults, events = sorted(totals.faults.items()), sorted(totals.events.items())
    for row in range(max(len(faults), len(events))):
        fault = faults[row] if row < len(faults) else ("", "")
        event = events[row] if row < len(events) else ("", "")
        table.add_row(fault[0], str(fault[1]), event[0], str(event[1]))
    console.print(table)
    if totals.missing:
        console.print(f"never brought about: {', '.join(totals.missing)}")
    pace = f"{totals.seeds_per_s:.2f} a second, {totals.virtual_s / 3600:.2f} virtual hours"
    console.print(f"{totals.seeds} seeds, {pace}; failed: {', '.join(map(str, totals.failed)) or 'none'}")


if __name__ == "__main__":
    main()
