"""A task that waits alone is placed as any other, with less work; and what that saves by remembering prices
is what would be found anew (E1, E2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.kinds import kind_of
from coordinator.core.model import AgentLoad, AgentSpec, DataItem, TaskExtras, TaskFamily, TaskProfile
from coordinator.core.namespaces import NamespaceRecord, Quotas
from coordinator.core.reservations import ReservationRecord
from coordinator.scheduling.agents.capable import FeasibilityCache
from coordinator.scheduling.agents.feasibility import needs_of
from coordinator.scheduling.costs import pricing
from coordinator.scheduling.costs.pricing import Prices
from coordinator.scheduling.costs.weights import BALANCED, FAST, GREEN, Policy
from coordinator.scheduling.load.scores import LoadScores
from coordinator.scheduling.plans.assignments import Witness
from coordinator.scheduling.plans.lone import place_lone
from coordinator.scheduling.plans.planner import plan_by_cost
from coordinator.scheduling.plans.solver import Plan, PlanLimits
from coordinator.scheduling.snapshot import Snapshot
from tests.scheduling.clusters import Cluster, measure
from tests.scheduling.test_planner import LIMITS, NEEDS, NOW_S, PLAIN, policies, snapshots, wait

Crew = Callable[..., Snapshot]
LASTING = 5_000


def whole_round(
    snapshot: Snapshot, policy: Policy, now_s: float = NOW_S, limits: PlanLimits = LIMITS
) -> Plan:
    """The plan as it is made before the eyes of a witness: by a whole round, whatever waits."""
    return plan_by_cost(snapshot, limits, policy, now_s, Witness(left=1))


@given(snapshots(most=1), policies, st.sampled_from([1, 8]))
def test_a_lone_task_goes_as_it_would_in_a_whole_round(
    snapshot: Snapshot, policy: Policy, shortlist: int
) -> None:
    expected = whole_round(snapshot, policy)
    assert plan_by_cost(snapshot, LIMITS, policy, NOW_S) == expected
    short = place_lone(snapshot, PlanLimits(shortlist=shortlist), policy, NOW_S)
    assert short in (None, expected)


@st.composite
def with_free_slots(draw: st.DrawFn) -> Snapshot:
    """A few agents, each with a slot to spare, and one task that waits."""
    snapshot = Snapshot()
    for at in range(draw(st.integers(1, 6))):
        agent, slots = f"a{at}", draw(st.integers(1, 3))
        spec = AgentSpec(
            agent,
            "i",
            slots=slots,
            credit=draw(st.integers(1, 9)),
            task_types=draw(st.sampled_from([("*",), ("*",), ("u",)])),
            capabilities=draw(st.sampled_from([(), (("weld", 2),)])),
            cached_models=draw(st.sampled_from([(), ("bert",)])),
            speed=draw(st.sampled_from([0.5, 1.0, 1.0, 3.0])),
            busy_watts=draw(st.sampled_from([0.0, 50.0, 200.0])),
        )
        snapshot.agents.put(spec, at + 1, draw(st.sampled_from(["", "", "", "draining"])))
        measure(snapshot, agent, AgentLoad(cpu=draw(st.sampled_from([0.0, 0.5, 1.0]))))
        for number in range(draw(st.integers(0, slots - 1))):
            lasts_ms = draw(st.sampled_from([10, LASTING]))
            snapshot.hold(agent, 9_000 + 10 * at + number, 1, PLAIN, lasts_ms, NOW_S)
        for _ in range(draw(st.integers(0, 1))):
            snapshot.estimates.failed(kind_of(PLAIN, 0), agent)
    snapshot.estimates.renew()
    needs = draw(st.sampled_from([NEEDS[0], NEEDS[2], NEEDS[-1]]))
    family = TaskFamily.MODEL if needs.needs.model else TaskFamily.UNSPECIFIED
    profile = TaskProfile("t", family, needs)
    wait(snapshot, 1, profile, expected_ms=draw(st.sampled_from([0, 5, LASTING])))
    return snapshot


@given(with_free_slots(), policies)
def test_where_all_have_a_free_slot_it_goes_as_in_a_whole_round(snapshot: Snapshot, policy: Policy) -> None:
    assert not snapshot.agents.standing().many_full
    expected = whole_round(snapshot, policy)
    assert place_lone(snapshot, LIMITS, policy, NOW_S) in (None, expected)
    assert plan_by_cost(snapshot, LIMITS, policy, NOW_S) == expected


def test_it_does_not_take_a_whole_round_where_the_best_agent_is_free(crew: Crew) -> None:
    snapshot = crew(a={"speed": 1.0}, b={"speed": 2.0})
    wait(snapshot, 1, expected_ms=LASTING)
    lone = place_lone(snapshot, LIMITS, BALANCED, NOW_S)
    assert lone is not None
    assert [choice.agent for choice in lone.choices] == ["b"]
    assert lone == whole_round(snapshot, BALANCED)


def test_it_takes_one_where_there_is_more_to_it(crew: Crew) -> None:
    busy = crew(a={})
    busy.hold("a", 9, 1, PLAIN, LASTING, NOW_S)
    shared = crew(a={"slots": 2}, b={"slots": 2})
    for agent in ("a", "b"):
        shared.hold(agent, 9, 1 + (agent == "b"), PLAIN, LASTING, NOW_S)
    limited = crew(a={})
    limited.shares.set("default", NamespaceRecord("default", quotas=Quotas(attempts=1)))
    reserved = crew(a={}, b={"speed": 0.5})
    reserved.reserve([ReservationRecord("r", "shop", agents=("a",))])
    for snapshot in (busy, shared, limited, reserved):
        wait(snapshot, 1, expected_ms=LASTING)
        assert place_lone(snapshot, LIMITS, BALANCED, NOW_S) is None
    assert [choice.agent for choice in plan_by_cost(reserved, LIMITS, BALANCED, NOW_S).choices] == ["b"]
    assert place_lone(crew(), LIMITS, BALANCED, NOW_S) is None


def test_a_brief_task_takes_no_whole_round_though_it_queues(crew: Crew) -> None:
    snapshot = crew(a={}, b={"speed": 0.5})
    for agent in ("a", "b"):
        snapshot.hold(agent, 9, 1, PLAIN, 10, NOW_S)
    wait(snapshot, 1, expected_ms=10)
    lone = place_lone(snapshot, LIMITS, BALANCED, NOW_S)
    assert lone is not None
    assert [choice.agent for choice in lone.choices] == ["a"]
    assert lone == whole_round(snapshot, BALANCED)
    full = crew(a={"credit": 1})
    full.hold("a", 9, 1, PLAIN, 10, NOW_S)
    wait(full, 1, expected_ms=10)
    assert place_lone(full, LIMITS, BALANCED, NOW_S) is None


def test_its_data_draws_it_too() -> None:
    cluster = Cluster()
    cluster.join("near", speed=1.0)
    cluster.join("quick", speed=1.1)
    inputs = TaskExtras(inputs=(DataItem("x", 10**10, ("near",)),))
    cluster.submit({"t": []}, expected_ms={"t": LASTING}, extras={"t": inputs})
    lone = place_lone(cluster.snapshot, LIMITS, FAST, cluster.now_s)
    assert lone is not None
    assert [choice.agent for choice in lone.choices] == ["near"]
    assert lone == whole_round(cluster.snapshot, FAST, cluster.now_s)


def test_a_task_that_is_foreseen_keeps_its_place_from_it() -> None:
    cluster = Cluster()
    cluster.join("quick", slots=2, speed=4.0)
    cluster.join("slow")
    cluster.submit({"first": [], "last": ["first"]}, expected_ms={"first": 1_000, "last": 90_000})
    cluster.begin("quick", "first")
    cluster.submit({"t": []}, dag_id="other", expected_ms={"t": 1_000})
    assert place_lone(cluster.snapshot, LIMITS, BALANCED, cluster.now_s) is None
    plan = plan_by_cost(cluster.snapshot, LIMITS, BALANCED, cluster.now_s)
    assert plan == whole_round(cluster.snapshot, BALANCED, cluster.now_s)


# --- prices -------------------------------------------------------------------------------------------------

SPECS = st.builds(
    AgentSpec,
    agent_id=st.sampled_from(["a0", "a1", "a2", "a9"]),
    instance_id=st.just("i"),
    slots=st.integers(1, 3),
    credit=st.just(9),
    task_types=st.sampled_from([("*",), ("u",)]),
    speed=st.sampled_from([0.5, 1.0, 3.0]),
    capabilities=st.sampled_from([(), (("weld", 2),), (("weld", 3),)]),
)
AGENTS = st.sampled_from(["a0", "a1", "a2"])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), SPECS),
        st.tuples(st.just("remove"), AGENTS),
        st.tuples(st.just("load"), AGENTS, st.sampled_from([0.0, 0.4, 1.0])),
        st.tuples(st.just("end"), AGENTS, st.sampled_from(["t", "u"]), st.sampled_from([0.1, 1.0, 60.0])),
        st.tuples(st.just("fail"), AGENTS),
        st.tuples(st.just("ask")),
    ),
    max_size=25,
)
PROFILES = [TaskProfile(name, requirements=needs) for name in ("t", "u") for needs in NEEDS]


def check_prices(snapshot: Snapshot) -> None:
    """What is remembered is what prices made from nothing say."""
    snapshot.estimates.renew()
    scores = LoadScores(snapshot.agents, snapshot.measured)
    anew = Prices(snapshot.agents, snapshot.estimates, scores, FeasibilityCache()).renew()
    prices = snapshot.prices.renew()
    for policy in (BALANCED, GREEN):
        for profile in PROFILES:
            for mine, theirs in zip(
                prices.of_class(policy, profile, 1.0), anew.of_class(policy, profile, 1.0), strict=True
            ):
                assert mine.tolist() == theirs.tolist()
            capable = snapshot.feasible.rows(needs_of(profile), snapshot.agents)
            assert (np.isfinite(prices.of_class(policy, profile, 1.0)[1]) == capable).all()


@given(snapshots(most=1, agents=3), CHANGES)
def test_prices_that_are_kept_are_what_would_be_found_anew(
    snapshot: Snapshot, changes: list[tuple[Any, ...]]
) -> None:
    for change in changes:
        match change:
            case ("put", spec):
                snapshot.agents.put(spec, epoch=1)
            case ("remove", agent):
                snapshot.measured.forget(agent)
                snapshot.remove_agent(agent)
            case ("load", agent, cpu):
                measure(snapshot, agent, AgentLoad(cpu=cpu))
            case ("end", agent, name, seconds):
                snapshot.estimates.observe(kind_of(TaskProfile(name), 0), 1, agent, seconds)
            case ("fail", agent):
                snapshot.estimates.failed(kind_of(PLAIN, 0), agent)
            case _:
                check_prices(snapshot)
    check_prices(snapshot)


def test_prices_are_kept_of_a_bounded_number_of_classes(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricing, "CLASSES_KEPT", 3)
    prices = crew(a={}, b={"task_types": ("t1", "t7")}).prices.renew()
    for at in range(10):
        _, price = prices.of_class(BALANCED, TaskProfile(f"t{at}"), 1.0)
        assert np.isfinite(price).tolist() == [True, at in (1, 7)]
        assert len(prices._classes) <= 3
