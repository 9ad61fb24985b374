"""The plan of a round, by example: least loaded, priorities, look-ahead, resources, second attempts,
policies, statistics (E1, E2, E8, E11)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from coordinator.core.commands import Choice
from coordinator.core.kinds import kind_of
from coordinator.core.model import AgentLoad, Priority, Requirements, Resources, TaskProfile
from coordinator.errors import InvalidRequest
from coordinator.scheduling.agents.lookahead import LookAhead, may_queue
from coordinator.scheduling.costs.policies import NAMES, SIMPLE, policy
from coordinator.scheduling.plans.solver import PlanLimits, plan
from coordinator.scheduling.settings import SchedulingSettings
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import WaitingTask
from tests.scheduling.clusters import recall

Crew = Callable[..., Snapshot]
PLAIN = TaskProfile("t")
LIMITS = PlanLimits()


def wait(snapshot: Snapshot, count: int, profile: TaskProfile = PLAIN, first: int = 0) -> None:
    for key in range(first, first + count):
        snapshot.waiting.add(profile, WaitingTask(0, key))


def agents_of(snapshot: Snapshot, limits: PlanLimits = LIMITS, name: str = "least-loaded") -> list[str]:
    return [choice.agent for choice in plan(snapshot, limits, SIMPLE[name]).choices]


def known(snapshot: Snapshot, profile: TaskProfile, seconds: float) -> None:
    """Tasks of this profile have always lasted so long."""
    recall(snapshot.estimates, kind_of(profile, 0), 100, math.log(seconds), 0.0)


def test_slots_fill_by_load_and_ties_go_to_the_lower_row(crew: Crew) -> None:
    snapshot = crew(a={"slots": 2}, b={"slots": 4}, c={"slots": 2})
    snapshot.agents.hold("a", 99, 1, PLAIN, 0.0)
    wait(snapshot, 7)
    assert agents_of(snapshot) == ["b", "c", "b", "a", "b", "c", "b"]


def test_a_choice_carries_its_fences(crew: Crew, spec_of: Callable[..., object]) -> None:
    snapshot = crew(a={})
    snapshot.agents.put(snapshot.agents.specs[0], epoch=7)  # type: ignore[arg-type]
    snapshot.waiting.add(PLAIN, WaitingTask(0, 42, 3, "gone"))
    assert plan(snapshot, LIMITS).choices == [Choice(42, 3, "a", 7)]


def test_measured_load_decides_between_equals(crew: Crew) -> None:
    snapshot = crew(a={}, b={}, c={})
    snapshot.agents.set_load("a", AgentLoad(cpu=0.9))
    snapshot.agents.set_load("b", AgentLoad(memory=0.5))
    wait(snapshot, 3)
    assert agents_of(snapshot) == ["c", "b", "a"]


def test_priority_then_deadline_then_readiness_then_key(crew: Crew) -> None:
    snapshot = crew(a={"slots": 6})
    late, early = TaskProfile("t", deadline_ms=20), TaskProfile("t", deadline_ms=10)
    urgent = TaskProfile("t", priority=Priority.URGENT)
    for profile, ready_ms, key in (
        (PLAIN, 2, 1),
        (PLAIN, 1, 6),
        (late, 0, 2),
        (early, 9, 3),
        (urgent, 9, 5),
        (urgent, 9, 4),
    ):
        snapshot.waiting.add(profile, WaitingTask(ready_ms, key))
    assert [choice.key for choice in plan(snapshot, LIMITS).choices] == [4, 5, 3, 2, 6, 1]


def test_scarce_slots_go_to_those_who_wait_longest_across_classes(crew: Crew) -> None:
    snapshot = crew(a={"credit": 3, "slots": 3})
    other = TaskProfile("u")
    for at in range(6):
        snapshot.waiting.add(other if at % 2 else PLAIN, WaitingTask(at, at))
    made = plan(snapshot, LIMITS)
    assert [choice.key for choice in made.choices] == [0, 1, 2]
    assert (made.considered, made.placed, made.unplaced) == (6, 3, {"capacity": 3})


def test_free_slots_anywhere_go_before_queues_anywhere(crew: Crew) -> None:
    snapshot = crew(big={"slots": 8}, small={"slots": 1})
    for key in range(7):
        snapshot.agents.hold("big", 100 + key, 1, PLAIN, 0.0)
    wait(snapshot, 4)
    known(snapshot, PLAIN, 0.2)
    assert agents_of(snapshot) == ["small", "big", "big", "small"]
    assert agents_of(snapshot, name="round-robin") == ["big", "small", "big", "small"]


def test_a_queue_takes_one_brief_task_beyond_the_slots_and_none_that_lasts(crew: Crew) -> None:
    snapshot = crew(a={"slots": 2, "credit": 100})
    wait(snapshot, 10)
    known(snapshot, PLAIN, 0.2)
    assert len(agents_of(snapshot)) == 3
    known(snapshot, PLAIN, 2.0)
    snapshot.estimates.renew()
    assert len(agents_of(snapshot)) == 2


def test_tiny_tasks_queue_deep_but_not_behind_a_long_one(crew: Crew) -> None:
    snapshot = crew(a={"slots": 2, "credit": 100}, b={"slots": 2, "credit": 10})
    known(snapshot, PLAIN, 0.003)
    wait(snapshot, 200)
    # 20 ms for each of two slots and 3 ms each: 13 attempts; b has less credit.
    assert Counter(agents_of(snapshot)) == {"a": 13, "b": 10}
    snapshot.agents.hold("a", 999, 1, TaskProfile("long"), 10.0)
    assert Counter(agents_of(snapshot)) == {"a": 2, "b": 10}


def test_a_long_task_of_a_tiny_type_does_not_queue(crew: Crew) -> None:
    snapshot = crew(a={"slots": 1, "credit": 100})
    known(snapshot, PLAIN, 0.001)
    for key in range(5):
        snapshot.waiting.add(PLAIN, WaitingTask(key, key, hint=0 if key == 0 else 60_000))
    assert len(agents_of(snapshot)) == 1


def test_resources_are_never_overdrawn(crew: Crew) -> None:
    half = TaskProfile("t", requirements=Requirements(resources=Resources(memory_bytes=50)))
    snapshot = crew(a={"slots": 4, "resources": Resources(memory_bytes=120)}, b={"slots": 4})
    wait(snapshot, 5, half)
    made = plan(snapshot, LIMITS)
    assert [choice.agent for choice in made.choices] == ["a", "a"]
    assert made.unplaced == {"free_resources": 3}


def test_what_others_overdraw_does_not_bind_those_who_need_none(crew: Crew) -> None:
    snapshot = crew(a={"slots": 2, "resources": Resources(memory_bytes=10)})
    snapshot.agents.hold(
        "a", 9, 1, TaskProfile("t", requirements=Requirements(resources=Resources(memory_bytes=50))), 0
    )
    wait(snapshot, 1, TaskProfile("t", requirements=Requirements(resources=Resources(milli_cores=0))))
    assert agents_of(snapshot) == ["a"]


def test_tasks_of_a_group_keep_apart(crew: Crew) -> None:
    apart = TaskProfile("t", requirements=Requirements(anti_affinity=("g",)))
    snapshot = crew(a={"slots": 3}, b={"slots": 3}, c={"slots": 3})
    snapshot.agents.hold("b", 9, 1, apart, 0.0)
    wait(snapshot, 3, apart)
    made = plan(snapshot, LIMITS)
    assert [choice.agent for choice in made.choices] == ["a", "c"]
    assert made.unplaced == {"anti_affinity": 1}


@pytest.mark.parametrize("shortlist", [1, 128])
def test_a_second_attempt_goes_elsewhere_unless_that_costs_too_much(crew: Crew, shortlist: int) -> None:
    snapshot = crew(failed={"slots": 2}, other={"slots": 10})
    for key in range(4):
        snapshot.agents.hold("other", 100 + key, 1, PLAIN, 0.0)
    snapshot.waiting.add(PLAIN, WaitingTask(0, 1, 2, "failed"))
    limits = PlanLimits(shortlist=shortlist)
    assert agents_of(snapshot, limits) == ["other"]
    for key in range(4, 6):
        snapshot.agents.hold("other", 100 + key, 1, PLAIN, 0.0)
    assert agents_of(snapshot, limits) == ["failed"]
    snapshot.agents.remove("other")
    assert agents_of(snapshot, limits) == ["failed"]


def test_round_robin_takes_turns_over_rounds(crew: Crew) -> None:
    snapshot = crew(a={"slots": 9}, b={"slots": 9}, c={"slots": 9})
    wait(snapshot, 5)
    made = plan(snapshot, LIMITS, SIMPLE["round-robin"])
    assert [choice.agent for choice in made.choices] == ["a", "b", "c", "a", "b"]
    snapshot.turn = made.turn
    assert agents_of(snapshot, PlanLimits(max_choices=2), "round-robin") == ["c", "a"]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"'best'.*balanced, fast.*least-loaded, round-robin"):
        policy("best")


def test_every_policy_may_be_set() -> None:
    for name in NAMES:
        assert msgspec.convert({"policy": name}, SchedulingSettings).policy == name


def test_a_round_is_bounded_and_nothing_is_changed(crew: Crew) -> None:
    snapshot = crew(a={"slots": 50, "credit": 100})
    wait(snapshot, 30)
    first = plan(snapshot, PlanLimits(max_choices=10))
    assert ([choice.key for choice in first.choices], first.unplaced) == (list(range(10)), {})
    assert (len(snapshot.waiting), snapshot.agents.held[0]) == (30, 0)
    assert plan(snapshot, PlanLimits(max_choices=10)) == first


def test_nothing_to_do(crew: Crew) -> None:
    empty = plan(crew(), LIMITS)
    assert (empty.choices, empty.considered, empty.unplaced) == ([], 0, {})
    lonely = crew()
    wait(lonely, 2)
    assert plan(lonely, LIMITS).unplaced == {"impossible": 2}


@pytest.mark.parametrize(
    ("held", "held_s", "task_s", "expected"),
    [
        (2, 9.0, 0.25, True),  # one brief task beyond the slots, whatever is before it
        (2, 0.0, 0.26, False),  # none that lasts
        (3, 0.030, 0.010, True),  # 40 ms for two slots
        (3, 0.031, 0.010, False),
        (6, 0.0, 0.0, False),  # never more than `most`
    ],
)
def test_a_queue_is_bounded_in_seconds(held: int, held_s: float, task_s: float, expected: bool) -> None:
    assert may_queue(held, 2, held_s, task_s, LookAhead(seconds=0.020, least=1, most=4)) == expected
