"""`python -m bench.profile W1`: where the leader's time goes during a workload, as a flame graph and by
stage.

py-spy, which is in the extra `bench`, samples the process from outside; it may do so as root, or where the
system lets a user trace processes of his own.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import click

from bench.catalogue import WORKLOADS
from bench.options import Finite, Target
from bench.results import new_file
from bench.running import workplace
from bench.sizes import Sizes
from bench.stage import Stage
from bench.stages import stage_times, table
from bench.suite import Workload, select
from bench.usage import LEADER
from bench.workloads import warm_up

_PROGRAM: Final = "py-spy"
_BEGIN_S: Final = 2.0
"""What begins to sample without an error does so within this time."""
_END_S: Final = 60.0


class ProfilerFailed(click.ClickException):
    """The profiler is not there, or cannot look into the process; the message says what to do."""


class Profiler:
    """Samples a process into a flame graph while it is open."""

    def __init__(self, pid: int, picture: Path, *, rate: int, gil: bool) -> None:
        """`rate` is in samples a second; with `gil` threads that wait are none of them."""
        beside = Path(sys.executable).with_name(_PROGRAM)
        program = str(beside) if beside.exists() else shutil.which(_PROGRAM)
        if program is None:
            raise ProfilerFailed(f"{_PROGRAM} is not installed: pip install -e '.[bench]'")
        self._command = [program, "record", "--pid", str(pid), "--output", str(picture)]
        self._command += ["--rate", str(rate), *(["--gil"] if gil else [])]

    def __enter__(self) -> Self:
        self._told = tempfile.TemporaryFile()
        self._process = subprocess.Popen(self._command, stdout=self._told, stderr=self._told)
        try:
            self._process.wait(_BEGIN_S)
        except subprocess.TimeoutExpired:
            return self
        except BaseException:
            self._process.kill()
            raise
        raise self._failure()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            failed = self._process.wait(_END_S) != 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            failed = True
        if failed and error is None:
            raise self._failure()

    def _failure(self) -> ProfilerFailed:
        self._told.seek(0)
        told = self._told.read().decode(errors="replace").strip()
        return ProfilerFailed(
            f"{_PROGRAM} could not look into the leader; be root, or set kernel.yama.ptrace_scope to 0 "
            f"(in a container: the capability SYS_PTRACE). It says:\n{told}"
        )


@click.command()
@click.argument("name", default="W1", metavar="WORKLOAD")
@click.option(
    "--seconds",
    type=Finite(0, min_open=True),
    default=10.0,
    show_default=True,
    help="At least: the workload is repeated.",
)
@click.option("--rate", type=click.IntRange(1, 1_000), default=200, help="Samples a second.")
@click.option(
    "--all", "all_threads", is_flag=True, help="Also what does not hold the interpreter: what waits."
)
@click.option("--out", type=Target(), help="Default: bench/results/WORKLOAD-TIME.svg.")
def main(name: str, seconds: float, rate: int, all_threads: bool, out: Path | None) -> None:
    """Draw where the leader's time goes during a workload: what Python does, and what it has others do while
    it holds the interpreter."""
    try:
        (workload,) = select([one for one in WORKLOADS if one.leader_stays], [name], quick=False)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="WORKLOAD") from error
    picture = out or Target().convert(new_file(name, "svg"), None, None)
    with workplace() as folder, Stage(folder, workload.crew) as stage:
        if workload.crew is not None:
            warm_up(stage.client)
        with Profiler(stage.pids()[LEADER][0], picture, rate=rate, gil=not all_threads):
            before, began_s = _counters(stage), time.monotonic()
            times = _repeat(workload, stage, seconds)
            spent = table(stage_times(before, _counters(stage)), time.monotonic() - began_s)
    click.echo(spent)
    click.echo(f"{name} x {times}: the leader's time is drawn in {picture}")


def _counters(stage: Stage) -> Mapping[str, float]:
    """Of the leader."""
    leader = stage.cluster.nodes[stage.cluster.leader()]
    return stage.client.node_status(leader.grpc).counters


def _repeat(workload: Workload, stage: Stage, seconds: float) -> int:
    """Returns how often it was run."""
    until = time.monotonic() + seconds
    times = 0
    while times == 0 or time.monotonic() < until:
        workload.run(stage, Sizes())
        times += 1
    return times


if __name__ == "__main__":
    main()
