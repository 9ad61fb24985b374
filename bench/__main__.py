"""`python -m bench`: the workloads W1 to W8 on three nodes as shipped."""

from __future__ import annotations

from pathlib import Path

import click

from bench.catalogue import WORKLOADS
from bench.options import json_option, scale_option
from bench.results import add, begin, write
from bench.running import workplace
from bench.sizes import LEAST_BACKLOG, Sizes
from bench.suite import run_all, select


@click.command()
@click.option("--quick", is_flag=True, help="The short ones: W1 to W4, W7, W7_stream.")
@click.option("--only", multiple=True, metavar="NAME", help="This workload; may be repeated.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Of each; of W8 one.")
@click.option("--backlog", type=click.IntRange(LEAST_BACKLOG), help="Tasks that wait in W8, not 1,000,000.")
@scale_option()
@json_option("bench")
@click.option("--keep", type=click.Path(path_type=Path), help="Run in this folder, and keep the logs in it.")
def main(
    quick: bool,
    only: tuple[str, ...],
    runs: int,
    backlog: int | None,
    scale: float,
    file: Path,
    keep: Path | None,
) -> None:
    """Measure throughput, latency, recovery and memory of a cluster on this machine."""
    try:
        workloads = select(WORKLOADS, only, quick)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--only") from error
    sizes = Sizes().scaled(scale)
    report = begin()
    if scale < 1:
        report.scale = scale
    if backlog is not None:
        sizes = sizes._replace(backlog=backlog)
        report.plan["backlog"] = backlog
    try:
        with workplace(keep) as folder:
            for workload, found in run_all(workloads, runs, sizes, folder):
                add(report, found, workload.per)
        report.complete = True
    finally:
        # What was measured before a failure took minutes as well.
        write(report, file)


if __name__ == "__main__":
    main()
