"""Unequal nodes of an institute: computations that ask for much or little, nodes that are reserved for an
instrument, and one computation that outlives its node from its last checkpoint."""

from __future__ import annotations

import json
import time
from typing import Final

import numpy as np
from msgspec.structs import replace

from agent_sdk import Client, Dag, Requires, Task
from bench.placement.fleet import Fleet
from bench.placement.studies.streams import task
from coordinator.core.model import AgentSpec, DagHeader, Requirements, Resources
from coordinator.dag.draft import DagDraft
from coordinator.scheduling.costs.policies import Simple, policy
from coordinator.scheduling.costs.weights import BALANCED, Policy
from examples.scenarios.cluster import Crew, running, wait_for
from examples.scenarios.crew import STEP_S
from examples.scenarios.findings import Finding, Scenario, less

NODES: Final = (("small", 12, 4, 0.8), ("large", 4, 16, 1.5), ("old", 4, 8, 0.5))
"""Kind, how many, cores of each, speed."""

_RESERVED: Final = ("large-0", "old-0")
_INSTRUMENT: Final = (("pool", "instrument"),)
_SHARED: Final = (("pool", "shared"),)

_SEED: Final = 1
_COMES_FOR_S: Final = 900.0
_SETTLED_S: Final = 150.0
_DEMAND: Final = 0.91
_CORES: Final = (1, 2, 4)
_WORK_S: Final = 60.0
_RUN_EVERY_S: Final = 30.0
"""The instrument asks for a core so often, and wants to be answered at once."""
_RUN_S: Final = 20.0
_RUN: Final = "instrument-"

_CHECKPOINTED_S: Final = 4.0
_KILL_AT: Final = 0.5
_PATIENCE_S: Final = 60.0


def run(comes_for_s: float = _COMES_FOR_S) -> Scenario:
    """The institute on virtual time, the checkpoint on a real cluster."""
    once = replace(BALANCED, rivals=1)
    ours, theirs = (_institute(one, comes_for_s) for one in (once, policy("round-robin")))
    waited, took = (less(ours[name], theirs[name]) for name in ("waited_s", "took_s"))
    kept, lost_s = on_a_cluster()
    return Scenario(
        "science",
        "20 unequal nodes, two of them reserved; a node that fails",
        [
            Finding("utilisation", ours["used"], "%", "cores of the shared nodes", at_least=88),
            Finding("queueing", waited, "% shorter", "mean wait, against round-robin", at_least=60),
            Finding("completion time", took, "% shorter", "the same, until the end"),
            Finding("reserved", ours["reserved_s"], "s", "longest wait of the instrument"),
            Finding("kept", kept, "% of the work", "by the checkpoint, node killed; real cluster"),
            Finding("done again", lost_s, "s", "after the last checkpoint; real cluster"),
        ],
    )


# --- on virtual time ----------------------------------------------------------------------------------------


def _nodes() -> list[AgentSpec]:
    return [
        AgentSpec(
            f"{kind}-{at}",
            "virtual",
            cores,
            2 * cores,
            speed=speed,
            resources=Resources(1_000 * cores),
            labels=_INSTRUMENT if f"{kind}-{at}" in _RESERVED else _SHARED,
        )
        for kind, count, cores, speed in NODES
        for at in range(count)
    ]


def _institute(placement: Policy | Simple, comes_for_s: float) -> dict[str, float]:
    nodes = _nodes()
    shared = [node for node in nodes if node.labels == _SHARED]
    fleet = Fleet(nodes, placement, round_s=0.1)
    chance = np.random.default_rng(_SEED)
    can = sum(node.slots * node.speed for node in shared)
    every_s = _WORK_S * float(np.mean(_CORES)) / (_DEMAND * can)
    cores: dict[str, int] = {}
    for at, when_s in enumerate(np.arange(0.0, comes_for_s, every_s).tolist()):
        job = f"job-{at:04}"
        cores[job] = int(chance.choice(_CORES))
        work_s = _WORK_S * float(chance.lognormal(-0.18, 0.6))
        fleet.submit(_job(job, work_s, cores[job], _SHARED), when_s)
    for at, when_s in enumerate(np.arange(0.0, comes_for_s, _RUN_EVERY_S).tolist()):
        fleet.submit(_job(f"{_RUN}{at:03}", _RUN_S, 1, _INSTRUMENT), when_s)
    fleet.run()
    waited = {one.dag_id: one.began_s - fleet.submitted_s[one.dag_id] for one in fleet.ran}
    busy_s = sum(
        cores[one.dag_id] * max(0.0, min(one.ended_s, comes_for_s) - max(one.began_s, _SETTLED_S))
        for one in fleet.ran
        if one.dag_id in cores
    )
    return {
        "used": 100 * busy_s / (sum(node.slots for node in shared) * (comes_for_s - _SETTLED_S)),
        "waited_s": float(np.mean([waited[one] for one in cores])),
        "took_s": float(np.mean([fleet.finished_s[one] - fleet.submitted_s[one] for one in cores])),
        "reserved_s": max(wait_s for one, wait_s in waited.items() if one not in cores),
    }


def _job(name: str, work_s: float, cores: int, pool: tuple[tuple[str, str], ...]) -> DagDraft:
    needs = Requirements(Resources(1_000 * cores), labels=pool)
    return DagDraft(DagHeader(name), [task("only", work_s, type=f"on-{cores}", requirements=needs)])


# --- on a real cluster --------------------------------------------------------------------------------------


def on_a_cluster() -> tuple[float, float]:
    """How much of what was done was kept when a node was killed, in percent, and the seconds that were done
    again."""
    crews = [[{"agent_id": f"node-{at}", "slots": 1}] for at in range(2)]
    with running(crews, nodes=1) as (client, started):
        dag = Dag(name="long").add(
            Task(id="only", type="compute", payload={"seconds": _CHECKPOINTED_S}, requires=Requires())
        )
        dag_id = client.submit(dag)
        done_s = _kill_after(client, dag_id, started)
        client.wait(dag_id, timeout_s=_PATIENCE_S)
        kept_s = json.loads(client.result(dag_id, "only").data)["from"] * STEP_S
    return 100 * min(kept_s / done_s, 1.0), max(done_s - kept_s, 0.0)


def _kill_after(client: Client, dag_id: str, crews: list[Crew]) -> float:
    """Kill whoever runs it when it has done a good part; returns how long it had run."""
    wait_for(lambda: client.task(dag_id, "only").progress >= _KILL_AT, "half of the computation")
    (attempt,) = client.task(dag_id, "only").attempts
    crews[int(attempt.agent.removeprefix("node-"))].kill()
    return time.time() - attempt.started_ms / 1_000
