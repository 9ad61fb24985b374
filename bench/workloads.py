"""W1 to W5, as functions of a client: each returns the figures of one run.

W1 to W4 are those that the peers were measured with, on the same graphs: 10,000 independent no-op tasks,
a layered graph of 100 x 100 with two or three predecessors each (seed 42), a chain of 500, and one task
at a time. W5 is W1 with other agents.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import Final, NamedTuple

from agent_sdk import Client, Dag, Task

WIDTH: Final = 100
_SEED: Final = 42
_TIMEOUT_S: Final = 120.0


class Latency(NamedTuple):
    """Milliseconds."""

    p50: float
    p99: float


def independent(client: Client, tasks: int) -> float:
    """W1: tasks per second from submitting until all results are known."""
    return tasks / _seconds(client, no_ops("w1", tasks))


def layered(client: Client, layers: int) -> float:
    """W2: tasks per second."""
    chance = random.Random(_SEED)
    dag = Dag(name="w2").extend(Task(id=f"0-{at}", type="noop") for at in range(WIDTH))
    for layer in range(1, layers):
        for at in range(WIDTH):
            before = [f"{layer - 1}-{one}" for one in chance.sample(range(WIDTH), chance.choice((2, 3)))]
            dag.add(Task(id=f"{layer}-{at}", type="noop", depends_on=before))
    return layers * WIDTH / _seconds(client, dag)


def chain(client: Client, tasks: int) -> float:
    """W3: milliseconds per hop."""
    dag = Dag(name="w3")
    for at in range(tasks):
        dag.add(Task(id=f"t{at}", type="noop", depends_on=[f"t{at - 1}"] if at else []))
    return _seconds(client, dag) / tasks * 1e3


def singles(client: Client, tasks: int) -> Latency:
    """W4: one task at a time, from submitting it until its end is known."""
    times = [_seconds(client, no_ops("w4", 1)) * 1e3 for _ in range(tasks)]
    return Latency(statistics.median(times), statistics.quantiles(times, n=100)[98])


def no_ops(name: str, tasks: int) -> Dag:
    """Tasks that do nothing and wait for nothing."""
    return Dag(name=name).extend(Task(id=f"t{at}", type="noop") for at in range(tasks))


def warm_up(client: Client) -> None:
    """Let connections, caches and estimates settle."""
    for _ in range(3):
        _seconds(client, no_ops("warm-up", 1_000))


def _seconds(client: Client, dag: Dag) -> float:
    began = time.perf_counter()
    status = client.wait(client.submit(dag), _TIMEOUT_S)
    took = time.perf_counter() - began
    if status.state != "COMPLETED":
        raise RuntimeError(f"DAG {status.dag_id} of the benchmark ended {status.state}: {dict(status.tasks)}")
    return took
