"""`python -m bench.placement`: how good plans are, and how fast they are made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import msgspec

from bench.machine import machine
from bench.placement import jobshop as jobshops
from bench.placement.cases import OURS, cases_of, run_all
from bench.placement.instances import read_folder
from bench.placement.knowledge import Knowledge, histories
from bench.placement.platform import SEEDS
from bench.placement.quality import QualityReport, Ratios
from bench.placement.shop_floor import run_shop, shop_report
from bench.placement.speed import Cost, SpeedReport, calibrate, decisions, growth
from bench.placement.studies import STUDIES
from bench.placement.study import StudyReport, study_lines
from bench.placement.tables import LARGE, quality_lines, shop_lines, speed_lines
from coordinator.replica.collecting import spare_what_is_there
from coordinator.scheduling.costs.weights import BUILT_IN

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """Measure the scheduler on virtual time and on this machine."""


def _seeds(context: click.Context, option: click.Parameter, given: str) -> list[int]:
    try:
        seeds = [int(word) for word in given.split(",")]
    except ValueError as error:
        raise click.BadParameter("give whole numbers, with commas between them") from error
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise click.BadParameter("give each seed once, and none below 0")
    return seeds


def _knowledge(context: click.Context, option: click.Parameter, given: str) -> list[Knowledge]:
    names = set(given.split(","))
    if unknown := sorted(names - set(Knowledge)):
        raise click.BadParameter(f"there is no {', '.join(unknown)}: give some of {','.join(Knowledge)}")
    return [knowledge for knowledge in Knowledge if knowledge in names]


@main.command()
@click.option("--instances", "folder", type=_FOLDER, required=True, help="Of WfFormat files, *.json.")
@click.option("--agents", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--seeds", callback=_seeds, default=",".join(map(str, SEEDS)), show_default=True)
@click.option("--policy", type=click.Choice(sorted(BUILT_IN)), default="fast", show_default=True)
@click.option("--only", callback=_knowledge, default=",".join(Knowledge), show_default=True)
@click.option("--jobs", type=click.IntRange(1, 256), help="Runs at the same time; default: one a core.")
@click.option("--json", "file", type=_FILE, help="Also write the figures here.")
def quality(
    folder: Path,
    agents: int,
    seeds: list[int],
    policy: str,
    only: list[Knowledge],
    jobs: int | None,
    file: Path | None,
) -> None:
    """Makespans of recorded workflows over those of HEFT that knows everything.

    Exit code 1 if a run failed.
    """
    measured_on = machine()
    instances, unreadable = read_folder(folder)
    cases = cases_of(
        instances, histories(instances), agents=agents, seeds=seeds, policy=BUILT_IN[policy], only=only
    )
    for instance in instances:
        if len(instance) > LARGE:
            click.echo(f"{instance.name} has {len(instance):,} tasks: each run takes minutes", err=True)
    ratios = Ratios(only)
    for done, (at, outcome) in enumerate(run_all(cases, jobs or os.cpu_count() or 1), start=1):
        ratios.take(cases[at], outcome)
        ours = "".join(f" {ratio:.3f}," for ratio in outcome.ratios.get(OURS, ()))
        click.echo(f"[{done}/{len(cases)}] {cases[at].title}:{ours} {outcome.took_s:.1f} s", err=True)
    means, baselines = ratios.means(instances)
    report = QualityReport(
        ours=means,
        baselines=baselines,
        instances=[ratios.report(instance) for instance in instances],
        worst=ratios.worst(),
        unreadable=unreadable,
        settings={"agents": agents, "policy": policy, "seeds": seeds, "only": [str(one) for one in only]},
        machine=measured_on,
    )
    _publish(report, quality_lines(report), file)
    if any(one.failures for one in report.instances):
        raise SystemExit(1)


@main.command()
@click.option("--agents", type=click.IntRange(1, 100_000), default=1_000, show_default=True)
@click.option(
    "--tasks", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="That wait."
)
@click.option("--policy", type=click.Choice(sorted(BUILT_IN)), default="balanced", show_default=True)
@click.option(
    "--repeats", type=click.IntRange(1, 10_000), default=30, show_default=True, help="Of each round."
)
@click.option(
    "--zones",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="Of agents: one has the slowest, the next quicker ones. Not for growth.",
)
@click.option("--growth/--no-growth", "grow", default=True, help="Also over numbers of agents and tasks.")
@click.option("--json", "file", type=_FILE, help="Also write the figures here.")
def speed(
    agents: int, tasks: int, policy: str, repeats: int, zones: int, grow: bool, file: Path | None
) -> None:
    """Microseconds per decision, of full rounds and of single tasks."""
    measured_on, by = machine(), BUILT_IN[policy]
    # As a node does once it has started.
    spare_what_is_there()
    before = calibrate()
    made = list(_shown(decisions(agents, tasks, by, repeats, zones)))
    grown = list(_shown(growth(by, repeats))) if grow else []
    settings: dict[str, object] = {"policy": policy, "repeats": repeats, "zones": zones}
    report = SpeedReport(measured_on, (before, calibrate()), settings, made, grown)
    _publish(report, speed_lines(report), file)


@main.command()
@click.option("--instances", "folder", type=_FOLDER, required=True, help="Of Brandimarte's files, *.txt.")
@click.option("--json", "file", type=_FILE, help="Also write the figures here.")
def jobshop(folder: Path, file: Path | None) -> None:
    """Makespans of flexible job shops over the best known."""
    try:
        shops = jobshops.read_folder(folder)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    report = shop_report([run_shop(shop) for shop in shops], machine())
    _publish(report, shop_lines(report), file)


def _study(name: str) -> click.Command:
    """The command of a study."""

    @click.command(name, help=STUDIES[name][0].question)
    @click.option("--seeds", callback=_seeds, default="1,2", show_default=True)
    @click.option("--picture", type=_FILE, help="Draw it here, as .svg, .png or .pdf; needs matplotlib.")
    @click.option("--json", "file", type=_FILE, help="Also write the figures here.")
    def command(seeds: list[int], picture: Path | None, file: Path | None) -> None:
        study, points = STUDIES[name]
        report = StudyReport(study, {"seeds": seeds}, [])
        for point in points(seeds):
            report.points.append(point)
            click.echo(f"{point.series} {point.label}: done", err=True)
        _publish(report, study_lines(report), file)
        if picture is not None:
            _draw(report, picture)

    return command


def _draw(report: StudyReport, picture: Path) -> None:
    from bench.placement.pictures import draw

    picture.parent.mkdir(parents=True, exist_ok=True)
    try:
        draw(report, picture)
    except (ImportError, ValueError) as error:
        raise click.ClickException(f"no picture was drawn: {error}") from error
    click.echo(f"drawn to {picture}")


for _name in STUDIES:
    main.add_command(_study(_name))


def _shown(costs: Iterable[Cost]) -> Iterator[Cost]:
    for cost in costs:
        click.echo(f"{cost.what}, {cost.agents:,} agents, {cost.waiting:,} waiting: done", err=True)
        yield cost


def _publish(report: msgspec.Struct, lines: Iterable[str], file: Path | None) -> None:
    for line in lines:
        click.echo(line)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
        click.echo(f"written to {file}")


if __name__ == "__main__":
    main()
