"""The report on the terminal."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from chaos.drills.drill import Outcome
from chaos.drills.incident import Incident, summary
from chaos.plan import MEASURES

_PROBLEMS = 5


def line(one: Incident) -> str:
    """One fault, as soon as it is overcome."""
    note = f" ({one.note})" if one.note else ""
    back = (
        "no write was acknowledged"
        if one.acknowledged_ms is None
        else f"write after {one.acknowledged_ms} ms"
    )
    given = "nothing was assigned" if one.assigned_ms is None else f"assignment after {one.assigned_ms} ms"
    problem = f"; {one.problem}" if one.problem else ""
    return f"{one.fault} on {one.victims}{note}: {back}, {given}; {one.leader_after} leads{problem}"


def show(console: Console, outcome: Outcome) -> None:
    """All faults, what they cost by kind, and the verdict."""
    console.print(_table(outcome.incidents))
    for check in outcome.checks:
        word = "held  " if check.held else "BROKEN"
        console.print(f"{word}  {check.promise}: {check.found}", markup=False, soft_wrap=True)
    done = f"{len(outcome.acknowledged)} workflows, {outcome.tasks} tasks, {outcome.elections} elections"
    console.print(f"{done}, seed {outcome.seed}")
    for problem in outcome.problems[:_PROBLEMS]:
        console.print(problem, markup=False, soft_wrap=True)


def _table(incidents: list[Incident]) -> Table:
    names = ("write", "assigned", "begun", "pause", "recovered")
    table = Table("fault", "times", *names, title="ms: median, worst", box=SIMPLE, padding=0)
    for kind in sorted({one.fault for one in incidents}):
        those = [one for one in incidents if one.fault == kind]
        columns = [[one.measured(measure) for one in those] for measure in MEASURES]
        columns.append([one.recovered_ms for one in those])
        table.add_row(kind, str(len(those)), *(_cell(column) for column in columns))
    return table


def _cell(values: list[int | None]) -> str:
    found = summary([value for value in values if value is not None])
    return "-" if found is None else f"{found[0]:.0f}, {found[1]}"
