"""500 nodes of unequal speed that process what comes: some fail, and then more comes than all can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from msgspec.structs import replace

from bench.placement.fleet import Fleet
from bench.placement.platform import Platform
from bench.placement.studies.streams import busy_share, task
from coordinator.core.model import AgentSpec, AttemptOutcome, DagHeader
from coordinator.dag.draft import DagDraft
from coordinator.scheduling.costs.policies import Simple, policy
from coordinator.scheduling.costs.weights import BALANCED, Policy
from examples.scenarios.findings import Finding, Scenario, less

NODES: Final = 500

_SEED: Final = 1
_MAPS: Final = 0.08
"""Of a job, for each node."""
_WORK_S: Final = 40.0
_COMES_FOR_S: Final = 130.0
_SETTLED_S: Final = 60.0
_DEMAND: Final = 0.9
"""Of what the nodes can do, before the surge."""
_FAIL_AT_S: Final = 80.0
_FAILING: Final = 0.01
_GRACE_S: Final = 0.1
_SURGE_S: Final = 100.0
_SURGE: Final = 1.0
"""What comes beside, as a share of what the nodes can do."""
_LOOK_EVERY_S: Final = 5.0
_TOO_LONG_S: Final = 3.0
"""Of work of all nodes that waits: more of it in two looks is a signal to add nodes."""


def run(nodes: int = NODES) -> Scenario:
    """Both policies on the same work."""
    once = replace(BALANCED, rivals=1)
    ours, theirs = (_run(one, nodes) for one in (once, policy("round-robin")))
    shorter, steadily = less(ours.took_s, theirs.took_s), f"{_DEMAND:.0%} of what can be done comes"
    return Scenario(
        "data processing",
        f"{nodes} nodes, {_FAILING:.0%} of which fail; after {_SURGE_S:g} s twice as much comes",
        [
            Finding("utilisation", ours.used_at_most, "%", "slots in use in the surge", at_least=85),
            Finding("utilisation before", ours.used, "%", f"while {steadily}"),
            Finding("completion time", shorter, "% shorter", "of jobs, against round-robin", at_least=40),
            Finding("availability", ours.available, "%", "tasks done, nobody helping", at_least=99.95),
            Finding("signal to scale", ours.signal_s, "s", "from the surge on", at_most=45),
        ],
    )


class _Outcome(NamedTuple):
    used: float
    used_at_most: float
    took_s: float
    available: float
    signal_s: float


def _run(placement: Policy | Simple, nodes: int) -> _Outcome:
    speeds = Platform.of(nodes).speeds.tolist()
    agents = [AgentSpec(f"node-{at:03}", "virtual", 1, 2, speed=speed) for at, speed in enumerate(speeds)]
    fleet = Fleet(agents, placement, round_s=0.1)
    chance, can = np.random.default_rng(_SEED), sum(speeds)
    jobs, maps = 0, max(1, round(_MAPS * nodes))
    for from_s, share in ((0.0, _DEMAND), (_SURGE_S, _SURGE)):
        every_s = maps * _WORK_S / (share * can)
        for when_s in np.arange(from_s, _COMES_FOR_S, every_s).tolist():
            fleet.submit(_job(jobs, maps, chance), when_s)
            jobs += 1
    failing = chance.choice(nodes, max(1, round(_FAILING * nodes)), replace=False).tolist()
    for at in failing:
        fleet.at(_FAIL_AT_S, lambda at=at: fleet.fail(agents[at].agent_id, _GRACE_S))  # type: ignore[misc]
    signal = _Signal(fleet, can)
    fleet.run()
    stay = [spec for at, spec in enumerate(agents) if at not in failing]
    done = {(one.dag_id, one.task_id) for one in fleet.ran if one.outcome is AttemptOutcome.COMPLETED}
    before = [one for one, came_s in fleet.submitted_s.items() if came_s < _SURGE_S]
    return _Outcome(
        _used(fleet, stay, _SETTLED_S, _SURGE_S),
        _used(fleet, stay, _SURGE_S + _LOOK_EVERY_S, _COMES_FOR_S),
        float(np.mean([fleet.finished_s[one] - fleet.submitted_s[one] for one in before])),
        100 * len(done) / (jobs * (maps + 1)),
        signal.given_s - _SURGE_S,
    )


def _used(fleet: Fleet, agents: Sequence[AgentSpec], from_s: float, to_s: float) -> float:
    """Percent of their slots."""
    return 100 * float(np.mean([busy_share(fleet.ran, spec, from_s, to_s) for spec in agents]))


class _Signal:
    """Looks at the work that waits, as whoever scales the fleet would, with `coordctl` or the API."""

    def __init__(self, fleet: Fleet, can: float) -> None:
        self.given_s = float("inf")
        self._fleet = fleet
        self._can = can
        self._seen = 0
        fleet.at(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        waits_s = self._fleet.waiting * _WORK_S / self._can
        self._seen = self._seen + 1 if waits_s > _TOO_LONG_S else 0
        if self._seen >= 2:
            self.given_s = min(self.given_s, self._fleet.now_s)
        self._fleet.at(self._fleet.now_s + _LOOK_EVERY_S, self._look)


def _job(number: int, maps: int, chance: np.random.Generator) -> DagDraft:
    """Maps, and what brings them together."""
    works = (_WORK_S * chance.lognormal(-0.08, 0.4, maps)).tolist()
    parts = [task(f"map-{at}", work_s) for at, work_s in enumerate(works)]
    reduce = task("reduce", 2.0, depends_on=tuple(one.id for one in parts))
    return DagDraft(DagHeader(f"job-{number:04}"), [*parts, reduce])
