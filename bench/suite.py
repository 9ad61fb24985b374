"""What a workload of the suite is, which ones are asked for, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from bench.figures import Figure, Kind, Outcome, figures
from bench.fleet import Crew
from bench.sizes import Sizes
from bench.stage import Stage
from bench.workloads import warm_up

Run = Callable[[Stage, Sizes], Outcome]


class Workload(NamedTuple):
    """One workload: what it `tells`, its run, and the agents that it needs; all that follow one another with
    the same crew share a stage. With `once` it has one of its own, and is run once, as it takes minutes.
    CPU time is given `per` task, or write. `quick` ones belong to the short suite; `leader_stays` is false
    where one is killed."""

    name: str
    tells: Sequence[Kind]
    run: Run
    crew: Crew | None = Crew()
    once: bool = False
    per: str = "task"
    quick: bool = False
    leader_stays: bool = True


class Measured(NamedTuple):
    """A workload that was run, and its figures."""

    workload: Workload
    figures: Mapping[Kind, Figure]


def select(workloads: Sequence[Workload], only: Iterable[str], quick: bool) -> list[Workload]:
    """Those that are named, or all, or the quick ones of all, in their order. Raises ValueError for a name
    that there is not."""
    wanted = set(only)
    known = [workload.name for workload in workloads]
    if unknown := sorted(wanted.difference(known)):
        raise ValueError(f"there is no workload {unknown[0]}; there are {', '.join(known)}")
    if wanted:
        return [workload for workload in workloads if workload.name in wanted]
    return [workload for workload in workloads if workload.quick or not quick]


def run_all(workloads: Sequence[Workload], runs: int, sizes: Sizes, folder: Path) -> Iterator[Measured]:
    """Run them on as few stages as they need, each so many times."""
    for number, sharing in enumerate(shared_stages(workloads), start=1):
        with Stage(folder / f"{number}", sharing[0].crew) as stage:
            if stage.fleet is not None:
                warm_up(stage.client, sizes.warm_up)
            for workload in sharing:
                times = 1 if workload.once else runs
                outcomes = [workload.run(stage, sizes) for _ in range(times)]
                yield Measured(workload, figures(outcomes, workload.tells))


def shared_stages(workloads: Sequence[Workload]) -> list[list[Workload]]:
    """Those that follow one another and can share a stage, together."""
    alike = groupby(workloads, key=lambda one: (one.name if one.once else "", one.crew))
    return [list(sharing) for _, sharing in alike]
