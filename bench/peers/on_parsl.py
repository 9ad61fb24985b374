"""The workloads on Parsl's HighThroughputExecutor: an interchange, a manager and its workers."""

from __future__ import annotations

import os
from typing import Any

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

from bench.graphs import Graph, last
from bench.peers.program import FOLDER, HOST, SLOTS, family, held, parent, serve


def _noop(*before: int) -> int:
    return 1


class Parsl:
    """One block of eight workers."""

    agents = 1

    def __init__(self) -> None:
        self._noop = parsl.python_app(_noop)
        self._held = parsl.python_app(held)

    def versions(self) -> dict[str, str]:
        return {"parsl": parsl.__version__}

    def start(self, agents: int) -> None:
        executor = HighThroughputExecutor(
            address=HOST,
            loopback_address=HOST,
            max_workers_per_node=SLOTS // agents,
            cores_per_worker=0.001,
            encrypted=False,
            provider=LocalProvider(init_blocks=agents, max_blocks=agents),
        )
        # Without retries what is lost fails, which is the default.
        config = Config(
            executors=[executor],
            run_dir=f"{os.environ[FOLDER]}/parsl",
            strategy="none",
            usage_tracking=0,
            retries=1,
            initialize_logging=False,
        )
        self._kernel = parsl.load(config)
        self.run({f"t{at}": [] for at in range(200)})

    def stop(self) -> None:
        self._kernel.cleanup()
        parsl.clear()

    def run(self, graph: Graph) -> None:
        results: dict[str, Any] = {}
        for task, before in graph.items():
            results[task] = self._noop(*[results[one] for one in before])
        for task in last(graph):
            results[task].result()

    def single(self) -> None:
        self._noop().result()

    def hold(self, marks: str, task: str, seconds: float) -> None:
        self._held(marks, task, seconds)

    def victims(self, workload: str, pid: int) -> list[int]:
        # The workers are children of their manager.
        return family(parent(pid)) if workload == "W6_agent" else [pid]


if __name__ == "__main__":
    serve(Parsl())
