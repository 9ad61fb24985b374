"""`python -m bench.consensus`: the latency of a replicated, synced write, beside etcd on the same machine.

Both have three nodes with their defaults and are written to through their public gRPC API at the leader,
by the same program; runs alternate. Ours is written to in two ways: on a stream, as `agent_sdk` does, and
by a call for each write, which is etcd's only way. Beside them is a process that has the same methods and
does nothing: what gRPC and the client take by themselves, and leave of the machine to whoever does something.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click
import uvloop

from bench import etcd
from bench.hollow import Hollow
from bench.options import json_option, scale_option
from bench.puts import VALUE_BYTES, Load, Puts, Side, alternate
from bench.results import facts, save
from bench.running import workplace
from bench.writers import by_calls, on_a_stream
from coordinator.cli.local_cluster import LocalCluster

MAX_RATIO: Final = 1.3
"""What the median at one client may be, compared with etcd's."""

_STREAM: Final = "quorumflow, stream"
_CALLS: Final = "quorumflow, calls"
_ETCD: Final = "etcd, calls"
_LOADS: Final = (
    Load(1, 1, 250, turns=8),
    Load(8, 1, 1_000, turns=4),
    Load(100, 1, 10_000),
    Load(1, 100, 10_000),
)
"""One client; a few; many; and one that has as many writes under way, which on a stream share it. The first
take turns so short that the machine's good and bad moments meet all sides alike."""


@click.command()
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True, help="Of each side and load.")
@click.option("--tls", is_flag=True, help="Mutual TLS between nodes, on both sides.")
@scale_option()
@json_option("consensus")
def main(runs: int, tls: bool, scale: float, file: Path) -> None:
    """Compare the latency of small replicated writes with etcd's."""
    found = facts(etcd=etcd.version() or "absent")
    click.echo(f"values of {VALUE_BYTES} bytes, three nodes each, TLS between nodes {'on' if tls else 'off'}")
    click.echo("clients x writes of each that are under way at once; on a stream, or each a call of its own")
    loads = [load.scaled(scale) for load in _LOADS]
    with workplace() as folder, ExitStack() as running:
        sides = _start(folder, tls, running)
        measured = uvloop.run(_measure(sides, loads, runs))
    report = {
        **found._asdict(),
        "tls": tls,
        "scale": scale,
        "value_bytes": VALUE_BYTES,
        "clients x at once": {str(load): _compare(load, found) for load, found in measured.items()},
    }
    save(report, file)


def _start(folder: Path, tls: bool, running: ExitStack) -> list[Side]:
    ours = running.enter_context(LocalCluster.start(folder / "quorumflow", nodes=3, tls=tls))
    leader = ours.nodes[ours.leader()].grpc
    hollow = running.enter_context(Hollow(folder)).address
    sides = [
        Side(_STREAM, leader, on_a_stream),
        Side(_CALLS, leader, by_calls),
        Side("nothing, stream", hollow, on_a_stream),
        Side("nothing, calls", hollow, by_calls),
    ]
    if etcd.version():
        theirs = running.enter_context(etcd.EtcdCluster(folder / "etcd", tls=tls))
        sides.append(Side(_ETCD, theirs.leader(), etcd.put_to))
    else:
        click.echo("etcd is not installed (Debian: etcd-server): measuring ours alone")
    return sides


async def _measure(sides: list[Side], loads: list[Load], runs: int) -> dict[Load, list[dict[str, Puts]]]:
    return {load: [await alternate(sides, load) for _ in range(runs)] for load in loads}


def _compare(load: Load, measured: list[dict[str, Puts]]) -> dict[str, object]:
    found = {name: [run[name] for run in measured] for name in measured[0]}
    report: dict[str, object] = {name: [run._asdict() for run in runs] for name, runs in found.items()}
    medians = {name: Puts(*map(statistics.median, zip(*runs, strict=True))) for name, runs in found.items()}
    for name, runs in found.items():
        p50, p99, per_s = medians[name]
        low, high = min(run.p50 for run in runs), max(run.p50 for run in runs)
        click.echo(
            f"{load!s:>7}  {name:18}  p50 {p50:7.2f} ms [{low:.2f} .. {high:.2f}]  p99 {p99:7.2f} ms  "
            f"{per_s:8,.0f} writes/s"
        )
    if (theirs := medians.pop(_ETCD, None)) is not None:
        report["ratios"] = {
            name: _ratios(load, name, medians[name], theirs)._asdict() for name in (_STREAM, _CALLS)
        }
    return report


def _ratios(load: Load, name: str, ours: Puts, theirs: Puts) -> Puts:
    ratios = Puts(*(one / other for one, other in zip(ours, theirs, strict=True)))
    verdict = ""
    if load.writers == 1:
        verdict = f"  at most {MAX_RATIO} at p50: {'met' if ratios.p50 <= MAX_RATIO else 'missed'}"
    click.echo(f"{load!s:>7}  {name:18}  / etcd: p50 {ratios.p50:.2f}  p99 {ratios.p99:.2f}{verdict}")
    return ratios


if __name__ == "__main__":
    main()
