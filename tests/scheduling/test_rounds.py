"""Rounds of many tasks keep to what single choices would: who is first gets a slot although brief tasks could
queue, lower priorities leave rare agents to higher ones, and a slot that is free counts as free (B4, E8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator.core.model import Priority, Requirements, Resources, TaskFamily, TaskProfile
from coordinator.scheduling.costs.weights import BALANCED, FAST
from coordinator.scheduling.plans.planner import plan_by_cost
from coordinator.scheduling.plans.solver import Plan, PlanLimits
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import Owner, WaitingTask
from tests.scheduling.test_planner import NOW_MS, NOW_S, PLAIN, made, wait

Crew = Callable[..., Snapshot]
LOW = TaskProfile("t", priority=Priority.LOW)
URGENT = TaskProfile("t", priority=Priority.URGENT)
WELDING = Requirements(capabilities=(("weld", 1),))
WELD = TaskProfile("t", priority=Priority.HIGH, requirements=WELDING)
MEMORY = TaskProfile(
    "t", priority=Priority.URGENT, requirements=Requirements(resources=Resources(memory_bytes=40))
)
BRIEF_MS, LONG_MS = 5, 5_000


def agents_of(plan: Plan) -> dict[int, str]:
    return {choice.key: choice.agent for choice in plan.choices}


def wait_as(snapshot: Snapshot, key: int, profile: TaskProfile, owner: Owner, expected_ms: int) -> None:
    task = WaitingTask.ranked(NOW_MS, NOW_MS, key, 1, "", expected_ms, 0.0)
    snapshot.waiting.add(profile, task, owner=owner)


# --- what lasts, before brief tasks -------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "waited_s"), [(URGENT, 0.0), (LOW, 10.0)])
@pytest.mark.parametrize("low", [10, 200])
def test_a_task_that_lasts_gets_a_slot_before_brief_ones_that_come_after_it(
    crew: Crew, low: int, first: TaskProfile, waited_s: float
) -> None:
    """Seven agents of one slot work off brief tasks; as many come as end."""
    agents = [f"a{at}" for at in range(7)]
    snapshot = crew(**{agent: {"credit": 100} for agent in agents})
    queues = {agent: [10 + at] for at, agent in enumerate(agents)}
    for agent, (key,) in queues.items():
        snapshot.hold(agent, key, 1, LOW, BRIEF_MS, NOW_S)
    wait(snapshot, 1, TaskProfile("long", priority=first.priority), expected_ms=LONG_MS, waited_s=waited_s)
    number, now_s = 1_000, NOW_S
    for _ in range(200):
        while len(snapshot.waiting) < low:
            wait(snapshot, number, LOW, expected_ms=BRIEF_MS)
            number += 1
        while choices := plan_by_cost(snapshot, PlanLimits(), BALANCED, now_s).choices:
            for choice in choices:
                profile, task = snapshot.waiting.get(choice.key) or (LOW, None)
                assert task is not None
                snapshot.hold(choice.agent, choice.key, 1, profile, task.hint, now_s)
                queues[choice.agent].append(choice.key)
            snapshot.waiting.discard([choice.key for choice in choices])
        if 1 not in snapshot.waiting:
            return
        now_s += BRIEF_MS / 1_000
        for agent, queue in queues.items():
            if queue:
                snapshot.release(agent, queue.pop(0), 1, completed=True)
    pytest.fail("1,400 brief tasks have ended meanwhile")


def test_places_are_kept_for_those_that_find_none_and_not_for_those_that_do(crew: Crew) -> None:
    """Eight classes find the eight free slots; the agents that will soon be free are kept for the others."""
    snapshot = crew(**{f"a{at}": {"credit": 100} for at in range(10)})
    for at in (8, 9):
        snapshot.hold(f"a{at}", 10 + at, 1, LOW, BRIEF_MS, NOW_S)
    for key in range(100, 112):
        wait(snapshot, key, TaskProfile(f"t{key}", priority=Priority.URGENT), expected_ms=LONG_MS)
    for key in range(200, 400):
        wait(snapshot, key, LOW, expected_ms=BRIEF_MS)
    agents = agents_of(made(snapshot, BALANCED))
    assert {key for key in agents if key < 200} == set(range(100, 108))
    assert not {"a8", "a9"} & set(agents.values())


def test_the_slot_that_the_first_in_line_cannot_use_goes_to_the_next_that_can(crew: Crew) -> None:
    snapshot = crew(a={"credit": 100}, b={"capabilities": (("weld", 1),), "credit": 100})
    snapshot.hold("b", 9, 1, PLAIN, LONG_MS, NOW_S)
    wait(snapshot, 1, TaskProfile("t", priority=Priority.URGENT, requirements=WELDING), expected_ms=LONG_MS)
    wait(snapshot, 2, URGENT, expected_ms=LONG_MS)
    for key in range(100, 200):
        wait(snapshot, key, LOW, expected_ms=BRIEF_MS)
    assert agents_of(made(snapshot, BALANCED)).get(2) == "a"


# --- rare agents --------------------------------------------------------------------------------------------


@pytest.fixture
def fleet(crew: Crew) -> Snapshot:
    """66 slots; `w` alone can weld, and is the second cheapest. An urgent task waits."""
    agents = {f"x{at}": {"slots": 4} for at in range(16)}
    snapshot = crew(q={"speed": 3.0}, w={"speed": 2.0, "capabilities": (("weld", 1),)}, **agents)
    wait(snapshot, 1, URGENT, expected_ms=LONG_MS)
    return snapshot


@pytest.mark.parametrize("low", [20, 100])
@pytest.mark.parametrize("why", ["family", "policy", "retried", "brief beside another namespace"])
def test_low_tasks_leave_the_only_agent_to_a_high_one_that_needs_it(
    fleet: Snapshot, why: str, low: int
) -> None:
    for key in range(100, 100 + low):
        other = why.endswith("namespace") and key % 2
        wait_as(fleet, key, LOW, Owner("shop") if other else Owner(), LONG_MS)
    profile, owner, expected_ms = WELD, Owner(), LONG_MS
    if why == "family":
        profile = TaskProfile("t", TaskFamily.COMPUTE, WELDING, Priority.HIGH)
    elif why == "policy":
        owner = Owner(policy="fast")
    elif why == "retried":
        for key in (50, 51, 52):
            wait(fleet, key, LOW, expected_ms=LONG_MS, previous="x3")
    else:
        expected_ms = BRIEF_MS
    wait_as(fleet, 2, profile, owner, expected_ms)
    plan = made(fleet, BALANCED)
    assert next(choice.key for choice in plan.choices if choice.agent == "w") == 2


@pytest.mark.parametrize("low", [20, 100])
def test_low_tasks_leave_memory_to_urgent_ones_that_met_on_another_agent(crew: Crew, low: int) -> None:
    snapshot = crew(
        a={"slots": 3, "speed": 2.0, "resources": Resources(memory_bytes=100)},
        b={"resources": Resources(memory_bytes=40)},
        **{f"x{at}": {"slots": 4} for at in range(15)},
    )
    for key in (1, 2, 3):
        wait(snapshot, key, MEMORY, expected_ms=LONG_MS)
    for key in range(100, 100 + low):
        wait(snapshot, key, LOW, expected_ms=LONG_MS)
    assert {1, 2, 3} <= agents_of(made(snapshot, BALANCED)).keys()


# --- slots that are free or soon will be --------------------------------------------------------------------


@pytest.fixture
def mixed(crew: Crew) -> Snapshot:
    """`a` is busy for a second; of the two slots of `b` one for five, the other with a brief task."""
    snapshot = crew(a={}, b={"slots": 2})
    for agent, key, expected_ms in (("a", 10, 1_000), ("b", 11, 5_000), ("b", 12, BRIEF_MS)):
        snapshot.hold(agent, key, 1, PLAIN, expected_ms, NOW_S)
        snapshot.begin(key, 1, NOW_S)
    return snapshot


def test_a_slot_that_a_brief_task_has_left_is_free_at_once(mixed: Snapshot) -> None:
    wait(mixed, 1, expected_ms=LONG_MS)
    assert not made(mixed, FAST).choices
    mixed.release("b", 12, 1, completed=True)
    assert mixed.running.waits(NOW_S).tolist()[1] == 0


def test_a_slot_that_a_brief_task_has_left_is_given_at_once(mixed: Snapshot) -> None:
    wait(mixed, 1, expected_ms=LONG_MS)
    assert not made(mixed, FAST).choices
    mixed.release("b", 12, 1, completed=True)
    assert agents_of(plan_by_cost(mixed, PlanLimits(), FAST, NOW_S + 0.005)) == {1: "b"}


def test_who_has_a_slot_with_a_brief_task_is_free_soon(mixed: Snapshot) -> None:
    assert mixed.running.waits(NOW_S)[1] < 0.1


def test_a_brief_task_queues_behind_a_brief_one(mixed: Snapshot) -> None:
    wait(mixed, 1, expected_ms=BRIEF_MS)
    assert agents_of(made(mixed, FAST)) == {1: "b"}


# --- behind others of its class -----------------------------------------------------------------------------


@pytest.mark.parametrize("lasting", [10, 50])
def test_a_brief_task_is_looked_at_although_those_before_it_that_last_have_no_place(
    crew: Crew, lasting: int
) -> None:
    snapshot = crew(q={"speed": 10.0}, a={"speed": 0.2})
    for key, agent in enumerate("qa", 10):
        snapshot.hold(agent, key, 1, PLAIN, LONG_MS, NOW_S)
        snapshot.begin(key, 1, NOW_S)
    for key in range(100, 100 + lasting):
        wait(snapshot, key, URGENT, expected_ms=LONG_MS, waited_s=1.0)
    wait(snapshot, 200, URGENT, expected_ms=1)
    wait(snapshot, 300, TaskProfile("u", priority=Priority.LOW), expected_ms=1)
    assert agents_of(made(snapshot, BALANCED)) == {200: "a"}
