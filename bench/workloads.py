"""W1 to W5, as functions of a client: each returns the figures of one run.

W1 to W4 are those that the peers were measured with, on the same graphs: 10,000 independent no-op tasks,
a layered graph of 100 x 100 with two or three predecessors each (seed 42), a chain of 500, and one task
at a time. W5 is W1 with other agents.
"""

from __future__ import annotations

import statistics
import time
from typing import Final, NamedTuple

from agent_sdk import Client, Dag, Task
from bench import graphs

TASKS: Final = 10_000
LAYERS: Final = 100
CHAIN: Final = 500
SINGLES: Final = 300
WARM_UP: Final = 1_000
_TIMEOUT_S: Final = 120.0


class Latency(NamedTuple):
    """Milliseconds."""

    p50: float
    p99: float


def independent(client: Client, tasks: int = TASKS) -> float:
    """W1: tasks per second from submitting until all results are known."""
    return tasks / _seconds(client, no_ops("w1", tasks))


def layered(client: Client, layers: int = LAYERS) -> float:
    """W2: tasks per second."""
    graph = graphs.layered(layers)
    return len(graph) / _seconds(client, _dag("w2", graph))


def chain(client: Client, tasks: int = CHAIN) -> float:
    """W3: milliseconds per hop."""
    return _seconds(client, _dag("w3", graphs.chain(tasks))) / tasks * 1e3


def singles(client: Client, tasks: int = SINGLES) -> Latency:
    """W4: one task at a time, from submitting it until its end is known."""
    times = [_seconds(client, no_ops("w4", 1)) * 1e3 for _ in range(tasks)]
    return Latency(statistics.median(times), statistics.quantiles(times, n=100)[98])


def no_ops(name: str, tasks: int) -> Dag:
    """Tasks that do nothing and wait for nothing."""
    return _dag(name, graphs.independent(tasks))


def warm_up(client: Client, tasks: int = WARM_UP) -> None:
    """Let connections, caches and estimates settle."""
    for _ in range(3):
        _seconds(client, no_ops("warm-up", tasks))


def _dag(name: str, graph: graphs.Graph) -> Dag:
    return Dag(name=name).extend(
        Task(id=task, type="noop", depends_on=before) for task, before in graph.items()
    )


def _seconds(client: Client, dag: Dag) -> float:
    began = time.perf_counter()
    status = client.run(dag, _TIMEOUT_S)
    took = time.perf_counter() - began
    if status.state != "COMPLETED":
        raise RuntimeError(f"DAG {status.dag_id} of the benchmark ended {status.state}: {dict(status.tasks)}")
    return took
