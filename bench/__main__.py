"""`python -m bench`: the workloads W1 to W8 on three nodes as shipped."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from bench.catalogue import WORKLOADS
from bench.results import add, begin, new_file, write
from bench.sizes import Sizes
from bench.suite import run_all, select


@click.command()
@click.option("--quick", is_flag=True, help="The short ones: W1 to W4 and W7.")
@click.option("--only", multiple=True, metavar="NAME", help="This workload; may be repeated.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Of each; of W8 one.")
@click.option("--backlog", type=click.IntRange(1), help="Tasks that wait in W8, instead of 1,000,000.")
@click.option("--scale", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="To try the suite.")
@click.option(
    "--json", "file", type=click.Path(path_type=Path), help="Default: bench/results/bench-TIME.json."
)
@click.option("--keep", type=click.Path(path_type=Path), help="Run in this folder, and keep the logs in it.")
def main(
    quick: bool,
    only: tuple[str, ...],
    runs: int,
    backlog: int | None,
    scale: float,
    file: Path | None,
    keep: Path | None,
) -> None:
    """Measure throughput, latency, recovery and memory of a cluster on this machine."""
    try:
        workloads = select(WORKLOADS, only, quick)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from error
    sizes = Sizes().scaled(scale)
    sizes = sizes if backlog is None else sizes._replace(backlog=backlog)
    report = begin()
    report.scale = scale
    folder = keep or Path(tempfile.mkdtemp(prefix="quorumflow-bench-"))
    try:
        for workload, found in run_all(workloads, runs, sizes, folder):
            add(report, found, workload.per)
    finally:
        # What was measured before a failure took minutes as well.
        write(report, file or new_file("bench"))
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
