"""The workloads on Celery with Redis, without persistence, as broker and keeper of results."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from typing import Final

import celery
import redis
from celery import chain, group

from bench.graphs import Graph
from bench.peers.program import (
    FOLDER,
    HOST,
    SLOTS,
    await_port,
    family,
    free_port,
    held,
    kill,
    launch,
    parent,
    serve,
    wait_until,
)

_PORT: Final = "QUORUMFLOW_PEER_REDIS"
_START_S: Final = 60.0

# Where there is none, this is the client; the workers that it starts inherit its choice.
_address = f"redis://{HOST}:{os.environ.setdefault(_PORT, str(free_port()))}"
app = celery.Celery("peers", broker=f"{_address}/0", backend=f"{_address}/1")
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


def _noop(*before: int) -> int:
    return 1


noop = app.task(name="noop")(_noop)
# By default a task is lost with its worker.
held_task = app.task(name="held", acks_late=True, reject_on_worker_lost=True)(held)


class Celery:
    """One worker of eight processes."""

    agents = 1

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def versions(self) -> dict[str, str]:
        command = ["redis-server", "--version"]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        server = next(word[2:] for word in told.stdout.split() if word.startswith("v="))
        return {"celery": celery.__version__, "redis": redis.__version__, "redis-server": server}

    def start(self, agents: int) -> None:
        port = os.environ[_PORT]
        broker = ["redis-server", "--port", port, "--bind", HOST, "--dir", os.environ[FOLDER]]
        self._processes.append(launch([*broker, "--save", "", "--appendonly", "no"]))
        await_port(int(port))
        for number in range(agents):
            worker = ["celery", "-A", "bench.peers.on_celery", "worker", "-n", f"w{number}@peers"]
            worker += ["-c", str(SLOTS // agents), "-l", "warning"]
            worker += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
            self._processes.append(launch(worker))
        wait_until(lambda: len(app.control.ping(timeout=0.5)) == agents, _START_S, "no answer from workers")

    def stop(self) -> None:
        kill(self._processes)

    def run(self, graph: Graph) -> None:
        # It knows no graphs but chains: of others the client submits a layer when the one before has ended.
        layers = _layers(graph)
        if all(tasks == 1 for tasks in layers):
            chain(*[noop.si() for _ in layers]).apply_async().get()
            return
        for tasks in layers:
            group(noop.si() for _ in range(tasks)).apply_async().join_native()

    def single(self) -> None:
        noop.delay().get()

    def hold(self, marks: str, task: str, seconds: float) -> None:
        held_task.delay(marks, task, seconds)

    def victims(self, workload: str, pid: int) -> list[int]:
        return family(parent(pid)) if workload == "W6_agent" else [pid]


def _layers(graph: Graph) -> list[int]:
    """How many tasks have so many, one after the other, before them."""
    depths: dict[str, int] = {}
    for task, before in graph.items():
        depths[task] = 1 + max((depths[one] for one in before), default=-1)
    return list(Counter(depths.values()).values())


if __name__ == "__main__":
    serve(Celery())
