"""The baselines that are drawn or in line (E11): power of two choices, and first in, first out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.model import AgentLoad, TaskProfile
from coordinator.scheduling.costs.objectives import drawn
from coordinator.scheduling.costs.policies import SIMPLE
from coordinator.scheduling.plans.solver import Plan, PlanLimits, plan
from coordinator.scheduling.snapshot import Snapshot
from tests.scheduling.test_planner import wait
from tests.scheduling.test_random_plans import check, ordered, snapshots

Crew = Callable[..., Snapshot]
LIMITS = PlanLimits()


def made(snapshot: Snapshot, name: str) -> Plan:
    return plan(snapshot, LIMITS, SIMPLE[name])


@given(st.integers(0, 1 << 60), st.integers(1, 100), st.integers(0, 50), st.integers(1, 3))
def test_what_is_drawn_is_different_in_range_and_the_same_again(
    key: int, attempt: int, among: int, draws: int
) -> None:
    numbers = drawn(key, attempt, among, draws)
    assert len(set(numbers)) == len(numbers) == min(draws, among)
    assert all(0 <= number < among for number in numbers)
    assert drawn(key, attempt, among, draws) == numbers


def test_draws_are_even_and_pairs_are_independent() -> None:
    pairs = [drawn(key, 1, 10, 2) for key in range(20_000)]
    counts = Counter(number for pair in pairs for number in pair)
    assert len(counts) == 10
    assert all(abs(count - 4_000) < 250 for count in counts.values()), "four standard deviations"
    both = Counter(map(tuple, pairs))
    assert len(both) == 90
    assert all(abs(count - 20_000 / 90) < 65 for count in both.values())
    assert {tuple(drawn(7, attempt, 10, 2)) for attempt in range(9)} != {tuple(drawn(7, 0, 10, 2))}


@given(snapshots(), st.sampled_from(["power-of-two", "fifo"]))
def test_a_plan_can_be_carried_out_is_repeatable_and_leaves_nothing_that_could_be_placed(
    snapshot: Snapshot, name: str
) -> None:
    found = made(snapshot, name)
    assert made(snapshot, name) == found
    cluster = check(snapshot, found)
    placed = {choice.key for choice in found.choices}
    for profile, task in ordered(snapshot):
        if task.key not in placed:
            assert cluster.best(profile, task.previous) is None


def test_of_two_that_are_drawn_the_less_loaded_gets_the_task(crew: Crew) -> None:
    for key in range(1, 31):
        snapshot = crew(**{f"a{at}": {"slots": 10} for at in range(5)})
        for at in range(5):
            for number in range(at):
                snapshot.hold(f"a{at}", 900 + 10 * at + number, 1, TaskProfile("t"), 60_000, 0.0)
        wait(snapshot, key)
        (choice,) = made(snapshot, "power-of-two").choices
        assert choice.agent == f"a{min(drawn(key, 1, 5, 2))}"


def test_load_is_far_more_even_than_by_one_choice(crew: Crew) -> None:
    """Mitzenmacher: the fullest of n holds about ln ln n more than the mean, not ln n / ln ln n."""
    agents = 200
    snapshot = crew(**{f"a{at:03}": {"slots": 50} for at in range(agents)})
    for key in range(agents):
        wait(snapshot, key)
    by_two = Counter(choice.agent for choice in made(snapshot, "power-of-two").choices)
    by_one = Counter(drawn(key, 1, agents, 1)[0] for key in range(agents))
    assert sum(by_two.values()) == agents
    assert max(by_two.values()) <= 3 < max(by_one.values())


def test_the_first_in_line_goes_to_the_first_agent_with_a_free_slot(crew: Crew) -> None:
    snapshot = crew(a={"slots": 2}, b={"slots": 3}, c={})
    snapshot.agents.set_load("a", AgentLoad(cpu=0.9))
    for key in range(1, 7):
        wait(snapshot, key, waited_s=10.0 - key)
    found = made(snapshot, "fifo")
    assert [(choice.key, choice.agent) for choice in found.choices] == [
        (1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "b"), (6, "c"),
    ]  # fmt: skip
