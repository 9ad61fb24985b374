"""Reports as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from bench.placement.cases import BASELINES, OURS
from bench.placement.knowledge import Knowledge
from bench.placement.quality import Figures, InstanceReport, QualityReport
from bench.placement.shop_floor import ShopReport
from bench.placement.speed import SpeedReport

LARGE: Final = 10_000
"""Tasks beyond which a workflow is one to wait for: it is said before and after."""


def quality_lines(report: QualityReport) -> Iterator[str]:
    """The whole report on quality."""
    yield facts("machine", report.machine)
    yield facts("settings", report.settings)
    yield "ratios of makespans to that of HEFT that knows the real work and speeds"
    yield ""
    yield from _by_policy("geometric mean", report.ours, report.baselines)
    yield from _against(report)
    yield ""
    yield from _by_policy("worst run", report.worst[OURS], report.worst)
    yield ""
    yield from _instances(report.instances)
    for title, some in (
        ("could not be read", [f"{one.file}: {one.reason}" for one in report.unreadable]),
        ("failed", [failure for one in report.instances for failure in one.failures]),
    ):
        if some:
            yield ""
            yield f"{title}:"
            yield from (f"  {line}" for line in some)


def speed_lines(report: SpeedReport) -> Iterator[str]:
    """The whole report on speed."""
    yield facts("machine", report.machine)
    for title, calibration in zip(("before", "after"), report.calibration, strict=True):
        yield facts(f"calibration {title}", msgspec.structs.asdict(calibration))
    yield facts("settings", report.settings)
    for title, costs in (("us per decision", report.decisions), ("growth", report.growth)):
        if costs:
            yield ""
            yield from table(
                [title, "agents", "waiting", "classes", "placed", "median", "p99", "least"],
                (
                    [
                        one.what,
                        *(f"{count:,}" for count in (one.agents, one.waiting, one.classes, one.placed)),
                        f"{one.median_us:.2f}",
                        f"{one.p99_us:.2f}",
                        f"{one.least_us:.2f}",
                    ]
                    for one in costs
                ),
            )


def shop_lines(report: ShopReport) -> Iterator[str]:
    """The whole report on job shops."""
    yield facts("machine", report.machine)
    yield ""
    rows = [
        [
            one.name,
            f"{one.operations}",
            f"{one.machines}",
            f"{one.makespan:g}",
            _NOTHING if one.best_known is None else f"{one.best_known}",
            _figure(one.ratio),
        ]
        for one in report.shops
    ]
    yield from table(["job shop", "operations", "machines", "makespan", "best known", "ratio"], rows)
    yield f"geometric mean: {_figure(report.ratio)}"


def facts(title: str, values: Mapping[str, object]) -> str:
    """A line of names and values."""
    return f"{title}: " + ", ".join(f"{name} {value}" for name, value in values.items())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, all others to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([first.strip().ljust(widths[0]), *others]).rstrip()


def _by_policy(title: str, ours: Figures, baselines: Mapping[str, Figures]) -> Iterator[str]:
    rows = [(OURS, ours), *((name, baselines[name]) for name in BASELINES)]
    yield from table([title, *Knowledge], ([name, *_figures(some)] for name, some in rows))


def _against(report: QualityReport) -> Iterator[str]:
    """How much sooner than without a scheduler that knows anything."""
    for knowledge in Knowledge:
        ours, theirs = report.ours[knowledge], report.baselines["least_loaded"][knowledge]
        if ours is not None and theirs is not None:
            yield f"{knowledge}: {1 - ours / theirs:.1%} shorter than least_loaded"


def _instances(instances: Sequence[InstanceReport]) -> Iterator[str]:
    if not instances:
        yield "no workflows"
        return
    rows = [
        [one.name, f"{one.tasks:,}", *_figures(one.ours), f"{one.begun:,}", f"{one.took_s:.1f}"]
        for one in instances
    ]
    yield from table(["ours by instance", "tasks", *Knowledge, "begun", "runs took s"], rows)
    yield ""
    for title, knowledge in (("exact", Knowledge.EXACT), ("under noise", Knowledge.NOISY_ORACLE)):
        shown = [
            [one.name, *(_figure(one.baselines[name][knowledge]) for name in BASELINES)] for one in instances
        ]
        if any(cell != _NOTHING for row in shown for cell in row[1:]):
            yield from table([title, *BASELINES], shown)
            yield ""
    for one in instances:
        if one.tasks > LARGE:
            yield f"{one.name}: {one.tasks:,} tasks, {one.took_s:.0f} s for all runs of our scheduler"


def _figures(figures: Figures) -> list[str]:
    return [_figure(figures[knowledge]) for knowledge in Knowledge]


def _figure(ratio: float | None) -> str:
    return _NOTHING if ratio is None else f"{ratio:.3f}"


_NOTHING: Final = "-"
