"""What is measured: the workloads with their sizes, and the figures that come of them."""

from __future__ import annotations

from typing import Final, NamedTuple


class Measure(NamedTuple):
    """A figure; `more` where more is better."""

    key: str
    title: str
    unit: str
    more: bool


class Workload(NamedTuple):
    """`size` is tasks, in W2 layers, in W6 seconds of patience; no less than `least`."""

    name: str
    size: int
    measures: tuple[Measure, ...]
    least: int = 1

    def scaled(self, scale: float) -> Workload:
        """So large a part of it, to try things with: what comes of it is no measurement."""
        return self._replace(size=max(self.least, round(self.size * scale)))


_RATE: Final = "tasks/s"

CALM: Final = (
    Workload("W1", 10_000, (Measure("W1", "independent tasks", _RATE, True),)),
    Workload("W2", 100, (Measure("W2", "layered DAG", _RATE, True),), 2),
    Workload("W3", 500, (Measure("W3", "chain, per hop", "ms", False),)),
    Workload(
        "W4",
        300,
        (
            Measure("W4", "one at a time, p50", "ms", False),
            Measure("W4_p99", "one at a time, p99", "ms", False),
        ),
        2,
    ),
)
"""Nobody is killed."""

_AGENT: Final = Measure("W6_agent", "agent killed, its tasks run elsewhere", "ms", False)
_PROCESS: Final = Measure("W6_process", "task's process killed, it runs again", "ms", False)


def losses(name: str, patience_s: int) -> tuple[Workload, ...]:
    """W6 of a peer: an agent and all that runs under it is killed; and, where tasks run in processes of
    their own, one of these."""
    agent = Workload("W6_agent", patience_s, (_AGENT,))
    process = Workload("W6_process", patience_s, (_PROCESS,))
    return (agent,) if name == "dask" else (agent, process)


WRITES: Final = (
    Measure("W7", "one client, stream, p50", "ms", False),
    Measure("W7_p99", "one client, stream, p99", "ms", False),
    Measure("W7_100_streams", "100 clients, streams", "writes/s", True),
    Measure("W7_calls", "one client, calls, p50", "ms", False),
    Measure("W7_calls_p99", "one client, calls, p99", "ms", False),
    Measure("W7_100", "100 clients, calls", "writes/s", True),
)
"""Ours in two ways, etcd's always by calls."""
