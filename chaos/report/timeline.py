"""The time line of a drill: who led, who was hurt when, what was done meanwhile and how fast."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final

from chaos.drills.drill import Outcome
from chaos.drills.incident import Incident
from chaos.report import svg
from chaos.report.svg import LEFT, RIGHT, WIDTH, TimeAxis

_ROW: Final = 20
_GAP: Final = 26
_CHART: Final = 110
_BINS: Final = 240
_SHORTEST_BIN_MS: Final = 250
_LATENCIES_MS: Final = (1, 10, 100, 1_000, 10_000)
_DOTS: Final = 6_000
"""More answers than this are thinned out; the slow ones are all shown."""
_SLOW_MS: Final = 250

COLOURS: Final = 9
"""Nodes have so many colours among them."""


def timeline(outcome: Outcome) -> str:
    """All of it above one axis of time."""
    axis = TimeAxis(outcome.began_ms, max(outcome.ended_ms, outcome.began_ms + 1_000))
    parts: list[str] = []
    top = 14.0
    top = _leaders(outcome, axis, top, parts)
    top = _victims(outcome, axis, top, parts)
    chart_top = top + _GAP
    parts += _throughput(outcome, axis, chart_top)
    latency_top = chart_top + _CHART + _GAP
    parts += _latency(outcome, axis, latency_top)
    bottom = latency_top + _CHART
    strikes = [
        svg.line(axis.x(one.at_ms), 14, axis.x(one.at_ms), bottom, "strike")
        for one in outcome.incidents
        if one.hit_leader
    ]
    label = "Time line of leaders, faults, throughput and the time of every answer"
    return svg.drawing(bottom + 28, [axis.grid(8, bottom), *strikes, *parts], label)


def colours(outcome: Outcome) -> dict[str, str]:
    """The CSS class of each node's colour."""
    return {node: f"n{at % COLOURS}" for at, node in enumerate(outcome.nodes)}


def _leaders(outcome: Outcome, axis: TimeAxis, top: float, parts: list[str]) -> float:
    parts.append(svg.text(LEFT - 12, top + 14, "leader", "row", "end"))
    colour = colours(outcome)
    ends = [at_ms for at_ms, _, _ in outcome.leaders[1:]] + [outcome.ended_ms]
    for (at_ms, term, node), end_ms in zip(outcome.leaders, ends, strict=False):
        x, width = axis.x(at_ms), axis.x(end_ms) - axis.x(at_ms)
        parts.append(
            svg.rectangle(x, top, width, _ROW - 2, colour.get(node, "n0"), f"{node} leads term {term}")
        )
        if width > 24:
            parts.append(svg.text(x + 5, top + 13, node, "inside"))
    return top + _ROW + 6


def _victims(outcome: Outcome, axis: TimeAxis, top: float, parts: list[str]) -> float:
    """A row for each node, and one for the agents."""
    rows = [*outcome.nodes, *(["agents"] if any(one.agents for one in outcome.incidents) else [])]
    for row in rows:
        parts.append(svg.text(LEFT - 12, top + 14, row, "row", "end"))
        parts.append(svg.line(LEFT, top + _ROW / 2 - 1, WIDTH - RIGHT, top + _ROW / 2 - 1, "thread"))
        struck = (one for one in outcome.incidents if row in one.nodes or (row == "agents" and one.agents))
        parts.extend(_bar(one, axis, top) for one in struck)
        top += _ROW
    return top


def _bar(one: Incident, axis: TimeAxis, top: float) -> str:
    x, healed = axis.x(one.at_ms), axis.x(one.healed_ms)
    recovered = axis.x(one.healed_ms + (one.recovered_ms or 0))
    title = f"{one.fault} on {one.victims} {one.note}"
    return (
        svg.rectangle(x, top + 2, recovered - x, _ROW - 6, "recovering", f"{title}: until it had caught up")
        + svg.rectangle(x, top + 2, healed - x, _ROW - 6, "hurt leader" if one.hit_leader else "hurt", title)
        + (svg.text(x + 4, top + 13, one.fault, "inside") if healed - x > 8 * len(one.fault) else "")
    )


def _throughput(outcome: Outcome, axis: TimeAxis, top: float) -> list[str]:
    width_ms = max(_SHORTEST_BIN_MS, math.ceil((axis.until_ms - axis.from_ms) / _BINS))
    tasks = _rate(outcome.completions_ms, axis, width_ms)
    writes = _rate((one.at_ms for one in outcome.acknowledged), axis, width_ms)
    highest = _round_up(max([rate for _, rate in (*tasks, *writes)], default=1.0))
    bottom = top + _CHART

    def points(series: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(axis.x(at_ms), bottom - rate / highest * (_CHART - 14)) for at_ms, rate in series]

    return [
        *_scale(
            "per second",
            top,
            [(highest * share, bottom - share * (_CHART - 14)) for share in (0.0, 0.5, 1.0)],
            "{:g}",
        ),
        svg.area(points(tasks), bottom, "tasks"),
        svg.area(points(writes), bottom, "writes"),
    ]


def _round_up(rate: float) -> float:
    """The next number that reads well on a scale: 1, 2, 3, 4, 6 or 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(rate, 1.0)))
    return next(step * power for step in (1, 2, 3, 4, 6, 8, 10) if step * power >= rate)


def _rate(moments: Iterable[int], axis: TimeAxis, width_ms: int) -> list[tuple[float, float]]:
    """(Middle of a bin, events per second in it), in order."""
    counts = Counter((at_ms - axis.from_ms) // width_ms for at_ms in moments)
    bins = range((axis.until_ms - axis.from_ms) // width_ms)
    return [(axis.from_ms + (at + 0.5) * width_ms, counts[at] * 1000 / width_ms) for at in bins]


def _latency(outcome: Outcome, axis: TimeAxis, top: float) -> list[str]:
    bottom = top + _CHART
    low, high = math.log10(_LATENCIES_MS[0]), math.log10(_LATENCIES_MS[-1])

    def y(took_ms: float) -> float:
        share = (math.log10(max(took_ms, _LATENCIES_MS[0])) - low) / (high - low)
        return bottom - min(share, 1.0) * (_CHART - 14)

    marks = [(float(ms), y(ms)) for ms in _LATENCIES_MS]
    every = 1 + len(outcome.acknowledged) // _DOTS
    dots = [
        svg.dot(axis.x(one.began_ms), y(took_ms), "slow" if took_ms >= _SLOW_MS else "fast", f"{took_ms} ms")
        for at, one in enumerate(outcome.acknowledged)
        if (took_ms := one.at_ms - one.began_ms) >= _SLOW_MS or at % every == 0
    ]
    return [*_scale("ms to answer", top, marks, "{:g}"), *dots]


def _scale(title: str, top: float, marks: list[tuple[float, float]], form: str) -> list[str]:
    parts = [svg.text(LEFT - 12, top + 2, title, "row", "end")]
    for value, y in marks:
        parts.append(svg.line(LEFT, y, WIDTH - RIGHT, y, "level"))
        parts.append(svg.text(LEFT - 12, y + 4, form.format(value), "tick", "end"))
    return parts
