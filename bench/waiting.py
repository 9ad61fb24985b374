"""Tasks that wait in a cluster: putting them there, and counting them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from agent_sdk import Client, Dag
from agent_sdk._encode import dag_spec
from agent_sdk.types import FINAL_STATES

TASKS_PER_DAG: Final = 10_000


def fill(client: Client, tasks: int, make: Callable[[int], Dag]) -> float:
    """Submit so many tasks, in DAGs of `TASKS_PER_DAG` and one of those that are left, which `make` makes;
    returns the seconds that it took. Each DAG is encoded once, whatever the number of its copies."""
    whole, left = divmod(tasks, TASKS_PER_DAG)
    specs = [dag_spec(make(TASKS_PER_DAG))] * whole if whole else []
    specs += [dag_spec(make(left))] if left else []
    began = time.perf_counter()
    for spec in specs:
        client.submit_spec(spec)
    return time.perf_counter() - began


def waiting(client: Client) -> int:
    """How many tasks have not ended."""
    counts = client.cluster_status().tasks
    return sum(count for state, count in counts.items() if state not in FINAL_STATES)
