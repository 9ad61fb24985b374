"""W8: what waits. How much memory it takes, how fast it comes, how soon nodes serve again with it, and how
fast work goes on beside it."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Final

from bench.figures import Outcome
from bench.fleet import Crew
from bench.sizes import TURNS, Sizes
from bench.stage import Stage
from bench.usage import LEADER, resident_bytes
from bench.waiting import fill, waiting
from bench.workloads import no_ops
from coordinator.cli.local_cluster import LocalCluster

_RESTART_TIMEOUT_S: Final = 600.0
_DRAIN_TIMEOUT_S: Final = 300.0
_SETTLE_S: Final = 3.0
_WARM_UP: Final = 10
"""One part in so many of what is measured is done before, and does not count."""
_POLL_S: Final = 0.02

_no_ops = partial(no_ops, "w8")


def backlog(stage: Stage, sizes: Sizes) -> Outcome:
    """All of it, on a stage without agents: they come when everything waits."""
    before = _leader_bytes(stage)
    meter = stage.meter()
    submitting_s = fill(stage.client, sizes.backlog, _no_ops)
    usage = meter.read(sizes.backlog)
    # The leader has still to write, and to throw away what it needed for that.
    time.sleep(_SETTLE_S)
    grown = _leader_bytes(stage) - before
    restart_s = _restart(stage.cluster)
    if (there := waiting(stage.client)) != sizes.backlog:
        raise RuntimeError(f"{there} tasks wait after the restart instead of {sizes.backlog}")
    _await_queues(stage, sizes.backlog)
    values = {
        "W8_bytes": grown / sizes.backlog,
        "W8_submit": sizes.backlog / submitting_s,
        "W8_restart": restart_s,
        "W8_growth": _growth(stage, sizes) * 100,
    }
    return Outcome(values, {"W8_submit": usage})


def _growth(stage: Stage, sizes: Sizes) -> float:
    """How fast work goes on beside all that waits, to how fast it does beside few, by turns: the median of
    the ratios."""
    ratios = []
    with Stage(stage.folder / "few", None) as beside_few:
        fill(beside_few.client, sizes.few, _no_ops)
        for _ in range(TURNS):
            fill(beside_few.client, sizes.drained, _no_ops)
            few = _rate(beside_few, sizes.drained)
            ratios.append(_rate(stage, sizes.drained) / few)
    return statistics.median(ratios)


def _leader_bytes(stage: Stage) -> int:
    """All nodes begin alike: a change of leader in between makes no difference."""
    return resident_bytes(stage.pids()[LEADER][0])


def _restart(cluster: LocalCluster) -> float:
    """SIGKILL all nodes; returns the seconds from starting them again until a leader and all nodes serve."""
    for node in cluster.nodes:
        cluster.kill_node(node)
    began = time.perf_counter()
    for node in cluster.nodes:
        cluster.restart_node(node)
    cluster.wait_until_ready(_RESTART_TIMEOUT_S)
    return time.perf_counter() - began


def _await_queues(stage: Stage, tasks: int) -> None:
    """Return when the new leader, which serves before, has so many tasks in its queues. Raises
    TimeoutError."""
    leader = stage.cluster.nodes[stage.cluster.leader()].grpc
    deadline = time.perf_counter() + _DRAIN_TIMEOUT_S
    while (found := stage.client.node_status(leader).counters["queued_tasks"]) < tasks:
        if time.perf_counter() > deadline:
            raise TimeoutError(f"the leader has {found} of {tasks} tasks in its queues")
        time.sleep(_POLL_S)


def _rate(stage: Stage, tasks: int) -> float:
    """Let agents come and go; returns the tasks that they end in a second, over so many and after a few.
    Raises RuntimeError if all had ended before one could look."""
    there = waiting(stage.client)
    stage.join(Crew())
    start, first = _await_ends(stage, there - tasks // _WARM_UP)
    target = first - tasks * (_WARM_UP - 2) // _WARM_UP
    if target < 0:
        raise RuntimeError(f"{there} tasks end too soon to be measured over {tasks}: let more wait")
    end, last = _await_ends(stage, target)
    stage.dismiss()
    return (first - last) / (end - start)


def _await_ends(stage: Stage, left: int) -> tuple[float, int]:
    """When no more than so many were left, and how many were. Raises TimeoutError."""
    deadline = time.perf_counter() + _DRAIN_TIMEOUT_S
    while (found := waiting(stage.client)) > left:
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{found} tasks are left after {_DRAIN_TIMEOUT_S} s, not {left}")
        time.sleep(_POLL_S)
    return time.perf_counter(), found
