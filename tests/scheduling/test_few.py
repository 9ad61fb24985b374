"""A few brief tasks on a few agents are placed as many are, with less work (E1, E7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from coordinator.core.model import INDEX_BITS, Requirements, Resources, TaskProfile
from coordinator.scheduling.costs.weights import BALANCED
from coordinator.scheduling.plans import alike
from coordinator.scheduling.plans.alike import place_alike
from coordinator.scheduling.plans.bulk import MANY
from coordinator.scheduling.plans.few import MOST_AGENTS, MOST_TASKS, are_few
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.snapshot import Snapshot
from tests.scheduling.test_lone import whole_round
from tests.scheduling.test_planner import LIMITS, NOW_S, PLAIN, wait

Crew = Callable[..., Snapshot]
BRIEF_MS = 5
MEMORY = TaskProfile("t", requirements=Requirements(resources=Resources(memory_bytes=40)))


def crew_of(crew: Crew, agents: int, credit: int = 99) -> Snapshot:
    """So many agents, of which every other one is twice as quick."""
    memory = Resources(memory_bytes=1_000)
    return crew(
        **{
            f"a{at}": {"slots": 2, "credit": credit, "speed": 1.0 + at % 2, "resources": memory}
            for at in range(agents)
        }
    )


@pytest.mark.parametrize(
    ("agents", "tasks", "profile", "few"),
    [
        (1, 1, PLAIN, True),
        (MOST_AGENTS, MOST_TASKS, PLAIN, True),
        (MOST_AGENTS + 1, 1, PLAIN, False),
        (1, MOST_TASKS + 1, PLAIN, False),
        (1, 1, MEMORY, False),
    ],
)
def test_it_is_for_few_that_need_nothing_but_room(
    crew: Crew, agents: int, tasks: int, profile: TaskProfile, few: bool
) -> None:
    assert are_few(crew_of(crew, agents), profile, tasks) == few


@pytest.mark.parametrize("agents", [1, 2, MOST_AGENTS, MOST_AGENTS + 1])
@pytest.mark.parametrize("credit", [2, 5, 99])
@pytest.mark.parametrize("profile", [PLAIN, MEMORY])
def test_few_or_many_they_go_where_a_whole_round_has_them_go(
    crew: Crew, agents: int, credit: int, profile: TaskProfile
) -> None:
    snapshot = crew_of(crew, agents, credit)
    snapshot.hold("a0", 9_000 << INDEX_BITS, 1, PLAIN, BRIEF_MS, NOW_S)
    for key in range(1, 1 + 2 * MANY):
        wait(snapshot, key, profile, expected_ms=BRIEF_MS)
    for most in (MANY, 2 * MANY):
        limits = PlanLimits(max_choices=most)
        found = place_alike(snapshot, limits, BALANCED, NOW_S)
        assert found == whole_round(snapshot, BALANCED, limits=limits)


def test_few_take_no_arrays(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(alike, "place_brief")
    snapshot = crew_of(crew, 2, credit=4)
    for key in range(1, 1 + MANY):
        wait(snapshot, key, expected_ms=BRIEF_MS)
    found = place_alike(snapshot, LIMITS, BALANCED, NOW_S)
    assert found is not None
    assert len(found.choices) == 8


def test_an_agent_that_takes_nothing_new_gets_nothing(crew: Crew) -> None:
    snapshot = crew_of(crew, 2, credit=4)
    for agent_id in ("a0", "a1"):
        spec = snapshot.agents.specs[snapshot.agents.rows[agent_id]]
        assert spec is not None
        snapshot.agents.put(spec, 1, "draining" if agent_id == "a1" else "")
    for key in range(1, 1 + MANY):
        wait(snapshot, key, expected_ms=BRIEF_MS)
    found = place_alike(snapshot, LIMITS, BALANCED, NOW_S)
    assert found is not None
    assert {choice.agent for choice in found.choices} == {"a0"}
