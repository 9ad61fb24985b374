"""`python -m bench.forecast`: what forecasts cost per step, and how much they err beside the naive ones, on
made-up load.

The load of an agent is a daily pattern, noise that remembers (AR), bursts of tasks, and now and then a change
of level; `--traces` says of how many agents. Errors are means over the second half of each trace, in parts of
the naive model's; `in use` is what the bank would have said, whose interval should hold 80 % of the outcomes.
`--extras` asks slow models whose libraries are installed, too, at some moments.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Final

import click
import numpy as np

from bench.options import json_option
from bench.results import facts, save
from coordinator.forecast.grid import Grid
from coordinator.forecast.history import FloatRow
from coordinator.forecast.horizons import SLOW_MODELS, Horizon, horizons
from coordinator.slow_models.frames import Question
from coordinator.slow_models.models import Answering

_SEED: Final = 7
_DAY_S: Final = 86_400
_STEPS: Final = 1_600
_COST_SERIES: Final = 1_000
_ASKED: Final = 12
"""Moments at which slow models are asked."""

_SLOW_SERIES: Final = 16


def trace(horizon: Horizon, series: int, steps: int, chance: np.random.Generator) -> FloatRow:
    """Load from 0 to 1, a column for each agent; what is faster than a step is averaged out, as the bank does
    it."""
    at_s = np.arange(steps)[:, None] * horizon.step_s
    phase, daily, hourly = chance.random((3, 1, series))
    load = 0.3 + 0.25 * daily * np.sin(2 * np.pi * (at_s / _DAY_S + phase))
    load = load + 0.15 * hourly * ((at_s / 3_600 + phase) % 1 < 0.2)
    noise, remembered = np.zeros(series), np.exp(-horizon.step_s / 300)
    level, burst = np.zeros(series), np.zeros(series)
    for at in range(steps):
        noise = remembered * noise + np.sqrt(1 - remembered**2) * 0.08 * chance.standard_normal(series)
        begins = chance.random(series) < horizon.step_s / 1_800
        ends = chance.random(series) < horizon.step_s / 240
        burst = np.where(begins, chance.random(series) * 0.4, np.where(ends, 0.0, burst))
        moved = chance.random(series) < horizon.step_s / (2 * _DAY_S)
        level = np.where(moved, 0.2 * chance.standard_normal(series), level)
        load[at] += noise + level + burst + 0.02 * chance.standard_normal(series)
    clipped: FloatRow = np.clip(load, 0.0, 1.0)
    return clipped


def cost(horizon: Horizon) -> dict[str, float]:
    """Microseconds of CPU per step for 1,000 series: of all together, and of each model's update."""
    grid, known = Grid(horizon), np.ones(_COST_SERIES, np.bool_)
    grid.grow(_COST_SERIES)
    load = trace(horizon, _COST_SERIES, 800, np.random.default_rng(_SEED))
    for at in range(400):
        grid.step(at, load[at], known, known)
    took: dict[str, float] = {}
    for model in grid.models:
        began = time.process_time()
        for _ in range(400):
            model.update(grid.past)
        took[model.name] = (time.process_time() - began) / 400 * 1e6
    began = time.process_time()
    for at in range(400, 800):
        grid.step(at, load[at], known, known)
    return {"step": (time.process_time() - began) / 400 * 1e6, **took}


def errors(horizon: Horizon, series: int, extras: list[str]) -> dict[int, dict[str, float]]:
    """By distance in seconds: the error of each model in parts of the naive one's, and the share of outcomes
    that the interval held."""
    asked = [name for name in extras if SLOW_MODELS[name] == horizon.name]
    grid = Grid(horizon, asked)
    while len(grid.top) < series:
        grid.grow(2 * len(grid.top))
    load = np.zeros((_STEPS, len(grid.top)))
    load[:, :series] = trace(horizon, series, _STEPS, np.random.default_rng(_SEED))
    known = np.arange(len(grid.top)) < series
    grid.top[:] = 1.0
    answering = Answering()
    off: dict[int, dict[str, list[FloatRow]]] = {lead: defaultdict(list) for lead in horizon.leads}
    for at in range(_STEPS - horizon.leads[-1]):
        grid.step(at, load[at], known, known)
        if at < _STEPS // 2:
            continue
        for name in asked if at % (_STEPS // (2 * _ASKED)) == 0 else ():
            _ask(answering, grid, name)
        for lead in horizon.leads:
            ahead, then = grid.ahead(lead), load[at + lead]
            for model in grid.models:
                off[lead][model.name].append(
                    np.abs(np.clip(model.forecast(grid.past, lead), 0, 1) - then)[:series]
                )
            off[lead]["in use"].append(np.abs(ahead.value - then)[:series])
            off[lead]["held"].append(((ahead.low <= then) & (then <= ahead.high))[:series].astype(np.float64))
    return {lead * horizon.step_s: _relative(off[lead]) for lead in horizon.leads}


def _ask(answering: Answering, grid: Grid, name: str) -> None:
    outside = grid.outside[name]
    past = grid.past.window(grid.past.steps, np.arange(_SLOW_SERIES))
    began = time.perf_counter()
    steps, series = past.shape
    season = grid.horizon.seasons[0]
    answer = answering.answer(Question(name, season, outside.reach, steps, series, past.tobytes()))
    if answer.error:
        raise click.ClickException(f"{name}: {answer.error}")
    took_ms = (time.perf_counter() - began) * 1e3 / _SLOW_SERIES
    click.echo(f"    {name}: {took_ms:.0f} ms a series")
    paths = np.frombuffer(answer.paths).reshape(outside.reach, -1)
    for row, path in enumerate(paths.T):
        outside.take(row, grid.number, path)


def _relative(off: dict[str, list[FloatRow]]) -> dict[str, float]:
    """Of a model that does not speak always, beside the naive one at the same times."""
    naive = np.stack(off["naive"])
    found = {}
    for name, errors in off.items():
        mine = np.stack(errors)
        spoke = np.isfinite(mine)
        share = (
            mine.mean()
            if name == "held"
            else mine[spoke].mean() / naive[spoke].mean()
            if spoke.any()
            else np.nan
        )
        found[name] = round(float(share), 3)
    return found


@click.command()
@click.option(
    "--traces", type=click.IntRange(1), default=100, show_default=True, help="Agents whose load is made up."
)
@click.option(
    "--extra",
    "extras",
    type=click.Choice(sorted(SLOW_MODELS)),
    multiple=True,
    help="A slow model to ask, too.",
)
@json_option("forecast")
def main(traces: int, extras: tuple[str, ...], file: Path) -> None:
    """Measure what forecasts cost, and how much they err."""
    report: dict[str, object] = {**facts()._asdict()}
    for horizon in horizons():
        took = cost(horizon)
        report[f"cost {horizon.name}"] = took
        click.echo(f"{horizon.name}: us of CPU per step for 1,000 series: " + _line(took, 0))
        for ahead_s, by_model in errors(horizon, traces, list(extras)).items():
            report[f"errors {horizon.name} {ahead_s} s"] = by_model
            click.echo(f"  {ahead_s:6} s ahead: " + _line(by_model, 2))
    save(report, file)


def _line(figures: dict[str, float], digits: int) -> str:
    return ", ".join(f"{name} {figure:.{digits}f}" for name, figure in figures.items())


if __name__ == "__main__":
    main()
