"""The workloads on Ray: a head node, and where agents are killed a node for each of them."""

from __future__ import annotations

import logging
from typing import Any, Final

import ray
import ray.cluster_utils

from bench.graphs import Graph, last
from bench.peers.program import SLOTS, family, held, parent, serve

_HOST: Final = "127.0.0.2"
"""On loopback, but not one of those that Ray puts the machine's own address in the place of."""
_NODE: Final[dict[str, Any]] = {"object_store_memory": 200 * 2**20, "include_dashboard": False}
_QUIET: Final[dict[str, Any]] = {"logging_level": logging.ERROR, "log_to_driver": False}


def _noop(*before: int) -> int:
    return 1


class Ray:
    """One node of eight CPUs: here as fast as any other."""

    agents = 1

    def __init__(self) -> None:
        self._cluster: Any = None
        self._noop = ray.remote(num_cpus=1)(_noop)
        self._held = ray.remote(num_cpus=1)(held)
        self._references: list[Any] = []

    def versions(self) -> dict[str, str]:
        return {"ray": ray.__version__}

    def start(self, agents: int) -> None:
        if agents == 1:
            ray.init("local", num_cpus=SLOTS, _node_ip_address=_HOST, **_NODE, **_QUIET)
            return
        head = {"num_cpus": 0, "node_ip_address": _HOST, **_NODE}
        self._cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        for _ in range(agents):
            self._cluster.add_node(num_cpus=SLOTS // agents, node_ip_address=_HOST, **_NODE)
        ray.init(address=self._cluster.address, _node_ip_address=_HOST, **_QUIET)
        # Workers are started when they are first needed: that is no part of a recovery.
        ray.get([self._noop.remote() for _ in range(200)])

    def stop(self) -> None:
        self._references.clear()
        ray.shutdown()
        if self._cluster is not None:
            self._cluster.shutdown()
            self._cluster = None

    def run(self, graph: Graph) -> None:
        results: dict[str, Any] = {}
        for task, before in graph.items():
            results[task] = self._noop.remote(*[results[one] for one in before])
        ray.get([results[task] for task in last(graph)])

    def single(self) -> None:
        ray.get(self._noop.remote())

    def hold(self, marks: str, task: str, seconds: float) -> None:
        spread = self._held.options(scheduling_strategy="SPREAD")
        self._references.append(spread.remote(marks, task, seconds))

    def victims(self, workload: str, pid: int) -> list[int]:
        # A node is its raylet, whose children the workers are.
        return family(parent(pid)) if workload == "W6_agent" else [pid]


if __name__ == "__main__":
    serve(Ray())
