"""Placement by what load will be (D6, E5): a task that lasts goes where it will be quiet, one that does not
where it is quiet now, and explanations tell the one from the other."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.model import AgentLoad, AgentSpec, TaskFamily, TaskProfile
from coordinator.families.built_in import COMPUTE_LOAD, MIXED_LOAD
from coordinator.scheduling.costs.terms import total
from coordinator.scheduling.costs.weights import Policy, Weights
from coordinator.scheduling.load.measured import NOTHING_EXPECTED, ExpectedLoads
from coordinator.scheduling.load.scores import AS_IT_IS, LoadScores
from coordinator.scheduling.plans.lane import NOWHERE, Lane
from coordinator.scheduling.plans.planner import plan_by_cost
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.graphs import AT_ONCE
from tests.scheduling.clusters import measure
from tests.scheduling.test_load_scores import EVEN, placed, shown
from tests.scheduling.test_planner import LIMITS, NOW_S, snapshots, wait

Crew = Callable[..., Snapshot]
LEADS_S = (60.0, 120.0, 300.0, 600.0)
MANY_SLOTS = {"slots": 100}


def expected(**cpus: list[float]) -> ExpectedLoads:
    """By agent, the CPU at each of the distances; nothing of memory."""
    cpu = np.array(list(cpus.values())).T
    return ExpectedLoads(LEADS_S, tuple(cpus), cpu, np.full_like(cpu, math.nan))


def two(crew: Crew) -> Snapshot:
    """`soon` is busy for less than a minute more, `late` will be from then on."""
    snapshot = crew(soon=MANY_SLOTS, late=MANY_SLOTS)
    measure(snapshot, "soon", AgentLoad(cpu=0.8))
    measure(snapshot, "late", AgentLoad(cpu=0.1))
    snapshot.measured.expect(expected(soon=[0.1] * 4, late=[0.8] * 4))
    return snapshot


@pytest.mark.parametrize(
    ("seconds", "agent"), [(1.0, "late"), (30.0, "late"), (100.0, "soon"), (200.0, "soon"), (5_000.0, "soon")]
)
def test_a_task_goes_by_the_load_while_it_lasts(crew: Crew, seconds: float, agent: str) -> None:
    assert placed(two(crew), TaskProfile("t", TaskFamily.COMPUTE), seconds).agent == agent


@pytest.mark.parametrize(("expected_ms", "agent"), [(20_000, "late"), (100_000, "soon")])
def test_so_do_many(crew: Crew, expected_ms: int, agent: str) -> None:
    snapshot = two(crew)
    for key in range(1, 81):
        wait(snapshot, key, TaskProfile("t", TaskFamily.COMPUTE), expected_ms=expected_ms)
    choices = plan_by_cost(snapshot, LIMITS, Policy("only", Weights(0.0, 1.0)), NOW_S).choices
    assert len(choices) == 80
    assert sum(choice.agent == agent for choice in choices) > 45


def test_without_what_is_expected_it_goes_by_what_was_measured(crew: Crew) -> None:
    snapshot = two(crew)
    snapshot.measured.expect(NOTHING_EXPECTED)
    one = placed(snapshot, TaskProfile("t", TaskFamily.COMPUTE), 200.0)
    assert one.agent == "late"
    assert shown(one, "forecast") == {}


def test_explanations_tell_what_is_expected_from_what_was_measured(crew: Crew) -> None:
    snapshot = two(crew)
    profile = TaskProfile("t", TaskFamily.COMPUTE)
    work_s = snapshot.work_s(profile, 1, 100_000)
    one = placed(snapshot, profile, 100.0)
    assert shown(one, "load") == pytest.approx(
        {"soon": work_s * COMPUTE_LOAD.cpu * 0.8, "late": work_s * COMPUTE_LOAD.cpu * 0.1}
    )
    assert shown(one, "forecast") == pytest.approx(
        {"soon": -work_s * COMPUTE_LOAD.cpu * 0.7, "late": work_s * COMPUTE_LOAD.cpu * 0.7}
    )
    assert shown(placed(snapshot, profile, 10.0), "forecast") == {}


def test_only_agents_whose_forecasts_have_proved_better_go_by_them(crew: Crew) -> None:
    snapshot = two(crew)
    measure(snapshot, "soon", AgentLoad(cpu=0.8, memory=0.5))
    snapshot.measured.expect(expected(soon=[math.nan, 0.1, 0.1, 0.1], nobody=[0.5] * 4))
    measured = snapshot.measured
    assert measured.loads_at(0).cpu.tolist() == [0.8, 0.1]
    assert measured.loads_at(1).cpu.tolist() == [0.1, 0.1]
    assert measured.loads_at(1).memory.tolist() == [0.5, 0.0]
    assert measured.loads().cpu.tolist() == [0.8, 0.1]


def test_a_row_s_next_agent_is_not_expected_to_be_as_the_one_before(crew: Crew) -> None:
    snapshot = two(crew)
    snapshot.measured.forget("soon")
    snapshot.remove_agent("soon")
    assert snapshot.measured.loads_at(2).cpu.tolist() == [0.0, 0.8]
    for at in range(200):
        snapshot.agents.put(AgentSpec(f"new{at}", "i", 1, 1), epoch=1)
    assert snapshot.measured.loads_at(2).cpu.tolist() == [0.0, 0.8, *[0.0] * 199]


@given(st.floats(0, 1e6))
def test_the_middle_of_a_task_decides_how_far_ahead_is_looked(lasts_s: float) -> None:
    snapshot = Snapshot()
    scores = LoadScores(snapshot.agents, snapshot.measured)
    assert scores.ahead(lasts_s) == AS_IT_IS
    snapshot.measured.expect(expected(a=[0.5] * 4))
    ahead = scores.ahead(lasts_s)
    leads_s = (0.0, *LEADS_S)
    off = [abs(lead_s - lasts_s / 2) for lead_s in leads_s]
    assert off[ahead + 1] == min(off)


@given(snapshots(), st.lists(st.sampled_from([math.nan, 0.0, 0.3, 1.0]), min_size=7, max_size=7))
def test_terms_add_up_with_forecasts_too(snapshot: Snapshot, cpus: list[float]) -> None:
    snapshot.measured.expect(expected(**{f"a{at}": [cpu] * 4 for at, cpu in enumerate(cpus)}))
    around = Round(snapshot, EVEN.weights, NOW_S, {})
    lane = Lane(TaskProfile("t"), EVEN, around, snapshot.prices.renew(), LIMITS.shortlist, 100.0)
    costs = lane._costs(100.0, AT_ONCE, NOWHERE)
    there = np.isfinite(costs)
    terms = {term.name: term for term in lane.terms(100.0, AT_ONCE, NOWHERE)}
    assert total(list(terms.values()))[there] == pytest.approx(costs[there], rel=1e-9)
    scores = LoadScores(snapshot.agents, snapshot.measured)
    both = terms["load"].rows + terms["forecast"].rows
    history = scores.weights(MIXED_LOAD).history * snapshot.estimates.failure_shares()
    assert both == pytest.approx(scores.machine(MIXED_LOAD, 0) + history)
