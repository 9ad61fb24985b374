"""`python -m bench.soak`: load that goes on at one rate for half an hour, to see that memory and p99 stay.

A DAG of no-op tasks is due at each tick, whatever has become of those before it, and waited for; what it
took is counted from its tick. Windows of time are looked at: the DAGs that ended in each, and the leader's
memory after it. The exit code is 1 if memory or p99 did not stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from agent_sdk import AsyncClient
from bench.figures import MIB, Figure, Kind, Usage, figure
from bench.fleet import Crew
from bench.options import Finite, json_option
from bench.results import add, begin, write
from bench.running import workplace
from bench.stage import Stage
from bench.steadiness import LEAST_WINDOWS, Verdict, Window
from bench.usage import LEADER, resident_bytes
from bench.workloads import no_ops, warm_up

_LEAST_OF_WINDOW: Final = 20
_MOST_UNDER_WAY: Final = 1_000
_TIMEOUT_S: Final = 60.0


@click.command()
@click.option("--minutes", type=Finite(0, min_open=True), default=30.0, show_default=True)
@click.option("--windows", type=click.IntRange(LEAST_WINDOWS), default=30, show_default=True)
@click.option("--rate", type=Finite(0, min_open=True), default=20.0, help="DAGs a second.")
@click.option("--tasks", type=click.IntRange(1), default=50, show_default=True, help="Of each DAG.")
@json_option("soak")
def main(minutes: float, windows: int, rate: float, tasks: int, file: Path) -> None:
    """Load three nodes as shipped for a while, and judge whether their memory and p99 stay."""
    of_window = round(minutes * 60 / windows * rate)
    if of_window < _LEAST_OF_WINDOW:
        raise click.UsageError(
            f"{minutes:g} minutes at {rate:g} DAGs a second are {of_window} in each of {windows} windows: "
            f"too few for a p99, at least {_LEAST_OF_WINDOW} are needed"
        )
    report = begin({"minutes": minutes, "windows": windows, "rate": rate, "tasks": tasks})
    found: list[Window] = []
    costs: list[Usage] = []
    try:
        with workplace() as folder, Stage(folder, Crew()) as stage:
            warm_up(stage.client)
            meter = stage.meter()
            stage.run(_sustain(stage, windows, of_window, rate, tasks, found))
            costs.append(meter.read(tasks * sum(window.dags for window in found)))
        report.complete = True
    finally:
        if found:
            add(report, _figures(found, costs), "task")
        write(report, file)
    verdict = Verdict.of(found)
    click.echo(f"{'flat' if verdict.flat else 'NOT FLAT'}: {verdict}")
    raise SystemExit(0 if verdict.flat else 1)


class _Load:
    """DAGs that are due one after the other."""

    def __init__(self, client: AsyncClient, tasks: int) -> None:
        self._client = client
        self._dag = no_ops("soak", tasks)
        self._under_way = 0
        self.times_ms: list[float] = []
        """What those took that have ended."""

    async def run_one(self, due_s: float) -> None:
        """Submit one and wait for its end. Raises RuntimeError if there are too many already, or it did not
        complete."""
        if self._under_way == _MOST_UNDER_WAY:
            raise RuntimeError(
                f"{_MOST_UNDER_WAY} DAGs are under way: the cluster does not keep up; ask for less"
            )
        self._under_way += 1
        status = await self._client.run(self._dag, _TIMEOUT_S)
        self._under_way -= 1
        if status.state != "COMPLETED":
            raise RuntimeError(f"DAG {status.dag_id} ended {status.state}: {dict(status.tasks)}")
        self.times_ms.append((time.perf_counter() - due_s) * 1e3)


async def _sustain(
    stage: Stage, windows: int, of_window: int, rate: float, tasks: int, found: list[Window]
) -> None:
    """Keep up the load, and look at what has become of it at the end of each window."""
    leader = stage.pids()[LEADER][0]
    async with AsyncClient(stage.cluster.endpoints) as client, asyncio.TaskGroup() as group:
        load = _Load(client, tasks)
        began_s = time.perf_counter()
        for number in range(windows):
            for tick in range(number * of_window, (number + 1) * of_window):
                due_s = began_s + tick / rate
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                group.create_task(load.run_one(due_s))
            times_ms, load.times_ms = load.times_ms, []
            found.append(Window.of(times_ms, resident_bytes(leader) / MIB))
            click.echo(f"{number + 1:4} of {windows}: {found[-1]}")


def _figures(windows: Sequence[Window], costs: Sequence[Usage]) -> dict[Kind, Figure]:
    columns = {
        Kind("W8_soak", "soak, p50 in each window", "ms"): [window.p50_ms for window in windows],
        Kind("W8_soak_p99", "soak, p99 in each window", "ms"): [window.p99_ms for window in windows],
        Kind("W8_soak_mib", "soak, leader's memory after each", "MiB"): [
            window.leader_mib for window in windows
        ],
    }
    return {kind: figure(values, kind.unit, costs) for kind, values in columns.items()}


if __name__ == "__main__":
    main()
