"""W7 beside etcd: three nodes each with synced logs and mutual TLS between them, written to at the leader."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import uvloop

from bench import etcd
from bench.peers.ratios import Figures
from bench.puts import Connect, Load, Puts, Turn, take_turn
from bench.writers import by_calls, on_a_stream
from coordinator.cli.local_cluster import LocalCluster

_STREAM, _CALLS, _ETCD = "stream", "calls", "etcd"
_LEAST_WRITES: Final = 4
_ONE: Final = Load(1, 1, 250, turns=8)
"""Its turns are so short that the machine's good and bad moments meet all sides alike."""
_MANY: Final = Load(100, 1, 10_000)


def measure(folder: Path, runs: int, scale: float) -> list[tuple[Figures, Figures]]:
    """The figures of each run, ours and etcd's, which are alike for both of our ways to write."""
    one, many = (_scaled(load, scale) for load in (_ONE, _MANY))
    with ExitStack() as running:
        ours = running.enter_context(LocalCluster.start(folder / "quorumflow", nodes=3, tls=True))
        theirs = running.enter_context(etcd.EtcdCluster(folder / "etcd", tls=True))
        leader = ours.nodes[ours.leader()].grpc
        sides: list[tuple[str, str, Connect]] = [
            (_STREAM, leader, on_a_stream),
            (_CALLS, leader, by_calls),
            (_ETCD, theirs.leader(), etcd.put_to),
        ]
        return [_figures(_alternate(sides, one), _alternate(sides, many)) for _ in range(runs)]


def _alternate(sides: Sequence[tuple[str, str, Connect]], load: Load) -> dict[str, Puts]:
    turns: dict[str, list[Turn]] = {name: [] for name, _, _ in sides}
    for _ in range(load.turns):
        for name, leader, connect in sides:
            turns[name].append(uvloop.run(take_turn(leader, connect, load)))
    return {name: Puts.of(taken) for name, taken in turns.items()}


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


def _scaled(load: Load, scale: float) -> Load:
    # A turn is at least a write of each writer.
    least = max(_LEAST_WRITES, load.clients * load.at_once)
    return load._replace(writes=max(least, round(load.writes * scale)))
