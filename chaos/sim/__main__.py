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
from chaos.sim.plan import draw
from chaos.sim.run import Result, run

_LAST_EVENTS = 40
_COVERED_FROM = 300
"""So many seeds must bring every kind of fault about."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, help="How many to run.")
@click.option("--from", "first", type=click.IntRange(0), default=1, show_default=True, help="The first one.")
@click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes.")
@click.option("--seed", type=click.IntRange(0), help="Run this one alone, and print its trace.")
@click.option("--forever", is_flag=True, help="Go on until stopped.")
def main(seeds: int, first: int, jobs: int, seed: int | None, forever: bool) -> None:
    """Run whole clusters, agents and clients in one process on virtual time, with faults, and check every
    promise."""
    console = Console(highlight=False, soft_wrap=True)
    if seed is not None:
        sys.exit(_show_one(console, seed))
    asked: Iterable[int] = count(first) if forever else range(first, first + seeds)
    totals = Totals()
    try:
        run_all(asked, jobs, totals, lambda result: _tell(console, totals, result))
    except KeyboardInterrupt:
        console.print("stopped")
    _show(console, totals)
    uncovered = totals.missing and totals.seeds >= _COVERED_FROM
    sys.exit(1 if totals.failed else 3 if uncovered else 0)


def _show_one(console: Console, seed: int) -> int:
    result = run(draw(seed), keep_trace=True)
    for line in result.last_events:
        console.print(line, markup=False)
    _show_plan(console, result)
    for violation in result.violations:
        console.print(f"BROKEN  {violation}", markup=False)
    console.print(f"seed {seed}: {result.virtual_s:.1f} virtual seconds, trace {result.digest}")
    return 1 if result.violations else 0


def _tell(console: Console, totals: Totals, result: Result) -> None:
    """Whatever is worth knowing before the end."""
    if result.violations:
        console.print(f"seed {result.plan.seed} FAILED", style="red")
        for violation in result.violations[:10]:
            console.print(f"  {violation}", markup=False)
        _show_plan(console, result)
        console.print(f"  the last {_LAST_EVENTS} events:")
        for line in result.last_events[-_LAST_EVENTS:]:
            console.print(f"  {line}", markup=False)
        console.print(f"  again: python -m chaos.sim --seed {result.plan.seed}")
    elif totals.seeds % 100 == 0:
        console.print(f"{totals.seeds} seeds, {totals.seeds_per_s:.2f} a second, {len(totals.failed)} failed")


def _show_plan(console: Console, result: Result) -> None:
    plan = result.plan
    console.print(
        f"  {plan.nodes} nodes, {plan.agents} agents, {plan.clients} clients; {plan.raft}", markup=False
    )
    for fault in plan.faults:
        console.print(f"  {fault}", markup=False)


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
