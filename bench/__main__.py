"""`python -m bench`: three nodes with synced logs, two agents of four slots, one client, as shipped."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click

from agent_sdk import Client
from bench.failover import leader_lost
from bench.machine import machine, versions
from bench.workloads import chain, independent, layered, singles, warm_up
from coordinator.cli.agent_spec import AgentSpec
from coordinator.cli.local_cluster import LocalCluster

_AGENTS: Final = [AgentSpec(id=f"bench-{number}", slots=4) for number in (1, 2)]
_RESULTS: Final = Path(__file__).parent / "results"

Result = dict[str, float | str | list[float]]


@click.command()
@click.option("--runs", default=3, show_default=True, help="of each workload")
@click.option("--json", "file", type=click.Path(path_type=Path), help="default: bench/results/TIME.json")
@click.option("--keep", type=click.Path(path_type=Path), help="run in this folder, and keep it")
def main(runs: int, file: Path | None, keep: Path | None) -> None:
    """Measure throughput, latency and failover of a cluster on this machine."""
    report: dict[str, object] = {"machine": machine(), "versions": versions()}
    for title, facts in report.items():
        click.echo(f"{title}: " + ", ".join(f"{name} {fact}" for name, fact in facts.items()))  # type: ignore[attr-defined]
    folder = keep or Path(tempfile.mkdtemp(prefix="quorumflow-bench-"))
    try:
        with LocalCluster.start(folder, nodes=3, agents=_AGENTS) as cluster:
            report["workloads"] = _measure(cluster, runs)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    target = file or _RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n")
    click.echo(f"written to {target}")


def _measure(cluster: LocalCluster, runs: int) -> dict[str, Result]:
    results: dict[str, Result] = {}
    with Client(cluster.endpoints) as client:
        warm_up(client)
        workloads: list[tuple[str, str, str, Callable[[Client], float]]] = [
            ("W1", "10,000 independent no-op tasks", "tasks/s", independent),
            ("W2", "layered DAG, 100 x 100", "tasks/s", layered),
            ("W3", "chain of 500, per hop", "ms", chain),
        ]
        for name, what, unit, run in workloads:
            results[name] = _show(name, what, unit, [run(client) for _ in range(runs)])
        latencies = [singles(client) for _ in range(runs)]
        results["W4"] = _show("W4", "one task at a time, p50", "ms", [one.p50 for one in latencies])
        results["W4_p99"] = _show("W4_p99", "one task at a time, p99", "ms", [one.p99 for one in latencies])
    lost = [leader_lost(cluster) for _ in range(runs)]
    results["W6_leader"] = _show("W6_leader", "leader killed -> next assignment", "ms", lost)
    return results


def _show(name: str, what: str, unit: str, values: Sequence[float]) -> Result:
    median, low, high = statistics.median(values), min(values), max(values)
    click.echo(f"{name:10} {what:36} {median:10,.2f} {unit:8} [{low:,.2f} .. {high:,.2f}]  n={len(values)}")
    return {"median": median, "min": low, "max": high, "unit": unit, "runs": list(values)}


if __name__ == "__main__":
    main()
