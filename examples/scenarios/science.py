"""Unequal nodes of an institute: computations that ask for much or little, slots that are reserved for an
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
from coordinator.core.reservations import ReservationRecord
from coordinator.dag.draft import DagDraft
from coordinator.scheduling.costs.policies import Simple, policy
from coordinator.scheduling.costs.weights import BALANCED, Policy
from examples.scenarios.cluster import Crew, running, wait_for
from examples.scenarios.crew import STEP_S
from examples.scenarios.findings import Finding, Scenario, less

NODES: Final = (("small", 12, 4, 0.8), ("large", 4, 16, 1.5), ("old", 4, 8, 0.5))
"""Kind, how many, cores of each, speed."""

_AT_THE_INSTRUMENT: Final = ("large-0", "old-0")
_INSTRUMENT: Final = (("near", "instrument"),)
_ELSEWHERE: Final = (("near", "nothing"),)
_RESERVED: Final = ReservationRecord("instrument", "instrument", slots=1, labels=_INSTRUMENT)

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
    once, simple = replace(BALANCED, rivals=1), policy("round-robin")
    ours = _institute(once, comes_for_s, reserved=True)
    theirs = _institute(simple, comes_for_s, reserved=True)
    apart = _institute(simple, comes_for_s, reserved=False)
    took = less(ours["took_s"], apart["took_s"])
    kept, lost_s = on_a_cluster()
    return Scenario(
        "science",
        "20 unequal nodes, a slot reserved on two of them; a node that fails",
        [
            Finding("utilisation", ours["used"], "%", "cores of all nodes", at_least=88),
            Finding("without", apart["used"], "%", "the same, two nodes for the instrument alone"),
            Finding(
                "queueing",
                less(ours["waited_s"], apart["waited_s"]),
                "% shorter",
                "mean wait, against round-robin and two nodes for the instrument alone",
                at_least=60,
            ),
            Finding(
                "queueing",
                less(ours["waited_s"], theirs["waited_s"]),
                "% shorter",
                "mean wait, against round-robin with the same reservation",
            ),
            Finding("completion time", took, "% shorter", "as the first, until the end"),
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
            labels=_INSTRUMENT if f"{kind}-{at}" in _AT_THE_INSTRUMENT else _ELSEWHERE,
        )
        for kind, count, cores, speed in NODES
        for at in range(count)
    ]


def _institute(placement: Policy | Simple, comes_for_s: float, *, reserved: bool) -> dict[str, float]:
    """Slots are reserved for the instrument, or else no job may go to its nodes."""
    nodes = _nodes()
    fleet = Fleet(nodes, placement, round_s=0.1)
    if reserved:
        fleet.reserve(_RESERVED)
    chance = np.random.default_rng(_SEED)
    can = sum(node.slots * node.speed for node in nodes)
    every_s = _WORK_S * float(np.mean(_CORES)) / (_DEMAND * can)
    cores: dict[str, int] = {}
    for at, when_s in enumerate(np.arange(0.0, comes_for_s, every_s).tolist()):
        job = f"job-{at:04}"
        cores[job] = int(chance.choice(_CORES))
        work_s = _WORK_S * float(chance.lognormal(-0.18, 0.6))
        fleet.submit(_job(DagHeader(job), work_s, cores[job], () if reserved else _ELSEWHERE), when_s)
    for at, when_s in enumerate(np.arange(0.0, comes_for_s, _RUN_EVERY_S).tolist()):
        run = DagHeader(f"{_RUN}{at:03}", _RESERVED.namespace)
        fleet.submit(_job(run, _RUN_S, 1, _INSTRUMENT), when_s)
    fleet.run()
    waited = {one.dag_id: one.began_s - fleet.submitted_s[one.dag_id] for one in fleet.ran}
    busy_s = sum(
        cores.get(one.dag_id, 1) * max(0.0, min(one.ended_s, comes_for_s) - max(one.began_s, _SETTLED_S))
        for one in fleet.ran
    )
    return {
        "used": 100 * busy_s / (sum(node.slots for node in nodes) * (comes_for_s - _SETTLED_S)),
        "waited_s": float(np.mean([waited[one] for one in cores])),
        "took_s": float(np.mean([fleet.finished_s[one] - fleet.submitted_s[one] for one in cores])),
        "reserved_s": max(wait_s for one, wait_s in waited.items() if one not in cores),
    }


def _job(header: DagHeader, work_s: float, cores: int, where: tuple[tuple[str, str], ...]) -> DagDraft:
    needs = Requirements(Resources(1_000 * cores), labels=where)
    return DagDraft(header, [task("only", work_s, type=f"on-{cores}", requirements=needs)])


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
