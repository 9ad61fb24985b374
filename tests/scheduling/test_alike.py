"""Many brief tasks that are alike are placed as in a whole round, with less work (E1)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.kinds import kind_of
from coordinator.core.model import INDEX_BITS, Requirements, TaskProfile
from coordinator.core.namespaces import NamespaceRecord, Quotas
from coordinator.core.reservations import ReservationRecord
from coordinator.scheduling.costs.weights import BALANCED, Policy
from coordinator.scheduling.plans.alike import place_alike
from coordinator.scheduling.plans.bulk import MANY
from coordinator.scheduling.plans.planner import plan_by_cost
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.snapshot import Snapshot
from tests.scheduling.test_lone import whole_round
from tests.scheduling.test_planner import FEW, LIMITS, NEEDS, NOW_S, PLAIN, policies, snapshots, wait

Crew = Callable[..., Snapshot]
BRIEF_MS = 5


@FEW
@given(
    snapshots(most=1),
    policies,
    st.sampled_from(NEEDS),
    st.sampled_from([1, BRIEF_MS, 200]),
    st.integers(MANY, 3 * MANY),
    st.sampled_from([MANY, MANY + 1, 2_000]),
    st.sampled_from([1, 1, 3, 100]),
    st.booleans(),
)
def test_tasks_that_are_alike_go_as_they_would_in_a_whole_round(
    snapshot: Snapshot,
    policy: Policy,
    needs: Requirements,
    expected_ms: int,
    count: int,
    most: int,
    dags: int,
    known: bool,
) -> None:
    """Of one DAG or of many, of which one may be known to differ."""
    snapshot.waiting.discard([1])
    profile = TaskProfile("t", requirements=needs)
    if known:
        learn(snapshot, profile, dag=1)
    for key in range(1, 1 + count):
        wait(snapshot, (key % dags << INDEX_BITS) + key, profile, expected_ms=expected_ms)
    limits = PlanLimits(max_choices=most)
    expected = whole_round(snapshot, policy, limits=limits)
    assert place_alike(snapshot, limits, policy, NOW_S) in (None, expected)
    assert plan_by_cost(snapshot, limits, policy, NOW_S) == expected


def learn(snapshot: Snapshot, profile: TaskProfile, dag: int) -> None:
    """Tasks of this profile have turned out to take three times as long in this DAG as elsewhere."""
    agent = snapshot.agents.ids[0]
    for number, seconds in ((0, 0.001), (dag, 0.003)):
        for _ in range(20):
            snapshot.estimates.observe(kind_of(profile, BRIEF_MS), number, agent, seconds, BRIEF_MS)
    snapshot.estimates.settle()


@pytest.fixture
def alike(crew: Crew) -> Snapshot:
    """Two agents of four slots, and twice as many tasks as make a round of many."""
    snapshot = crew(a={"slots": 4}, b={"slots": 4, "speed": 2.0})
    for key in range(1, 1 + 2 * MANY):
        wait(snapshot, key, expected_ms=BRIEF_MS)
    return snapshot


def test_they_take_no_whole_round(alike: Snapshot) -> None:
    found = place_alike(alike, LIMITS, BALANCED, NOW_S)
    assert found is not None
    assert len(found.choices) > 8
    assert found == whole_round(alike, BALANCED)


def test_they_take_no_whole_round_where_each_is_of_a_dag_of_its_own(crew: Crew) -> None:
    snapshot = crew(a={"slots": 4}, b={"slots": 4, "speed": 2.0})
    for key in range(1, 1 + 2 * MANY):
        wait(snapshot, key << INDEX_BITS, expected_ms=BRIEF_MS)
    found = place_alike(snapshot, LIMITS, BALANCED, NOW_S)
    assert found is not None
    assert found == whole_round(snapshot, BALANCED)


def test_they_take_no_whole_round_with_one_task_per_slot(crew: Crew) -> None:
    snapshot = crew(a={"slots": 4, "credit": 4}, b={"slots": 4, "credit": 4})
    for key in range(1, 1 + 2 * MANY):
        wait(snapshot, key, expected_ms=BRIEF_MS)
    found = place_alike(snapshot, LIMITS, BALANCED, NOW_S)
    assert found is not None
    assert [choice.key for choice in found.choices] == list(range(1, 9))
    assert found == whole_round(snapshot, BALANCED)


def of_a_dag_that_differs(snapshot: Snapshot) -> None:
    learn(snapshot, PLAIN, dag=1)
    wait(snapshot, 1 << INDEX_BITS, expected_ms=BRIEF_MS)
    snapshot.waiting.discard([2])


def of_another_length(snapshot: Snapshot) -> None:
    wait(snapshot, 1, expected_ms=BRIEF_MS + 1)


def of_another_class(snapshot: Snapshot) -> None:
    wait(snapshot, 1, TaskProfile("u"), expected_ms=BRIEF_MS)


def that_has_failed(snapshot: Snapshot) -> None:
    wait(snapshot, 1, expected_ms=BRIEF_MS, previous="a")


def that_last(snapshot: Snapshot) -> None:
    for key in range(1, 1 + 2 * MANY):
        wait(snapshot, key, expected_ms=5_000)


def too_few(snapshot: Snapshot) -> None:
    snapshot.waiting.discard(range(MANY, 1 + 2 * MANY))


def reserved(snapshot: Snapshot) -> None:
    snapshot.reserve([ReservationRecord("r", "shop", agents=("a",))])


def limited(snapshot: Snapshot) -> None:
    snapshot.shares.set("default", NamespaceRecord("default", quotas=Quotas(attempts=1)))


@pytest.mark.parametrize(
    "but",
    [
        of_a_dag_that_differs,
        of_another_length,
        of_another_class,
        that_has_failed,
        that_last,
        too_few,
        reserved,
        limited,
    ],
)
def test_where_there_is_more_to_it_a_whole_round_finds_out(
    alike: Snapshot, but: Callable[[Snapshot], None]
) -> None:
    but(alike)
    assert place_alike(alike, LIMITS, BALANCED, NOW_S) is None
    assert plan_by_cost(alike, LIMITS, BALANCED, NOW_S) == whole_round(alike, BALANCED)


def test_nobody_gets_them_where_there_is_no_room(crew: Crew) -> None:
    snapshot = crew(a={"credit": 1})
    snapshot.hold("a", 9_000, 1, TaskProfile("t"), BRIEF_MS, NOW_S)
    for key in range(1, 1 + MANY):
        wait(snapshot, key, expected_ms=BRIEF_MS)
    assert place_alike(snapshot, LIMITS, BALANCED, NOW_S) is None
    assert plan_by_cost(snapshot, LIMITS, BALANCED, NOW_S).choices == []
