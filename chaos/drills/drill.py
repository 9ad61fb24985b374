"""One drill: a cluster, agents and clients at work; the faults of a plan; then the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_sdk import errors
from chaos.checking.promises import Check, Evidence, check_all
from chaos.drills.conductor import Conductor
from chaos.drills.incident import Incident
from chaos.drills.judging import (
    all_answered,
    all_overcome,
    elections,
    few_elections,
    linearizable,
    never_diverged,
    one_leader_per_term,
    within,
)
from chaos.drills.lookout import Lookout
from chaos.drills.stage import existing_cluster, own_cluster
from chaos.faults import Site
from chaos.faults.base import await_event, now_ms
from chaos.faults.processes import PowerCut
from chaos.gathering import gather
from chaos.harness.fleet import CAPABILITY
from chaos.load.keys import KeyClients
from chaos.load.submissions import Acknowledged, SteadyLoad
from chaos.plan import Plan
from chaos.recorder import Recorder

_DRAIN_S: Final = 60.0
_POLL_S: Final = 0.02
_UNFINISHED: Final = ("STAGING", "RUNNING")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a drill found. Moments in Unix ms; `leaders` are (moment, term, node id) at each change."""

    plan: Plan
    seed: int
    nodes: list[str]
    began_ms: int
    ended_ms: int
    incidents: list[Incident]
    checks: list[Check]
    acknowledged: list[Acknowledged]
    problems: list[str]
    tasks: int
    completions_ms: list[int]
    leaders: list[tuple[int, int, str]]
    elections: int

    @property
    def held(self) -> bool:
        """Whether every promise held, within every limit."""
        return all(check.held for check in self.checks)


def run(
    plan: Plan,
    directory: Path,
    *,
    seed: int,
    endpoints: Sequence[str] = (),
    on_incident: Callable[[Incident], None],
) -> Outcome:
    """Carry out a plan in a folder, on a cluster of its own or on the one at `endpoints`. The seed decides
    what is drawn; `on_incident` is told of each fault once it is overcome.

    Raises:
        StartFailed, WrongState: the cluster could not be started in this folder, or the plan needs what it
            cannot have there.
        Unavailable: a step did not come about in time; nothing can be said of the promises then.
    """
    stage = (
        existing_cluster(plan, directory, endpoints, seed)
        if endpoints
        else own_cluster(plan, directory, seed)
    )
    with stage as site:
        return _Drill(plan, site, directory, seed).run(on_incident)


class _Drill:
    """One run on a cluster that is there."""

    def __init__(self, plan: Plan, site: Site, directory: Path, seed: int) -> None:
        self._plan = plan
        self._site = site
        self._seed = seed
        may_miss = any(isinstance(fault, PowerCut) for fault in plan.faults)
        self._recorder = Recorder(site.endpoints, may_miss=may_miss)
        self._lookout = Lookout(lambda: site.endpoints)
        self._load = SteadyLoad(
            site.endpoints,
            pause_s=1 / plan.load.submissions_per_s,
            name=f"{site.fleet.name}-",
            capabilities={CAPABILITY: 1},
        )
        self._keys = KeyClients(
            site.endpoints,
            registers=plan.load.registers,
            queues=plan.load.queues,
            pause_s=plan.load.pause_s,
            name=f"{site.fleet.name}/",
            file=directory / "history.jsonl",
            seed=seed,
        )

    def run(self, on_incident: Callable[[Incident], None]) -> Outcome:
        self._await_agents()
        conductor = Conductor(self._site, self._load, self._recorder, self._lookout, on_incident)
        began_ms = now_ms()
        self._recorder.start()
        self._lookout.start()
        self._load.start()
        self._keys.start()
        try:
            conductor.run(self._plan, self._seed)
        finally:
            self._load.stop()
            self._keys.stop()
        ended_ms = now_ms()
        try:
            evidence = self._gather()
        finally:
            self._lookout.stop()
            self._recorder.stop()
        return Outcome(
            plan=self._plan,
            seed=self._seed,
            nodes=self._nodes(conductor.incidents),
            began_ms=began_ms,
            ended_ms=ended_ms,
            incidents=conductor.incidents,
            checks=self._judge(evidence, conductor.incidents),
            acknowledged=self._load.acknowledged,
            problems=self._load.problems,
            tasks=len(evidence.tasks),
            completions_ms=sorted(task.ended_ms for task in evidence.tasks if task.ended_ms),
            leaders=self._lookout.leaders(),
            elections=elections(self._lookout.sightings),
        )

    def _nodes(self, incidents: Sequence[Incident]) -> list[str]:
        """All that there were, those that were replaced included."""
        struck = (node for one in incidents for node in one.nodes)
        return sorted({*struck, *self._site.nodes}, key=lambda node: (len(node), node))

    def _await_agents(self) -> None:
        expected = set(self._site.fleet.alive)

        def registered() -> bool:
            there = {agent.agent_id for agent in self._site.client.agents() if agent.state == "IDLE"}
            return expected <= there

        await_event("the drill's agents are registered", registered)

    def _gather(self) -> Evidence:
        acknowledged = {one.dag_id: one.tasks for one in self._load.acknowledged}
        client = self._site.client
        deadline = time.monotonic() + _DRAIN_S
        for dag in list(client.list(states=_UNFINISHED)):
            if dag.dag_id not in acknowledged:
                continue
            try:
                client.wait(dag.dag_id, max(deadline - time.monotonic(), _POLL_S))
            except (errors.NotFound, errors.DeadlineExceeded):
                # The checkers name it.
                continue
        return gather(client, acknowledged, self._recorder, self._site.fleet.effects)

    def _elections(self) -> list[Check]:
        allowed = self._plan.elections
        return [] if allowed is None else [few_elections(elections(self._lookout.sightings), allowed)]

    def _judge(self, evidence: Evidence, incidents: Sequence[Incident]) -> list[Check]:
        sightings = self._lookout.sightings
        return [
            *check_all(evidence),
            all_answered(self._load.problems),
            linearizable(self._keys.judgements(), self._keys.operations()),
            one_leader_per_term(sightings),
            never_diverged(sightings),
            all_overcome(incidents),
            *self._elections(),
            *(check for limit in self._plan.limits for check in within(incidents, limit)),
        ]
