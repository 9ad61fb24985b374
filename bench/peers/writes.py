"""W7 beside etcd: three nodes each with synced logs and mutual TLS between them, written to at the leader."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Final

import uvloop

from bench import etcd
from bench.peers.ratios import Figures
from bench.puts import Load, Puts, Side, alternate
from bench.writers import by_calls, on_a_stream
from coordinator.cli.local_cluster import LocalCluster

_STREAM, _CALLS, _ETCD = "stream", "calls", "etcd"
_ONE: Final = Load(1, 1, 250, turns=8)
"""Its turns are so short that the machine's good and bad moments meet all sides alike."""
_MANY: Final = Load(100, 1, 10_000)


def measure(folder: Path, runs: int, scale: float) -> list[tuple[Figures, Figures]]:
    """The figures of each run, ours and etcd's, which are alike for both of our ways to write."""
    with ExitStack() as running:
        ours = running.enter_context(LocalCluster.start(folder / "quorumflow", nodes=3, tls=True))
        theirs = running.enter_context(etcd.EtcdCluster(folder / "etcd", tls=True))
        leader = ours.nodes[ours.leader()].grpc
        sides = [
            Side(_STREAM, leader, on_a_stream),
            Side(_CALLS, leader, by_calls),
            Side(_ETCD, theirs.leader(), etcd.put_to),
        ]
        return uvloop.run(_measure(sides, runs, scale))


async def _measure(sides: list[Side], runs: int, scale: float) -> list[tuple[Figures, Figures]]:
    one, many = (load.scaled(scale) for load in (_ONE, _MANY))
    return [_figures(await alternate(sides, one), await alternate(sides, many)) for _ in range(runs)]


def _figures(one: dict[str, Puts], many: dict[str, Puts]) -> tuple[Figures, Figures]:
    def of(stream: str, calls: str) -> Figures:
        return {
            "W7": one[stream].p50,
            "W7_p99": one[stream].p99,
            "W7_100_streams": many[stream].per_s,
            "W7_calls": one[calls].p50,
            "W7_calls_p99": one[calls].p99,
            "W7_100": many[calls].per_s,
        }

    return of(_STREAM, _CALLS), of(_ETCD, _ETCD)
