"""`python -m bench.turns FOLDER`: the workloads on another version and on this one, by turns.

A machine that others use too is not the same from one minute to the next, and clusters of the same version
differ among themselves, by where their processes happen to lie in memory. So a cluster of each version is up
at the same time, they take turns, and other clusters do so after them. What counts is the ratio within a pair
of runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import click
import msgspec

from bench.catalogue import WORKLOADS
from bench.figures import Outcome
from bench.options import json_option, scale_option
from bench.results import begin, save
from bench.running import workplace
from bench.sizes import Sizes
from bench.stage import Stage
from bench.suite import Workload, select, shared_stages
from bench.usage import LEADER
from bench.workloads import warm_up

_FITTING: Final = [one for one in WORKLOADS if one.leader_stays and not one.once]
"""What can be repeated in the same cluster."""

_IN_FOLDER: Final = 'cd "$0" && shift && exec "$PWD/.venv/bin/python" "$@"'
"""For a shell that is given a folder, and a command that begins with this version's interpreter."""


class Pair(NamedTuple):
    """A run of each version."""

    there: Outcome
    here: Outcome


class Ratios(NamedTuple):
    """How many times as much a figure is here as there: the median of all pairs of runs, and the least and
    the greatest of the medians of single pairs of clusters."""

    there: float
    here: float
    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, by_clusters: Sequence[Sequence[tuple[float, float]]]) -> Ratios | None:
        """Of figures there and here, pair of clusters by pair of clusters. None where one was too small to
        be counted."""
        there, here = zip(*(pair for pairs in by_clusters for pair in pairs), strict=True)
        if not all((*there, *here)):
            return None
        ratios = [[ours / theirs for theirs, ours in pairs] for pairs in by_clusters]
        medians = [statistics.median(some) for some in ratios]
        overall = statistics.median(ratio for some in ratios for ratio in some)
        return cls(statistics.median(there), statistics.median(here), overall, min(medians), max(medians))

    def __str__(self) -> str:
        return (
            f"{self.there:10,.2f} there {self.here:10,.2f} here   "
            f"{self.median:.2f} times [{self.least:.2f} .. {self.greatest:.2f}]"
        )


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path))
@click.option("--only", multiple=True, metavar="NAME", help="This workload; may be repeated.")
@click.option("--pairs", type=click.IntRange(1), default=5, show_default=True, help="Of runs, in a cluster.")
@click.option("--clusters", type=click.IntRange(1), default=3, show_default=True, help="Of each version.")
@scale_option()
@json_option("turns")
def main(folder: Path, only: tuple[str, ...], pairs: int, clusters: int, scale: float, file: Path) -> None:
    """Compare nodes and agents of the version in FOLDER, where `make install` has been run, with those of
    this one, on the short workloads or on those that are named. The client is this version's. If FOLDER holds
    the same version, the ratios say how much is chance."""
    try:
        workloads = select(_FITTING, only, quick=True)
        prefix = prefix_of(folder)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    report = begin({"clusters": clusters, "pairs": pairs, "scale": scale})
    click.echo(f"there is {folder}; of {clusters} pairs of clusters with {pairs} pairs of runs each:")
    told: dict[str, Ratios] = {}
    try:
        with workplace() as data:
            for sharing in shared_stages(workloads):
                _compare(data, prefix, sharing, clusters, pairs, Sizes().scaled(scale), told)
        report.complete = True
    finally:
        # What was measured before a failure took minutes as well.
        ratios = {name: one._asdict() for name, one in told.items()}
        save({**msgspec.to_builtins(report), "there": str(folder), "workloads": ratios}, file)


def prefix_of(folder: Path) -> list[str]:
    """What has a module of the version in this folder run, by its own interpreter, in place of this one's.
    Raises ValueError if it has none."""
    python = folder / ".venv" / "bin" / "python"
    if not python.exists():
        raise ValueError(f"{folder} has no {python.relative_to(folder)}: run `make install` there")
    return ["/bin/sh", "-c", _IN_FOLDER, str(folder)]


def _compare(
    data: Path,
    prefix: Sequence[str],
    workloads: Sequence[Workload],
    clusters: int,
    pairs: int,
    sizes: Sizes,
    told: dict[str, Ratios],
) -> None:
    """Of workloads that share a stage the ratios by figure, which are printed and `told`."""
    rounds: list[list[list[Pair]]] = []
    try:
        rounds.extend(
            _take_turns(data, prefix, workloads, pairs, sizes, number) for number in range(clusters)
        )
    finally:
        if rounds:
            for workload, *by_clusters in zip(workloads, *rounds, strict=True):
                told |= _ratios(workload, by_clusters)


def _take_turns(
    data: Path, prefix: Sequence[str], workloads: Sequence[Workload], pairs: int, sizes: Sizes, number: int
) -> list[list[Pair]]:
    """Of each workload the pairs, with one cluster of each version."""
    crew = workloads[0].crew
    there, here = Stage(data / "there", crew, prefix=prefix), Stage(data / "here", crew)
    with ExitStack() as up:
        # The later one may be worse off, or better.
        for stage in (here, there) if number % 2 else (there, here):
            up.enter_context(stage)
            if stage.fleet is not None:
                warm_up(stage.client, sizes.warm_up)
        return [[_pair(one, there, here, sizes, turn) for turn in range(pairs)] for one in workloads]


def _pair(workload: Workload, there: Stage, here: Stage, sizes: Sizes, turn: int) -> Pair:
    if turn % 2:
        ours = workload.run(here, sizes)
        return Pair(workload.run(there, sizes), ours)
    return Pair(workload.run(there, sizes), workload.run(here, sizes))


def _ratios(workload: Workload, by_clusters: Sequence[Sequence[Pair]]) -> dict[str, Ratios]:
    told: dict[str, Ratios] = {}
    for kind in workload.tells:
        figures = [
            [(one.there.values[kind.key], one.here.values[kind.key]) for one in pairs]
            for pairs in by_clusters
        ]
        if (ratios := Ratios.of(figures)) is not None:
            told[kind.key] = ratios
        click.echo(f"{kind.key:11} {kind.unit:9} {ratios or 'not measured'}")
    key = workload.tells[0].key
    cpu = [[(_cpu_us(one.there, key), _cpu_us(one.here, key)) for one in pairs] for pairs in by_clusters]
    if (ratios := Ratios.of(cpu)) is not None:
        told[f"{key}_leader_us"] = ratios
        click.echo(f"{'':11} {'leader us':9} {ratios}")
    return told


def _cpu_us(outcome: Outcome, key: str) -> float:
    """Of the leader, per task or write; 0 if that was not measured."""
    return outcome.costs[key].cpu_us.get(LEADER, 0.0) if key in outcome.costs else 0.0


if __name__ == "__main__":
    main()
