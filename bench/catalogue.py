"""The workloads of the suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bench.backlog import backlog
from bench.failover import agent_lost, leader_lost
from bench.figures import Kind, Outcome
from bench.fleet import Crew
from bench.graphs import WIDTH
from bench.keys import few_clients, hundred_clients, one_client, one_stream
from bench.sizes import Sizes
from bench.stage import Stage
from bench.submissions import single_calls
from bench.suite import Run, Workload
from bench.workloads import chain, independent, layered, singles

_PROCESSES: Final = 2
"""Of those agents that are many: one for each core."""


def _metered(work: Callable[[Sizes], int], run: Callable[[Stage, Sizes], Mapping[str, float]]) -> Run:
    """A run of so much `work`, with what it costs."""

    def measured(stage: Stage, sizes: Sizes) -> Outcome:
        meter = stage.meter()
        values = run(stage, sizes)
        return Outcome.at(meter.read(work(sizes)), values)

    return measured


def _independent(key: str) -> Run:
    return _metered(
        lambda sizes: sizes.tasks, lambda stage, sizes: {key: independent(stage.client, sizes.tasks)}
    )


def _single_calls(stage: Stage, sizes: Sizes) -> Mapping[str, float]:
    return {"W1u": stage.run(single_calls(stage.cluster, sizes.single_calls))}


def _singles(stage: Stage, sizes: Sizes) -> Mapping[str, float]:
    latency = singles(stage.client, sizes.singles)
    return {"W4": latency.p50, "W4_p99": latency.p99}


def _agent_lost(stage: Stage, sizes: Sizes) -> Outcome:
    del sizes
    if stage.fleet is None:
        raise RuntimeError("a workload that kills an agent needs a crew")
    return Outcome({"W6_agent": agent_lost(stage.client, stage.fleet)})


def _leader_lost(stage: Stage, sizes: Sizes) -> Outcome:
    return Outcome({"W6_leader": leader_lost(stage.cluster, sizes.failover_tasks)})


WORKLOADS: Final = (
    Workload("W1", [Kind("W1", "independent no-op tasks", "tasks/s")], _independent("W1"), quick=True),
    Workload(
        "W1u",
        [Kind("W1u", "tasks by single calls, 100 at once", "tasks/s")],
        _metered(lambda sizes: sizes.single_calls, _single_calls),
    ),
    Workload(
        "W2",
        [Kind("W2", "layered DAG of 100 x 100", "tasks/s")],
        _metered(
            lambda sizes: sizes.layers * WIDTH,
            lambda stage, sizes: {"W2": layered(stage.client, sizes.layers)},
        ),
        quick=True,
    ),
    Workload(
        "W3",
        [Kind("W3", "chain of 500, per hop", "ms")],
        _metered(lambda sizes: sizes.chain, lambda stage, sizes: {"W3": chain(stage.client, sizes.chain)}),
        quick=True,
    ),
    Workload(
        "W4",
        [Kind("W4", "one task at a time, p50", "ms"), Kind("W4_p99", "one task at a time, p99", "ms")],
        _metered(lambda sizes: sizes.singles, _singles),
        quick=True,
    ),
    Workload(
        "W7",
        [Kind("W7", "writes of one client, p50", "ms"), Kind("W7_p99", "writes of one client, p99", "ms")],
        one_client,
        per="write",
        quick=True,
    ),
    Workload(
        "W7_stream",
        [Kind("W7_stream", "100 writes at once on one stream", "writes/s")],
        one_stream,
        per="write",
        quick=True,
    ),
    Workload(
        "W7_8",
        [
            Kind("W7_8", "8 clients, a write at a time on streams", "writes/s"),
            Kind("W7_8_calls", "8 clients, a write at a time by calls", "writes/s"),
        ],
        few_clients,
        per="write",
    ),
    Workload(
        "W7_100",
        [Kind("W7_100", "100 clients, a call for each write", "writes/s")],
        hundred_clients,
        per="write",
    ),
    Workload("W6_agent", [Kind("W6_agent", "agent killed -> its tasks run elsewhere", "ms")], _agent_lost),
    Workload(
        "W6_leader",
        [Kind("W6_leader", "leader killed -> next assignment", "ms")],
        _leader_lost,
        leader_stays=False,
    ),
    Workload(
        "W1s",
        [Kind("W1s", "W1, strictly one task per slot", "tasks/s")],
        _independent("W1s"),
        crew=Crew(queue=0),
    ),
    Workload(
        "W5_200",
        [Kind("W5_200", "W1 on 200 agents of one slot", "tasks/s")],
        _independent("W5_200"),
        crew=Crew(_PROCESSES, 200 // _PROCESSES, slots=1),
    ),
    Workload(
        "W5",
        [Kind("W5", "W1 on 1,000 agents of one slot", "tasks/s")],
        _independent("W5"),
        crew=Crew(_PROCESSES, 1_000 // _PROCESSES, slots=1),
    ),
    Workload(
        "W8",
        [
            Kind("W8_bytes", "leader's memory per waiting task", "bytes"),
            Kind("W8_submit", "submitting what waits", "tasks/s"),
            Kind("W8_restart", "all nodes killed -> serving with it", "s"),
            Kind("W8_growth", "tasks/s beside it, to those beside few", "%"),
        ],
        backlog,
        crew=None,
        once=True,
        leader_stays=False,
    ),
)
"""Those that share a stage stand together, and what harms the stage comes last on it."""
