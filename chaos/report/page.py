"""The report as one page of HTML that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Final

import msgspec
import yaml

from chaos.checking.promises import Check
from chaos.drills.drill import Outcome
from chaos.drills.incident import Incident, summary
from chaos.plan import MEASURES
from chaos.report.svg import clock
from chaos.report.timeline import timeline

_STYLE: Final = Path(__file__).with_name("style.css")
_WORST_SHOWN_MS: Final = 3_000
"""A bar as long as its cell."""
_LEAST_SHOWN: Final = 0.08
"""The share of it below which a bar would be a speck."""
_FOLDED: Final = 60
"""More faults than this are listed when the reader asks for them."""
_PROBLEMS: Final = 20
_HEADINGS: Final = ("next write", "next assignment", "next beginning", "longest pause", "caught up")
_LEGEND: Final = (
    '<p class="legend"><span><i class="hurt leader"></i>hits the leader</span>'
    '<span><i class="hurt"></i>hits others</span><span><i class="recovering"></i>until caught up</span>'
    '<span><i class="tasks"></i>tasks completed</span><span><i class="writes"></i>workflows accepted</span>'
    '<span><i class="slow"></i>answers after 250 ms and more</span></p>'
)


def page(outcome: Outcome, surroundings: str) -> str:
    """The whole document; `surroundings` is a line on where it was found."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(outcome.plan.name)} - Quorumflow drill</title>
<style>{_STYLE.read_text()}</style></head><body><main>
{_head(outcome)}
{_figures(outcome)}
<section><h2>What happened</h2><div class="wide">{timeline(outcome)}</div>{_LEGEND}</section>
<section><h2>Promises</h2>{_promises(outcome.checks)}{_problems(outcome.problems)}</section>
<section><h2>What each kind of fault cost, median and worst</h2>{_kinds(outcome.incidents)}</section>
<section>{_faults(outcome)}</section>
<section><details><summary>The plan</summary><pre>{escape(_plan(outcome))}</pre></details></section>
<footer>{escape(surroundings)}</footer>
</main></body></html>
"""


def _head(outcome: Outcome) -> str:
    word, kind = ("Held", "good") if outcome.held else ("Broken", "bad")
    began = datetime.fromtimestamp(outcome.began_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f'<header><div><h1>{escape(outcome.plan.name)}</h1><p class="lead">{escape(outcome.plan.summary)}</p>'
        f'<p class="quiet">{began}, seed {outcome.seed}</p></div>'
        f'<strong class="verdict {kind}">{word}</strong></header>'
    )


def _figures(outcome: Outcome) -> str:
    of_leader = [one for one in outcome.incidents if one.hit_leader and one.majority]
    figures = [
        ("faults", str(len(outcome.incidents))),
        ("duration", clock((outcome.ended_ms - outcome.began_ms) // 1000)),
        ("workflows accepted", f"{len(outcome.acknowledged):,}"),
        ("tasks completed", f"{len(outcome.completions_ms):,}"),
        ("client calls failed", str(len(outcome.problems))),
        ("elections", str(outcome.elections)),
        ("leader lost to next write, median and worst", _pair([one.acknowledged_ms for one in of_leader])),
        ("leader lost to next assignment, median and worst", _pair([one.assigned_ms for one in of_leader])),
    ]
    cells = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in figures
    )
    return f'<section class="figures">{cells}</section>'


def _promises(checks: Sequence[Check]) -> str:
    rows = "".join(
        f'<tr><td class="{"good" if check.held else "bad"}">{"held" if check.held else "broken"}</td>'
        f"<td>{escape(check.promise)}</td><td class=quiet>{escape(check.found)}</td></tr>"
        for check in sorted(checks, key=lambda check: check.held)
    )
    return f'<div class="wide"><table class="promises">{rows}</table></div>'


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems[:_PROBLEMS])
    return f"<details open><summary>{len(problems)} calls failed</summary><ul>{items}</ul></details>"


def _kinds(incidents: Sequence[Incident]) -> str:
    rows = []
    for kind in sorted({one.fault for one in incidents}):
        those = [one for one in incidents if one.fault == kind]
        columns = [[one.measured(measure) for one in those] for measure in MEASURES]
        columns.append([one.recovered_ms for one in those])
        cells = "".join(f'<td class="number">{_pair(column)}</td>' for column in columns)
        rows.append(f'<tr><td>{escape(kind)}</td><td class="number">{len(those)}</td>{cells}</tr>')
    head = "".join(f"<th>{name}</th>" for name in ("fault", "times", *_HEADINGS))
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _faults(outcome: Outcome) -> str:
    rows = "".join(_fault(outcome, one) for one in outcome.incidents)
    names = ("at", "fault", "on", "held for", *_HEADINGS, "leader")
    head = "".join(f"<th>{name}</th>" for name in names)
    table = f'<div class="wide"><table class="faults"><tr>{head}</tr>{rows}</table></div>'
    if len(outcome.incidents) <= _FOLDED:
        return f"<h2>Every fault</h2>{table}"
    return f"<details><summary>Every fault</summary>{table}</details>"


def _fault(outcome: Outcome, one: Incident) -> str:
    leaders = dict.fromkeys((one.leader_before, one.leader_after))
    problem = f'<div class="bad">{escape(one.problem)}</div>' if one.problem else ""
    note = f'<div class="quiet">{escape(one.note)}</div>' if one.note else ""
    cells = "".join(_bar(one.measured(measure)) for measure in MEASURES)
    kind = "hurt leader" if one.hit_leader else "hurt"
    return (
        f'<tr><td class="number">{clock((one.at_ms - outcome.began_ms) // 1000)}</td>'
        f'<td><i class="{kind}"></i>{escape(one.fault)}{note}{problem}</td>'
        f'<td>{escape(one.victims)}</td><td class="number">{_ms(one.healed_ms - one.at_ms)}</td>{cells}'
        f'<td class="number">{_ms(one.recovered_ms)}</td><td>{escape(" → ".join(leaders))}</td></tr>'
    )


def _bar(value: int | None) -> str:
    if value is None:
        return '<td class="number quiet">-</td>'
    share = min(1.0, value / _WORST_SHOWN_MS)
    bar = f' bar" style="--share:{share:.3f}' if share >= _LEAST_SHOWN else ""
    return f'<td class="number{bar}">{_ms(value)}</td>'


def _pair(values: Sequence[int | None]) -> str:
    """Median and worst; one alone is both."""
    known = [value for value in values if value is not None]
    found = summary(known)
    if found is None:
        return "-"
    return _ms(found[1]) if len(known) == 1 else f"{_ms(found[0])} · {_ms(found[1])}"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 1_000 else f"{value / 1000:.1f} s"


def _plan(outcome: Outcome) -> str:
    text: str = yaml.safe_dump(msgspec.to_builtins(outcome.plan), sort_keys=False)
    return text
