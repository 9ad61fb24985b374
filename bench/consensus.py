"""`python -m bench.consensus`: the latency of a replicated, synced write, beside etcd on the same machine.

Both have three nodes with their defaults and are written to through their public gRPC API at the leader, by
the same program; runs alternate.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import grpc.aio
import uvloop

from bench import etcd
from bench.machine import machine, versions
from bench.puts import VALUE_BYTES, Connect, Put, Puts, puts
from coordinator.cli.local_cluster import LocalCluster
from quorumflow_proto.v1 import kv_pb2, kv_pb2_grpc

MAX_RATIO: Final = 1.3
"""What the median at one client may be, compared with etcd's."""

_WRITES: Final = {1: 2_000, 100: 10_000}
"""By the number of clients."""


class Side(NamedTuple):
    """One of those that are compared."""

    name: str
    leader: str
    connect: Connect


@click.command()
@click.option("--runs", default=5, show_default=True, help="Of each side and number of clients.")
@click.option("--tls", is_flag=True, help="Mutual TLS between nodes, on both sides.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures there too.")
def main(runs: int, tls: bool, file: Path | None) -> None:
    """Compare the latency of small replicated writes with etcd's."""
    facts: dict[str, dict[str, Any]] = {
        "machine": machine(),
        "versions": {**versions(), "etcd": etcd.version() or "absent"},
    }
    for title, named in facts.items():
        click.echo(f"{title}: " + ", ".join(f"{name} {fact}" for name, fact in named.items()))
    click.echo(f"values of {VALUE_BYTES} bytes, three nodes each, TLS between nodes {'on' if tls else 'off'}")
    with tempfile.TemporaryDirectory(prefix="quorumflow-bench-") as folder, ExitStack() as running:
        sides = _start(Path(folder), tls, running)
        measured = {clients: _alternate(sides, clients, runs) for clients in _WRITES}
    report = {
        **facts,
        "tls": tls,
        "value_bytes": VALUE_BYTES,
        "clients": {str(clients): _compare(clients, found) for clients, found in measured.items()},
    }
    if file is not None:
        file.write_text(json.dumps(report, indent=2) + "\n")


def _start(folder: Path, tls: bool, running: ExitStack) -> list[Side]:
    ours = running.enter_context(LocalCluster.start(folder / "quorumflow", nodes=3, tls=tls))
    sides = [Side("quorumflow", ours.nodes[ours.leader()].grpc, _put_to_ours)]
    if etcd.version():
        theirs = running.enter_context(etcd.EtcdCluster(folder / "etcd", tls=tls))
        sides.append(Side("etcd", theirs.leader(), etcd.put_to))
    else:
        click.echo("etcd is not installed (Debian: etcd-server): measuring ours alone")
    return sides


def _put_to_ours(channel: grpc.aio.Channel) -> Put:
    """As the SDK writes: each write has a number, which makes a retry safe."""
    stub = kv_pb2_grpc.KvServiceStub(channel)
    writer = uuid.uuid4().hex
    number = 0

    async def put(key: str, value: bytes) -> None:
        nonlocal number
        number += 1
        write = kv_pb2.KvWriteId(writer=writer, number=number, answered=number)
        await stub.Put(kv_pb2.KvPutRequest(id=write, key=key, value=value))

    return put


def _alternate(sides: list[Side], clients: int, runs: int) -> dict[str, list[Puts]]:
    """Runs of all sides in turn, so that whatever else the machine does meets them alike."""
    found: dict[str, list[Puts]] = {side.name: [] for side in sides}
    for _ in range(runs):
        for side in sides:
            run = puts(side.leader, side.connect, clients=clients, writes=_WRITES[clients])
            found[side.name].append(uvloop.run(run))
    return found


def _compare(clients: int, found: dict[str, list[Puts]]) -> dict[str, object]:
    report: dict[str, object] = {name: [run._asdict() for run in runs] for name, runs in found.items()}
    for name, runs in found.items():
        p50, p99, per_s = (statistics.median(values) for values in zip(*runs, strict=True))
        low, high = min(run.p50 for run in runs), max(run.p50 for run in runs)
        click.echo(
            f"{clients:4} clients  {name:11} p50 {p50:7.2f} ms [{low:.2f} .. {high:.2f}]  p99 {p99:7.2f} ms  "
            f"{per_s:8,.0f} writes/s"
        )
    if len(found) == 2:
        ours, theirs = found["quorumflow"], found["etcd"]
        ratios = {
            name: statistics.median(getattr(run, name) for run in ours)
            / statistics.median(getattr(run, name) for run in theirs)
            for name in Puts._fields
        }
        click.echo(f"{clients:4} clients  ratio       p50 {ratios['p50']:7.2f}     p99 {ratios['p99']:7.2f}")
        report["ratio"] = ratios
        if clients == 1:
            verdict = "met" if ratios["p50"] <= MAX_RATIO else "missed"
            click.echo(f"             at most {MAX_RATIO} at p50: {verdict}")
    return report


if __name__ == "__main__":
    main()
