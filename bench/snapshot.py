"""`python -m bench.snapshot`: what sending a snapshot of a big state does to the commits that go on
meanwhile.

Three nodes as processes. One is down while the tasks are submitted and the log is compacted beyond it; it
comes back, and gets the state as a snapshot. One client writes small DAGs, one at a time and no more than
`RATE` a second, before, during and after.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

import click

from agent_sdk import Client, Dag, Task
from agent_sdk._encode import dag_spec
from agent_sdk.errors import QuorumflowError
from bench.machine import machine, versions
from coordinator.cli.local_cluster import LocalCluster
from quorumflow_proto.v1 import common_pb2

RATE: Final = 100.0
"""Commits a second that the client asks for."""
_TASKS_PER_DAG: Final = 10_000
_PAYLOAD: Final = bytes(100)
_SETTINGS: Final = {"raft.compact_after_entries": "1000", "raft.keep_entries": "100", "log.level": "warning"}
_TIMEOUT_S: Final = 600.0
_POLL_S: Final = 0.05


class Write(NamedTuple):
    """One commit: when it was asked for, in seconds of `time.perf_counter`, and how long it took, in ms."""

    began_s: float
    took_ms: float


class Writer:
    """The client that writes all the while, in a thread of its own."""

    def __init__(self, endpoints: list[str]) -> None:
        self.writes: list[Write] = []
        self._client = Client(endpoints)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")
        self._thread.start()

    def between(self, start_s: float, end_s: float) -> list[float]:
        """Milliseconds of the commits that were asked for in this time."""
        return [write.took_ms for write in self.writes if start_s <= write.began_s < end_s]

    def stop(self) -> None:
        """End it, once its present commit has."""
        self._ending.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        spec = dag_spec(Dag(name="small").add(Task(id="t", type="nobody-does-this")))
        due = time.perf_counter()
        while not self._ending.wait(max(0.0, due - time.perf_counter())):
            began = time.perf_counter()
            self._client.submit_spec(spec)
            ended = time.perf_counter()
            self.writes.append(Write(began, (ended - began) * 1e3))
            due = max(due + 1 / RATE, ended)


@click.command()
@click.option("--tasks", default=1_000_000, show_default=True, help="That wait in the state.")
@click.option("--quiet-s", default=15.0, show_default=True, help="How long to measure without a transfer.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="A setting of every node.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(tasks: int, quiet_s: float, assignments: tuple[str, ...], file: Path | None) -> None:
    """Measure the latency of commits without and during the transfer of a snapshot."""
    settings = _SETTINGS | dict(one.split("=", 1) for one in assignments)
    report: dict[str, object] = {"machine": machine(), "versions": versions(), "tasks": tasks}
    folder = Path(tempfile.mkdtemp(prefix="quorumflow-bench-"))
    try:
        with LocalCluster.start(folder, nodes=3, settings=settings) as cluster:
            report["phases"] = _measure(cluster, tasks, quiet_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if file is not None:
        file.write_text(json.dumps(report, indent=2) + "\n")


def _measure(cluster: LocalCluster, tasks: int, quiet_s: float) -> dict[str, object]:
    with Client(cluster.endpoints, timeout_s=_TIMEOUT_S) as client:
        status = client.cluster_status()
        late = next(node.id for node in status.nodes if node.id != status.leader)
        cluster.kill_node(late)
        _fill(client, tasks)
        writer = Writer(cluster.endpoints)
        try:
            time.sleep(quiet_s)
            began = time.perf_counter()
            cluster.restart_node(late)
            installed = _await_counter(client, cluster.nodes[late].grpc, "snapshots_installed")
            time.sleep(2.0)
            settled = time.perf_counter()
            time.sleep(quiet_s)
        finally:
            writer.stop()
        end = time.perf_counter()
    click.echo(f"state of {tasks:,} waiting tasks; the follower had it after {installed - began:.1f} s")
    quiet = _show("without, three nodes", writer.between(settled, end))
    phases = {
        "two_nodes": _show("without, one node down", writer.between(began - quiet_s, began)),
        "during": _show("during the transfer", writer.between(began, installed)),
        "three_nodes": quiet,
        "transfer_s": installed - began,
    }
    return phases | {"ratio_p99": phases["during"]["p99"] / quiet["p99"]}  # type: ignore[index]


def _fill(client: Client, tasks: int) -> None:
    """Submit the waiting tasks, in DAGs of equal size."""
    spec = _big_dag()
    began = time.perf_counter()
    for _ in range(tasks // _TASKS_PER_DAG):
        client.submit_spec(spec)
    click.echo(f"submitted {tasks:,} tasks in {time.perf_counter() - began:.1f} s")


def _big_dag() -> common_pb2.DagSpec:
    dag = Dag(name="big")
    for at in range(_TASKS_PER_DAG):
        before = [f"task-{at - 10:08}"] if at >= 10 else []
        dag.add(Task(id=f"task-{at:08}", type="nobody-does-this", payload=_PAYLOAD, depends_on=before))
    return dag_spec(dag)


def _await_counter(client: Client, endpoint: str, counter: str) -> float:
    """When the node's counter was first above zero."""
    deadline = time.perf_counter() + _TIMEOUT_S
    while time.perf_counter() < deadline:
        try:
            if client.node_status(endpoint).counters.get(counter, 0):
                return time.perf_counter()
        except QuorumflowError:
            pass
        time.sleep(_POLL_S)
    raise RuntimeError(f"{counter} of {endpoint} stayed 0 for {_TIMEOUT_S} s")


def _show(what: str, times: list[float]) -> dict[str, float]:
    p50, p99, worst = statistics.median(times), statistics.quantiles(times, n=100)[98], max(times)
    click.echo(f"{what:24} p50 {p50:8.2f} ms   p99 {p99:8.2f} ms   worst {worst:8.2f} ms   n={len(times)}")
    return {"p50": p50, "p99": p99, "worst": worst, "n": float(len(times))}


if __name__ == "__main__":
    main()
