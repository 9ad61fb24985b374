"""Placement by search: it begins what the best schedule begins, brings all to its end, and leaves to plans by
cost what it is not made for (E1, E2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.commands import Assign
from coordinator.core.model import (
    AttemptOutcome,
    DataItem,
    Priority,
    Requirements,
    Resources,
    RetryPolicy,
    TaskExtras,
    TaskProfile,
)
from coordinator.core.namespaces import NamespaceRecord, Quotas
from coordinator.errors import InvalidRequest
from coordinator.scheduling.costs.weights import FAST, MOST_SCHEDULES, SEARCH, Policy, Weights
from coordinator.scheduling.plans import searching as module
from coordinator.scheduling.plans.assignments import Witness
from coordinator.scheduling.plans.searching import Searching
from coordinator.scheduling.plans.solver import Plan, PlanLimits
from coordinator.scheduling.scheduler import Scheduler
from tests.scheduling.clusters import Cluster

LIMITS = PlanLimits()
LASTING = 5_000
SHOP = {"a": [], "b": ["a"], "x": [], "y": ["x"]}


def shop(**fields: Any) -> Cluster:
    cluster = Cluster()
    for agent_id in ("m", "n"):
        cluster.join(agent_id, **fields)
    return cluster


def submit(cluster: Cluster, graph: dict[str, list[str]] | None = None, **fields: Any) -> None:
    graph = SHOP if graph is None else graph
    cluster.submit(graph, expected_ms=dict.fromkeys(graph, LASTING), **fields)
    Scheduler(cluster.snapshot, FAST, LIMITS)._renew_ranks()


def searched(cluster: Cluster, policy: Policy = SEARCH, witness: Witness | None = None) -> Plan | None:
    return Searching(cluster.snapshot).plan(LIMITS, policy, cluster.now_s, witness or Witness())


def test_it_begins_what_the_schedule_begins_and_keeps_places_for_the_rest() -> None:
    cluster = shop()
    submit(cluster, {"a": [], "b": [], "c": []})
    plan = searched(cluster)
    assert plan is not None
    assert sorted(choice.agent for choice in plan.choices) == ["m", "n"]
    assert plan.unplaced == {"place_later": 1}
    (kept,) = plan.kept.values()
    assert kept.seconds == pytest.approx(2 * LASTING / 1_000, rel=0.2)
    assert plan.considered == 3


def test_a_task_waits_for_the_agent_that_is_much_quicker_at_it() -> None:
    cluster = Cluster()
    cluster.join("quick", speed=10.0)
    cluster.join("slow", speed=0.5)
    submit(cluster, {"a": [], "b": []})
    plan = searched(cluster)
    assert plan is not None
    assert [choice.agent for choice in plan.choices] == ["quick"]
    assert len(plan.kept) == 1


def test_what_runs_is_waited_for() -> None:
    cluster = shop()
    submit(cluster)
    cluster.begin("m", "a")
    cluster.now_ms += 1_000
    plan = searched(cluster)
    assert plan is not None
    assert [choice.agent for choice in plan.choices] == ["n"]
    assert plan.choices[0].key == cluster.task("x").key


def test_no_slot_is_kept_for_a_task_that_has_to_pause() -> None:
    cluster = Cluster()
    cluster.join("m", 2)
    profile = TaskProfile("t", retry=RetryPolicy(2, delay_ms=60_000))
    submit(cluster, {"a": [], "b": [], "c": []}, profile=profile)
    cluster.begin("m", "a", "b")
    cluster.report("m", cluster.task("a"), outcome=AttemptOutcome.FAILED)
    plan = searched(cluster)
    assert plan is not None
    assert [choice.key for choice in plan.choices] == [cluster.task("c").key]


@given(
    st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=1, max_size=12),
    st.lists(st.tuples(st.sampled_from([0.5, 1.0, 4.0]), st.integers(1, 3)), min_size=1, max_size=4),
    st.sampled_from(
        [
            Requirements(),
            Requirements(anti_affinity=("g",)),
            Requirements(resources=Resources(memory_bytes=40)),
        ]
    ),
    st.lists(st.sampled_from([True, True, True, False]), max_size=30),
)
def test_whatever_it_is_given_comes_to_its_end(
    depends: list[list[int]], agents: list[tuple[float, int]], needs: Requirements, fates: list[bool]
) -> None:
    """Tasks that keep apart or share memory too, which schedules know nothing of; some attempts fail."""
    cluster = Cluster()
    for at, (speed, slots) in enumerate(agents):
        cluster.join(f"a{at}", slots, speed=speed, resources=Resources(memory_bytes=70))
    graph = {f"t{at}": sorted({f"t{one}" for one in some if one < at}) for at, some in enumerate(depends)}
    profile = TaskProfile("t", requirements=needs, retry=RetryPolicy(40))
    cluster.submit(graph, profile, expected_ms=dict.fromkeys(graph, LASTING))
    scheduler = Scheduler(cluster.snapshot, SEARCH, LIMITS)
    fate = iter(fates)
    for _ in range(200):
        dag = cluster.state.dag("d")
        if dag is None:
            break
        decision = scheduler.decide(cluster.now_s)
        cluster.apply(*decision.before, Assign(decision.choices))
        held = [(task, live) for task in dag.tasks for live in task.live]
        assert held, "it waits for nothing"
        task, live = held[0]
        cluster.now_ms += 700
        ended = AttemptOutcome.COMPLETED if next(fate, True) else AttemptOutcome.FAILED
        cluster.report(live.agent, task, live.number, outcome=ended)
    assert cluster.state.dag("d") is None


def many(cluster: Cluster) -> None:
    submit(cluster, {f"t{at}": [] for at in range(module.TASKS_SEARCHED + 1)})


def of_two(cluster: Cluster) -> None:
    submit(cluster)
    submit(cluster, dag_id="e", namespace="other")


def urgent_too(cluster: Cluster) -> None:
    submit(cluster, profiles={"x": TaskProfile("t", priority=Priority.URGENT)})


def due(cluster: Cluster) -> None:
    submit(cluster, profile=TaskProfile("t", deadline_ms=cluster.now_ms + 60_000))


def moving(cluster: Cluster) -> None:
    submit(cluster, extras={"b": TaskExtras(inputs=(DataItem("z", 1 << 30, ("m",)),))})


def brief(cluster: Cluster) -> None:
    cluster.submit(SHOP, expected_ms=dict.fromkeys(SHOP, 20))


def limited(cluster: Cluster) -> None:
    submit(cluster)
    cluster.snapshot.shares.set("default", NamespaceRecord("default", quotas=Quotas(attempts=1)))


def raced(cluster: Cluster) -> None:
    submit(cluster)
    cluster.begin("m", "a")
    cluster.give("n", "a", rival=True)


def impossible(cluster: Cluster) -> None:
    submit(cluster, profiles={"b": TaskProfile("t", requirements=Requirements(capabilities=(("fly", 1),)))})


def aged(cluster: Cluster) -> None:
    submit(cluster)
    cluster.now_ms += 7_200_000


@pytest.mark.parametrize(
    "prepare", [many, of_two, urgent_too, due, moving, brief, limited, raced, impossible, aged]
)
def test_what_it_is_not_made_for_is_left_to_plans_by_cost(prepare: Callable[[Cluster], None]) -> None:
    cluster = shop()
    prepare(cluster)
    assert searched(cluster) is None


def test_policies_that_ask_for_no_search_get_none() -> None:
    cluster = shop()
    submit(cluster)
    assert searched(cluster, FAST) is None
    assert searched(cluster) is not None


def test_a_dag_may_name_it() -> None:
    cluster = shop()
    submit(cluster, policy="search")
    assert searched(cluster, FAST) is not None


def test_too_many_slots_are_not_searched() -> None:
    cluster = Cluster()
    cluster.join("m", 65)
    submit(cluster)
    assert searched(cluster) is None


def test_a_choice_says_that_it_is_of_a_schedule() -> None:
    cluster = shop()
    submit(cluster)
    witness = Witness("search", cluster.now_s, 1)
    plan = searched(cluster, witness=witness)
    assert plan is not None
    (taken,) = witness.taken
    assert "best schedule" in taken.how
    assert taken.agent == plan.choices[0].agent
    assert [part.name for part in taken.candidates[0].parts][:2] == ["wait", "balance"]


def test_what_was_found_is_where_the_next_search_begins() -> None:
    cluster = shop()
    submit(cluster)
    searching = Searching(cluster.snapshot)
    first = searching.plan(LIMITS, SEARCH, cluster.now_s, Witness())
    for _ in range(5):
        again = searching.plan(LIMITS, SEARCH, cluster.now_s, Witness())
        assert again is not None
        assert first is not None
        assert len(again.choices) == len(first.choices)


@pytest.mark.parametrize("schedules", [-1, MOST_SCHEDULES + 1])
def test_a_policy_makes_a_bounded_number_of_schedules(schedules: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"{schedules} schedules.*0 to {MOST_SCHEDULES}"):
        Policy("mine", schedules=schedules)


def test_schedules_are_compared_by_time_alone() -> None:
    with pytest.raises(InvalidRequest, match="by time alone"):
        Policy("mine", Weights(balance=1.0), schedules=8)
    with pytest.raises(InvalidRequest, match="by time alone"):
        Policy("mine", Weights(time=0.0, energy=1.0), schedules=8)
