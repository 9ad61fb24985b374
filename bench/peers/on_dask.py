"""The workloads on dask.distributed: a scheduler, workers with threads, and this client."""

from __future__ import annotations

import itertools
import os
import subprocess

import distributed

from bench.graphs import Graph, last
from bench.peers.program import FOLDER, HOST, SLOTS, await_port, free_port, held, kill, launch, serve


def _noop(*before: int) -> int:
    return 1


class Dask:
    """Two workers of four threads: faster here than one of eight or eight of one."""

    agents = 2

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._graphs = itertools.count(1)
        self._held: list[object] = []

    def versions(self) -> dict[str, str]:
        return {"distributed": distributed.__version__}

    def start(self, agents: int) -> None:
        port = free_port()
        address = f"tcp://{HOST}:{port}"
        scheduler = ["dask", "scheduler", "--host", HOST, "--port", str(port), "--no-dashboard", "--no-show"]
        self._processes.append(launch(scheduler))
        await_port(port)
        worker = ["dask", "worker", address, "--host", HOST, "--no-nanny", "--no-dashboard"]
        worker += ["--nthreads", str(SLOTS // agents), "--memory-limit", "0"]
        worker += ["--local-directory", os.environ[FOLDER]]
        self._processes += [launch(worker) for _ in range(agents)]
        self._client = distributed.Client(address)
        self._client.wait_for_workers(agents)

    def stop(self) -> None:
        self._held.clear()
        self._client.close(timeout=1)
        kill(self._processes)

    def run(self, graph: Graph) -> None:
        # Keys name results for good: each graph has its own.
        prefix = f"g{next(self._graphs)}-"
        tasks = {prefix + task: (_noop, *(prefix + one for one in before)) for task, before in graph.items()}
        self._client.get(tasks, [prefix + task for task in last(graph)])

    def single(self) -> None:
        self._client.submit(_noop, pure=False).result()

    def hold(self, marks: str, task: str, seconds: float) -> None:
        self._held.append(self._client.submit(held, marks, task, seconds, pure=False))

    def victims(self, workload: str, pid: int) -> list[int]:
        return [pid]


if __name__ == "__main__":
    serve(Dask())
