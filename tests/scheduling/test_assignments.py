"""Why this agent (E10): what is told of a choice is what decided it, and telling changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.commands import SetNamespace
from coordinator.core.model import AgentLoad, Requirements, Resources, Task, TaskProfile
from coordinator.core.namespaces import DEFAULT_NAMESPACE
from coordinator.families.built_in import MIXED_LOAD
from coordinator.scheduling.costs.policies import SIMPLE
from coordinator.scheduling.costs.terms import total
from coordinator.scheduling.costs.weights import BALANCED, FAST, GREEN, Policy
from coordinator.scheduling.plans.assignments import RUNNERS_UP, SECONDS, Assignment, Witness
from coordinator.scheduling.plans.lane import NOWHERE, Lane
from coordinator.scheduling.plans.looks import would_go
from coordinator.scheduling.plans.planner import plan_by_cost
from coordinator.scheduling.plans.round import Round, Spare
from coordinator.scheduling.plans.solver import Plan, plan
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.graphs import AT_ONCE, Arrivals
from tests.scheduling.clusters import Cluster, measure
from tests.scheduling.test_bulk import crowds
from tests.scheduling.test_planner import FEW, GREEDY, LIMITS, NOW_S, policies, snapshots, wait

Crew = Callable[..., Snapshot]
EVERYTHING = 10_000


def witnessed(snapshot: Snapshot, policy: Policy, left: int = EVERYTHING) -> tuple[Plan, list[Assignment]]:
    witness = Witness(policy.name, NOW_S, left)
    made = plan_by_cost(snapshot, LIMITS, policy, NOW_S, witness)
    return made, witness.taken


# --- the terms are those that decide ------------------------------------------------------------------------


@FEW
@given(
    snapshots(),
    st.sampled_from([FAST, BALANCED, GREEN]),
    st.sampled_from([0.01, 1.0, 30.0]),
    st.sampled_from(
        [AT_ONCE, Arrivals(5.0, 3.0, {0: (1.0, 0.5)}), Arrivals(0.0, 2.0, {}), Arrivals(9.0, 0.0, {})]
    ),
    st.booleans(),
    st.sampled_from([NOWHERE, NOWHERE, 0]),
)
def test_terms_add_up_to_the_cost_by_which_agents_are_chosen(
    snapshot: Snapshot, policy: Policy, work_s: float, arrivals: Arrivals, spare: bool, previous: int
) -> None:
    spares = {0: Spare(9_000, 1, 2.5)} if spare and snapshot.agents.held_attempts[0] else {}
    around = Round(snapshot, policy.weights, NOW_S, spares)
    lane = Lane(TaskProfile("t"), policy, around, snapshot.prices.renew(), LIMITS.shortlist)
    costs = lane._costs(work_s, arrivals, previous)
    there = np.isfinite(costs)
    terms = lane.terms(work_s, arrivals, previous)
    assert total(terms)[there] == pytest.approx(costs[there], rel=1e-9)
    assert all((term.scale * term.rows >= -1e-12).all() for term in terms)


@FEW
@given(snapshots(), policies)
def test_a_witness_changes_nothing_and_tells_of_every_choice(snapshot: Snapshot, policy: Policy) -> None:
    made, taken = witnessed(snapshot, policy)
    assert made == plan_by_cost(snapshot, LIMITS, policy, NOW_S)
    assert [(one.key, one.attempt, one.agent) for one in taken] == [
        (choice.key, choice.attempt, choice.agent) for choice in made.choices
    ]


@FEW
@given(crowds(lasting=(4, 3_000, 3_000)), st.sampled_from([FAST, BALANCED, GREEDY]))
def test_of_many_that_go_together_it_tells_the_first(snapshot: Snapshot, policy: Policy) -> None:
    made, taken = witnessed(snapshot, policy)
    assert made == plan_by_cost(snapshot, LIMITS, policy, NOW_S)
    agents = {choice.key: choice.agent for choice in made.choices}
    assert bool(taken) == bool(made.choices)
    assert all(agents[one.key] == one.agent for one in taken)


@FEW
@given(snapshots(), policies)
def test_who_lost_and_could_be_had_costs_no_less(snapshot: Snapshot, policy: Policy) -> None:
    for one in witnessed(snapshot, policy)[1]:
        chosen, *others = one.candidates
        assert chosen.lost == ""
        assert len(others) <= RUNNERS_UP
        assert len({other.agent for other in one.candidates}) == len(one.candidates)
        for other in others:
            assert other.cost == pytest.approx(sum(part.product for part in other.parts))
            assert other.lost
            if other.lost.startswith("costs"):
                assert other.cost >= chosen.cost - 1e-9


@FEW
@given(snapshots(), st.sampled_from(sorted(SIMPLE)))
def test_simple_policies_tell_too(snapshot: Snapshot, name: str) -> None:
    witness = Witness(name, NOW_S, EVERYTHING)
    made = plan(snapshot, LIMITS, SIMPLE[name], witness=witness)
    assert made == plan(snapshot, LIMITS, SIMPLE[name])
    assert [(one.key, one.agent) for one in witness.taken] == [
        (choice.key, choice.agent) for choice in made.choices
    ]


def test_no_more_is_taken_down_than_it_may(crew: Crew) -> None:
    snapshot = crew(a={"slots": 9}, b={"slots": 9})
    for key in range(1, 9):
        wait(snapshot, key)
    assert len(witnessed(snapshot, BALANCED, 3)[1]) == 3


# --- what it says ------------------------------------------------------------------------------------------


def lost(one: Assignment) -> dict[str, str]:
    return {candidate.agent: candidate.lost for candidate in one.candidates[1:]}


def test_each_reason_to_lose_is_told_apart(crew: Crew) -> None:
    memory = {"resources": Resources(memory_bytes=100)}
    snapshot = crew(
        chosen={"speed": 2.0} | memory,
        slow={"speed": 0.5} | memory,
        away={"speed": 9.0} | memory,
        full={"speed": 50.0} | memory,
        small={"speed": 7.0, "resources": Resources(memory_bytes=9)},
    )
    agents = snapshot.agents
    agents.put(agents.specs[agents.rows["away"]], 1, "draining")  # type: ignore[arg-type]
    snapshot.hold("full", 77, 1, TaskProfile("t"), 60_000, NOW_S)
    profile = TaskProfile("t", requirements=Requirements(resources=Resources(memory_bytes=50)))
    wait(snapshot, 1, profile, expected_ms=10_000)
    (one,) = witnessed(snapshot, GREEDY)[1]
    assert (one.agent, one.considered, one.policy, one.at_s) == ("chosen", 4, "greedy", NOW_S)
    assert lost(one)["slow"].startswith("costs 16")
    assert lost(one)["slow"].endswith("by its run")
    assert lost(one)["full"].startswith("capacity: all are busy: full holds 1 attempts with 1 slots")
    assert lost(one)["away"] == "accepting: draining"
    assert "small" not in lost(one), "it could never take it"
    assert one.low_s < one.expected_s < one.high_s
    assert one.expected_s == pytest.approx(5.0, rel=0.2)


def test_the_terms_of_a_choice_by_hand(crew: Crew) -> None:
    snapshot = crew(a={"busy_watts": 100.0}, b={"busy_watts": 300.0, "speed": 1.1})
    measure(snapshot, "b", AgentLoad(cpu=0.5))
    wait(snapshot, 1, expected_ms=10_000)
    (one,) = witnessed(snapshot, BALANCED)[1]
    assert one.unit == SECONDS
    parts = {candidate.agent: {part.name: part for part in candidate.parts} for candidate in one.candidates}
    run_a, run_b = parts["a"]["run"].value, parts["b"]["run"].value
    assert run_b == pytest.approx(run_a / 1.1)
    work_s = snapshot.work_s(TaskProfile("t"), 1, 10_000)
    assert parts["b"]["load"].product == pytest.approx(
        BALANCED.weights.balance * MIXED_LOAD.cpu * 0.5 * work_s
    )
    assert parts["a"]["energy"].product == pytest.approx(0.1 * run_a * 0.5)
    assert parts["b"]["energy"].product == pytest.approx(0.1 * run_b * 1.5)
    assert parts["a"]["wait"].product == parts["a"]["balance"].product == 0
    cheaper = min(one.candidates, key=lambda candidate: candidate.cost)
    assert one.agent == cheaper.agent == "a"


def test_who_failed_before_pays_for_it(crew: Crew) -> None:
    snapshot = crew(a={"speed": 1.1}, b={})
    wait(snapshot, 1, previous="a", expected_ms=9_000)
    (one,) = witnessed(snapshot, FAST)[1]
    assert one.agent == "b"
    assert lost(one)["a"].endswith("by its failed_there")


# --- afterwards --------------------------------------------------------------------------------------------


def held(cluster: Cluster, policy: Policy) -> tuple[Task, Assignment]:
    task = cluster.task("x")
    attempt = task.attempts[-1]
    row = cluster.snapshot.agents.rows[attempt.agent]
    snapshot = cluster.snapshot
    return task, would_go(snapshot, policy, policy.name, task, attempt.number, row, cluster.now_s)


def test_what_was_not_taken_down_is_worked_out_as_if_the_agent_did_not_hold_it() -> None:
    cluster = Cluster()
    cluster.join("a", speed=2.0)
    cluster.join("b")
    cluster.submit({"x": []}, expected_ms={"x": 10_000})
    before = witness_of(cluster)
    cluster.begin("a", "x")
    task, one = held(cluster, BALANCED)
    assert not one.recorded
    assert (one.key, one.attempt, one.agent) == (task.key, 1, "a")
    assert [candidate.cost for candidate in one.candidates] == pytest.approx(
        [candidate.cost for candidate in before.candidates]
    )
    assert cluster.snapshot.agents.held.tolist()[:2] == [1, 0], "it looks, and touches nothing"


def witness_of(cluster: Cluster) -> Assignment:
    witness = Witness("balanced", cluster.now_s, 1)
    plan_by_cost(cluster.snapshot, LIMITS, BALANCED, cluster.now_s, witness)
    return witness.taken[0]


@pytest.mark.parametrize("name", sorted(SIMPLE))
def test_a_simple_policy_is_asked_afterwards_too(name: str) -> None:
    cluster = Cluster()
    cluster.join("a")
    cluster.join("b", slots=2)
    cluster.submit({"x": []})
    cluster.begin("a", "x")
    task = cluster.task("x")
    one = would_go(cluster.snapshot, SIMPLE[name], name, task, 1, 0, cluster.now_s)
    assert [candidate.agent for candidate in one.candidates] == ["a", "b"]
    assert one.candidates[0].parts[0].value == 0, "its own attempt does not count against it"


def test_a_task_is_explained_by_the_policy_of_its_namespace() -> None:
    cluster = Cluster()
    cluster.join("a")
    cluster.join("b")
    cluster.apply(SetNamespace("", DEFAULT_NAMESPACE, policy="green"))
    cluster.submit({"x": []}, expected_ms={"x": 10_000})
    assert witness_of(cluster).policy == "green"
    cluster.begin("a", "x")
    _, one = held(cluster, BALANCED)
    assert one.policy == "green"
    weights = {part.name: part.weight for part in one.candidates[0].parts}
    assert weights["energy"] == GREEN.weights.energy
