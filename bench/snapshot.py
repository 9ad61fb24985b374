"""`python -m bench.snapshot`: what sending a snapshot of a big state does to the commits that go on
meanwhile.

Three nodes as processes. One is down while the log is compacted beyond it; it comes back, and gets the state
as a snapshot. One client writes small DAGs, one at a time and no more than `RATE` a second, during the
transfer and, for comparison, when it is over. Both by turns, so that whatever else the machine does meets
both.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import click

from agent_sdk import Client, Dag, Task
from agent_sdk._encode import dag_spec
from agent_sdk.errors import QuorumflowError
from bench.options import Finite, json_option
from bench.results import facts, save
from bench.running import workplace
from bench.waiting import fill
from coordinator.cli.local_cluster import LocalCluster

RATE: Final = 100.0
"""Commits a second that the client asks for."""
_PAYLOAD: Final = bytes(100)
_SETTINGS: Final = {"raft.compact_after_entries": "1000", "raft.keep_entries": "100", "log.level": "warning"}
_LEAST_COMMITS: Final = 2
_TIMEOUT_S: Final = 600.0
_POLL_S: Final = 0.05
_SETTLE_S: Final = 2.0


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


def _assigned(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> Mapping[str, str]:
    if wrong := [one for one in given if "=" not in one]:
        raise click.BadParameter(f"{wrong[0]} is not KEY=VALUE")
    return dict(one.split("=", 1) for one in given)


@click.command()
@click.option("--tasks", type=click.IntRange(1), default=1_000_000, show_default=True, help="That wait.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Transfers.")
@click.option(
    "--quiet-s",
    type=Finite(0.1),
    default=10.0,
    show_default=True,
    help="After each, measured without one.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_assigned,
    help="A setting of every node.",
)
@json_option("snapshot")
def main(tasks: int, rounds: int, quiet_s: float, settings: Mapping[str, str], file: Path) -> None:
    """Measure the latency of commits without and during the transfer of a snapshot."""
    report: dict[str, object] = {**facts()._asdict(), "tasks": tasks}
    of_nodes = _SETTINGS | dict(settings)
    with workplace() as folder, LocalCluster.start(folder, nodes=3, settings=of_nodes) as cluster:
        report["commits"] = _measure(cluster, tasks, rounds, quiet_s)
    save(report, file)


def _measure(cluster: LocalCluster, tasks: int, rounds: int, quiet_s: float) -> dict[str, object]:
    during, quiet = list[float](), list[float]()
    transfers_s: list[float] = []
    with Client(cluster.endpoints, timeout_s=_TIMEOUT_S) as client:
        status = client.cluster_status()
        late = next(node.id for node in status.nodes if node.id != status.leader)
        cluster.kill_node(late)
        click.echo(f"submitted {tasks:,} tasks in {fill(client, tasks, _big_dag):.1f} s")
        writer = Writer(cluster.endpoints)
        try:
            for _ in range(rounds):
                began, ended = _transfer(cluster, client, late)
                time.sleep(_SETTLE_S)
                settled = time.perf_counter()
                time.sleep(quiet_s)
                during += writer.between(began, ended)
                quiet += writer.between(settled, settled + quiet_s)
                transfers_s.append(ended - began)
        finally:
            writer.stop()
    median_s = statistics.median(transfers_s)
    click.echo(f"{tasks:,} waiting tasks, {rounds} transfers of {median_s:.1f} s until installed")
    without, with_transfer = _show("without a transfer", quiet), _show("during a transfer", during)
    ratio = with_transfer["p99"] / without["p99"]
    click.echo(f"p99 during a transfer is {ratio:.2f} times that without")
    return {"without": without, "during": with_transfer, "ratio_p99": ratio, "transfers_s": transfers_s}


def _transfer(cluster: LocalCluster, client: Client, late: str) -> tuple[float, float]:
    """Let the node fall behind what the leader's log holds, and come back; when the transfer of its snapshot
    began, and when it was installed."""
    leader = client.cluster_status().leader_address
    if cluster.alive(late):
        cluster.kill_node(late)
    compactions = client.node_status(leader).counters.get("compactions", 0)
    _await_counter(client, leader, "compactions", compactions + 2)
    begun = client.node_status(leader).counters.get("snapshots_begun", 0)
    cluster.restart_node(late)
    began = _await_counter(client, leader, "snapshots_begun", begun + 1)
    return began, _await_counter(client, cluster.nodes[late].grpc, "snapshots_installed", 1)


def _big_dag(tasks: int) -> Dag:
    dag = Dag(name="big")
    for at in range(tasks):
        before = [f"task-{at - 10:08}"] if at >= 10 else []
        dag.add(Task(id=f"task-{at:08}", type="nobody-does-this", payload=_PAYLOAD, depends_on=before))
    return dag


def _await_counter(client: Client, endpoint: str, counter: str, target: float) -> float:
    """When the node's counter had reached the target."""
    deadline = time.perf_counter() + _TIMEOUT_S
    while time.perf_counter() < deadline:
        try:
            if client.node_status(endpoint).counters.get(counter, 0) >= target:
                return time.perf_counter()
        except QuorumflowError:
            pass
        time.sleep(_POLL_S)
    raise RuntimeError(f"{counter} of {endpoint} did not reach {target} in {_TIMEOUT_S} s")


def _show(what: str, times: list[float]) -> dict[str, float]:
    if len(times) < _LEAST_COMMITS:
        raise RuntimeError(
            f"{len(times)} commits {what}, and {_LEAST_COMMITS} are needed: take longer, or more tasks"
        )
    p50, p99, worst = statistics.median(times), statistics.quantiles(times, n=100)[98], max(times)
    click.echo(f"{what:24} p50 {p50:8.2f} ms   p99 {p99:8.2f} ms   worst {worst:8.2f} ms   n={len(times)}")
    return {"p50": p50, "p99": p99, "worst": worst, "n": float(len(times))}


if __name__ == "__main__":
    main()
