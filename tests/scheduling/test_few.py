"""A few brief tasks on a few agents are placed as many are, with less work (E1, E7)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.model import (
    INDEX_BITS,
    AgentLoad,
    AgentSpec,
    FamilyNeeds,
    Requirements,
    Resources,
    TaskFamily,
    TaskProfile,
)
from coordinator.core.namespaces import NamespaceRecord
from coordinator.scheduling.agents.lookahead import LookAhead
from coordinator.scheduling.costs.weights import BALANCED, FAST, Policy
from coordinator.scheduling.plans import alike
from coordinator.scheduling.plans.alike import place_alike
from coordinator.scheduling.plans.brief import place_brief
from coordinator.scheduling.plans.bulk import MANY
from coordinator.scheduling.plans.crowd import crowd_of
from coordinator.scheduling.plans.few import MOST_AGENTS, MOST_TASKS, are_few, place_few
from coordinator.scheduling.plans.lane import Lane
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.plans.turns import Line
from coordinator.scheduling.snapshot import Snapshot
from tests.scheduling.clusters import measure
from tests.scheduling.test_lone import whole_round
from tests.scheduling.test_planner import LIMITS, NOW_S, PLAIN, policies, wait

Crew = Callable[..., Snapshot]
BRIEF_MS = 5
MODEL = Requirements(needs=FamilyNeeds(model="bert"))
MEMORY = TaskProfile("t", requirements=Requirements(resources=Resources(memory_bytes=40)))


@st.composite
def waiting(draw: st.DrawFn) -> tuple[Snapshot, TaskProfile, int]:
    """A few agents that hold something, and a few brief tasks that are alike."""
    bound = LookAhead(
        seconds=draw(st.sampled_from([0.0, 0.02, 5.0])),
        least=draw(st.sampled_from([0, 1, 5])),
        most=draw(st.sampled_from([0, 2, 10_000])),
    )
    snapshot = Snapshot(bound, model_load_s=draw(st.sampled_from([0.0, 0.01, 10.0])))
    for at in range(draw(st.integers(1, MOST_AGENTS))):
        spec = AgentSpec(
            f"a{at}",
            "i",
            slots=draw(st.integers(1, 5)),
            credit=draw(st.sampled_from([0, 1, 5, 1_000])),
            task_types=draw(st.sampled_from([("*",), ("*",), ("u",)])),
            cached_models=draw(st.sampled_from([(), ("bert",)])),
            speed=draw(st.sampled_from([0.5, 1.0, 1.0, 3.0, 1e3])),
            busy_watts=draw(st.sampled_from([0.0, 50.0, 200.0])),
        )
        snapshot.agents.put(spec, at + 1, draw(st.sampled_from(["", "", "", "draining"])))
        measure(snapshot, f"a{at}", AgentLoad(cpu=draw(st.sampled_from([0.0, 0.5, 1.0]))))
        for number in range(draw(st.sampled_from([0, 1, 2, 20]))):
            key, expected_ms = 9_000 + 100 * at + number, draw(st.sampled_from([0, BRIEF_MS, 50_000_000]))
            snapshot.hold(f"a{at}", key, 1, PLAIN, expected_ms, NOW_S - 9)
    snapshot.estimates.renew()
    profile = draw(st.sampled_from([PLAIN, TaskProfile("t", TaskFamily.MODEL, MODEL)]))
    tasks, expected_ms = draw(st.integers(1, MOST_TASKS)), draw(st.sampled_from([1, BRIEF_MS, 200]))
    for key in range(1, 1 + tasks):
        wait(snapshot, key, profile, expected_ms=expected_ms)
    return snapshot, profile, expected_ms


@given(waiting(), policies, policies)
def test_they_go_where_many_would(
    given: tuple[Snapshot, TaskProfile, int], policy: Policy, cluster: Policy
) -> None:
    """By the policy of whose they are, whatever the cluster's."""
    snapshot, profile, expected_ms = given
    (members,) = snapshot.waiting.classes.values()
    work_s, tasks = snapshot.work_s(profile, 1, expected_ms), members.tasks
    assert are_few(snapshot, profile, len(tasks))
    around = Round(snapshot, cluster.weights, NOW_S, {})
    lane = Lane(profile, policy, around, snapshot.prices.renew(), LIMITS.shortlist, work_s)
    crowd = crowd_of(snapshot, Line(np.array([members.at]), np.array([len(tasks)])))
    many = place_brief(around, lane, crowd)
    assert place_few(snapshot, policy, profile, tasks, work_s, NOW_S) == many


def test_they_go_by_the_policy_of_whose_they_are(crew: Crew) -> None:
    """The slow agent takes little power."""
    snapshot = crew(
        quick={"credit": 4, "speed": 4.0, "busy_watts": 400.0}, slow={"credit": 4, "busy_watts": 1.0}
    )
    snapshot.shares.set("default", NamespaceRecord("default", policy="green"))
    for key in range(1, 1 + MANY):
        wait(snapshot, key, expected_ms=BRIEF_MS)
    found = place_alike(snapshot, PlanLimits(max_choices=MANY), FAST, NOW_S)
    assert found == whole_round(snapshot, FAST, limits=PlanLimits(max_choices=MANY))
    assert found is not None
    assert found.choices[0].agent == "slow"


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


def test_they_go_where_their_model_is_loaded(crew: Crew) -> None:
    snapshot = crew(
        cold={"slots": 4, "credit": 4}, warm={"slots": 4, "credit": 4, "cached_models": ("bert",)}
    )
    for key in range(1, 1 + MANY):
        wait(snapshot, key, TaskProfile("t", TaskFamily.MODEL, MODEL), expected_ms=BRIEF_MS)
    found = place_alike(snapshot, PlanLimits(max_choices=MANY), FAST, NOW_S)
    assert found == whole_round(snapshot, FAST, limits=PlanLimits(max_choices=MANY))
    assert found is not None
    assert [choice.agent for choice in found.choices] == ["warm"] * 4 + ["cold"] * 4
