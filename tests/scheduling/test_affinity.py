"""What tasks cost beside their work, by family (E3): who is cheaper and by how many seconds, that plans go
there, and that what is kept is what would be found anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.kinds import kind_of
from coordinator.core.model import (
    AgentLoad,
    AgentSpec,
    FamilyNeeds,
    Requirements,
    Resources,
    TaskFamily,
    TaskProfile,
)
from coordinator.families.built_in import ALL, BATCH_S, CONTENTION_S, LINK_BPS, REMOTE_S
from coordinator.families.family import Agents, Family, Offers
from coordinator.families.registry import LONGEST_SETUP_S, Families
from coordinator.scheduling.costs.affinity import MODEL_LOAD_S, Affinity
from coordinator.scheduling.costs.weights import BALANCED, FAST, Policy
from coordinator.scheduling.explain import explain
from coordinator.scheduling.plans.planner import plan_by_cost
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import WaitingTask

Crew = Callable[..., Snapshot]
GIB = 1 << 30


def task(family: TaskFamily = TaskFamily.UNSPECIFIED, family_name: str = "", **fields: Any) -> TaskProfile:
    """Fields of the families' needs and of resources go where they belong."""
    needs = {name: fields.pop(name) for name in FamilyNeeds.__struct_fields__ if name in fields}
    requirements = Requirements(resources=Resources(**fields), needs=FamilyNeeds(**needs))
    return TaskProfile("t", family, requirements, family_name=family_name)


BERT = task(TaskFamily.MODEL, model="bert")
BATCHED = task(TaskFamily.MODEL, model="bert", batchable=True)
SAW = task(TaskFamily.TOOL, tool="saw")


def costs(snapshot: Snapshot, profile: TaskProfile) -> list[float]:
    """By agent, in the order of the crew; none where they do not tell agents apart."""
    row = snapshot.affinity.setup_s(profile)
    return [] if row is None else row.tolist()


def measure(snapshot: Snapshot, agent_id: str, load: AgentLoad) -> None:
    """As the leader takes a report."""
    snapshot.agents.set_load(agent_id, load)
    snapshot.measured.record(agent_id, load)


# --- by family ----------------------------------------------------------------------------------------------


def test_a_model_is_loaded_where_it_is_neither_cached_nor_in_use(crew: Crew) -> None:
    snapshot = crew(cold={}, warm={"cached_models": ("bert",)}, busy={}, other={"cached_models": ("gpt",)})
    snapshot.agents.hold("busy", 1, 1, BERT, 1.0)
    assert costs(snapshot, BERT) == [MODEL_LOAD_S, 0.0, 0.0, MODEL_LOAD_S]
    sized = task(TaskFamily.MODEL, model="bert", gpu_memory_bytes=4 * GIB)
    assert costs(snapshot, sized) == [4.0, 0.0, 0.0, 4.0]
    snapshot.agents.release("busy", 1, 1)
    assert costs(snapshot, BERT) == [MODEL_LOAD_S, 0.0, MODEL_LOAD_S, MODEL_LOAD_S]


def test_requests_that_may_be_batched_prefer_those_of_their_model(crew: Crew) -> None:
    snapshot = crew(cold={}, warm={"cached_models": ("bert",)}, busy={"cached_models": ("bert",)})
    snapshot.agents.hold("busy", 1, 1, BATCHED, 1.0)
    assert costs(snapshot, BATCHED) == [MODEL_LOAD_S + BATCH_S, BATCH_S, 0.0]


def test_a_version_of_a_model_may_be_cached_by_itself(crew: Crew) -> None:
    snapshot = crew(a={"cached_models": ("bert:1",)}, b={"cached_models": ("bert:2",)}, c={})
    second = task(TaskFamily.MODEL, model="bert", model_version="2")
    assert costs(snapshot, second) == [MODEL_LOAD_S, 0.0, MODEL_LOAD_S]


def test_a_tool_is_cheaper_where_more_of_its_places_are_free(crew: Crew) -> None:
    """D8: where nobody says how many there are, it tells nobody apart."""
    snapshot = crew(a={"tool_limits": (("saw", 4),)}, b={"tool_limits": (("saw", 4),)}, c={})
    for agent_id, held in (("a", 3), ("b", 1), ("c", 3)):
        for key in range(held):
            snapshot.agents.hold(agent_id, key, 1, SAW, 1.0)
    assert costs(snapshot, SAW) == pytest.approx([0.75 * CONTENTION_S, 0.25 * CONTENTION_S, 0.0])
    free = crew(a={}, b={})
    free.agents.hold("a", 1, 1, SAW, 1.0)
    assert costs(free, SAW) == []


def test_io_goes_where_the_data_is_and_the_link_is_wide_and_idle(crew: Crew) -> None:
    wide, narrow = Resources(bandwidth_bps=10**9), Resources(bandwidth_bps=10**8)
    snapshot = crew(wide={"resources": wide}, narrow={"resources": narrow}, silent={})
    gigabyte = task(TaskFamily.IO, disk_bytes=10**9)
    assert costs(snapshot, gigabyte) == pytest.approx([1.0, 10.0, 1e9 / LINK_BPS])
    measure(snapshot, "wide", AgentLoad(net_received_bps=10**9))
    assert costs(snapshot, gigabyte) == pytest.approx([10.0, 10.0, 1e9 / LINK_BPS])
    near = crew(a={"data": ("maps",)}, b={"zone": "maps"}, c={})
    assert costs(near, task(TaskFamily.IO, data_location="maps")) == [0.0, 0.0, REMOTE_S]


def test_communication_goes_over_quick_and_stable_links(crew: Crew) -> None:
    snapshot = crew(a={}, b={}, c={})
    measure(snapshot, "a", AgentLoad(latency_ms=20.0))
    for _ in range(5):
        snapshot.estimates.failed(kind_of(task(TaskFamily.COMMUNICATION), 0), "c")
    snapshot.estimates.renew()
    measure(snapshot, "c", AgentLoad())
    found = costs(snapshot, task(TaskFamily.COMMUNICATION))
    assert found[:2] == pytest.approx([0.2, 0.0])
    assert found[2] > 1.0


def test_a_hybrid_costs_what_the_families_do_that_it_has_needs_of(crew: Crew) -> None:
    snapshot = crew(a={"cached_models": ("bert",)}, b={"data": ("maps",)}, c={})
    both = task(TaskFamily.HYBRID, model="bert", data_location="maps")
    assert costs(snapshot, both) == [REMOTE_S, MODEL_LOAD_S, MODEL_LOAD_S + REMOTE_S]


@pytest.mark.parametrize(
    "profile",
    [
        task(model="bert"),
        task(TaskFamily.COMPUTE, milli_cores=5),
        task(TaskFamily.MODEL, gpu_memory_bytes=1),
        task(TaskFamily.IO),
        task(TaskFamily.COMMUNICATION),
        task(TaskFamily.HYBRID, milli_cores=5),
        task(family_name="nowhere", model="bert"),
    ],
)
def test_what_tells_agents_not_apart_costs_nothing(crew: Crew, profile: TaskProfile) -> None:
    assert costs(crew(a={"cached_models": ("bert",)}, b={}), profile) == []
    assert costs(crew(), profile) == []


# --- in plans -----------------------------------------------------------------------------------------------


def wait(snapshot: Snapshot, profile: TaskProfile, tasks: int, expected_ms: int) -> None:
    for key in range(1, tasks + 1):
        snapshot.waiting.add(profile, WaitingTask.ranked(0, 0, key, 1, "", expected_ms, 0.0))


@pytest.mark.parametrize("policy", [FAST, BALANCED])
@pytest.mark.parametrize("tasks", [1, 100])
@pytest.mark.parametrize("expected_ms", [4, 3_000])
def test_plans_go_where_setting_up_is_saved(crew: Crew, policy: Policy, tasks: int, expected_ms: int) -> None:
    agents: dict[str, dict[str, Any]] = {f"cold{at}": {"slots": tasks} for at in range(9)}
    snapshot = crew(**agents, warm={"slots": tasks, "cached_models": ("bert",)})
    wait(snapshot, BERT, tasks, expected_ms)
    made = plan_by_cost(snapshot, PlanLimits(), policy, 0.0)
    assert [choice.agent for choice in made.choices] == ["warm"] * tasks


def test_a_long_shortlist_goes_where_setting_up_is_saved(crew: Crew) -> None:
    """Among more agents than are looked at one and all."""
    agents: dict[str, dict[str, Any]] = {f"a{at}": {} for at in range(1_500)}
    agents["a1234"] = {"cached_models": ("bert",)}
    snapshot = crew(**agents)
    wait(snapshot, BERT, 1, 3_000)
    assert [choice.agent for choice in plan_by_cost(snapshot, PlanLimits(), FAST, 0.0).choices] == ["a1234"]


def test_an_agent_that_is_quick_enough_is_worth_setting_up(crew: Crew) -> None:
    snapshot = crew(quick={"speed": 4.0}, warm={"cached_models": ("bert",)})
    wait(snapshot, BERT, 1, 60_000)
    assert [choice.agent for choice in plan_by_cost(snapshot, PlanLimits(), FAST, 0.0).choices] == ["quick"]


# --- what is kept -------------------------------------------------------------------------------------------

SPECS = st.builds(
    AgentSpec,
    agent_id=st.sampled_from("abcde"),
    instance_id=st.just("i"),
    slots=st.integers(1, 3),
    credit=st.just(9),
    cached_models=st.sampled_from([(), ("bert",)]),
    tool_limits=st.sampled_from([(), (("saw", 1),), (("saw", 3),)]),
    resources=st.builds(Resources, bandwidth_bps=st.sampled_from([0, 10**8])),
    data=st.sampled_from([(), ("maps",)]),
)
KINDS = [
    BERT,
    BATCHED,
    SAW,
    task(TaskFamily.IO, data_location="maps", disk_bytes=10**8),
    task(TaskFamily.COMMUNICATION),
    task(TaskFamily.HYBRID, model="bert", tool="saw", disk_bytes=5),
    task(TaskFamily.COMPUTE),
]
LOADS = st.builds(
    AgentLoad, latency_ms=st.sampled_from([0.0, 7.0]), net_sent_bps=st.sampled_from([0, 10**8, 2**60])
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), SPECS),
        st.tuples(st.just("remove"), st.sampled_from("abcde")),
        st.tuples(st.just("hold"), st.sampled_from("abcde"), st.integers(1, 6), st.sampled_from(KINDS)),
        st.tuples(st.just("release"), st.sampled_from("abcde"), st.integers(1, 6)),
        st.tuples(st.just("load"), st.sampled_from("abcde"), LOADS),
        st.tuples(st.just("ask"), st.sampled_from(KINDS)),
    ),
    max_size=40,
)


@given(STEPS)
def test_what_is_kept_is_what_would_be_found_anew(steps: list[tuple[Any, ...]]) -> None:
    snapshot = Snapshot()
    agents = snapshot.agents
    for step in steps:
        match step:
            case ("put", spec):
                agents.put(spec, epoch=1)
            case ("remove", agent_id):
                snapshot.measured.forget(agent_id)
                snapshot.remove_agent(agent_id)
            case ("hold", agent_id, key, profile):
                agents.hold(agent_id, key, 1, profile, 1.0)
            case ("release", agent_id, key):
                agents.release(agent_id, key, 1)
            case ("load", agent_id, load):
                measure(snapshot, agent_id, load)
            case ("ask", profile):
                snapshot.affinity.setup_s(profile)
    fresh = Affinity(agents, snapshot.measured, snapshot.estimates)
    there = agents.present[: agents.size]
    for profile in KINDS:
        kept, anew = snapshot.affinity.setup_s(profile), fresh.setup_s(profile)
        assert (kept is None) == (anew is None)
        if kept is not None and anew is not None:
            assert kept[there].tolist() == anew[there].tolist()
            assert (kept[there] >= 0).all()


# --- families of plug-ins -----------------------------------------------------------------------------------


def with_family(crew: Crew, family: Family) -> Snapshot:
    """A crew of two, one with a licence, whose leader knows this family."""
    known = crew(a={"permissions": ("lift",)}, b={})
    snapshot = Snapshot(families=Families([*ALL, family]))
    for spec in known.agents.specs:
        assert spec is not None
        snapshot.agents.put(spec, epoch=1)
    return snapshot


LIFT = task(TaskFamily.TOOL, "lift")


def test_the_constraint_of_a_plug_in_is_one_like_any_other(crew: Crew) -> None:
    """B2, E2, E10."""
    family = Family(name="lift", takes=lambda requirements, offers: offers.has("permission", "lift"))
    snapshot = with_family(crew, family)
    found = explain(LIFT, snapshot)
    assert (found.capable, [(one.reason, one.agents, one.example) for one in found.refusals]) == (
        1,
        [("family", 1, "b")],
    )
    assert found.refusals[0].detail == "the family lift does not allow them"
    wait(snapshot, LIFT, 1, 1_000)
    assert [choice.agent for choice in plan_by_cost(snapshot, PlanLimits(), FAST, 0.0).choices] == ["a"]


def test_nobody_gets_tasks_of_a_family_that_the_leader_does_not_know(crew: Crew) -> None:
    snapshot = crew(a={"permissions": ("lift",)})
    wait(snapshot, LIFT, 1, 1_000)
    assert plan_by_cost(snapshot, PlanLimits(), FAST, 0.0).choices == []
    found = explain(LIFT, snapshot)
    assert found.impossible
    assert found.refusals[0].detail == (
        "the family lift is not installed on the leader, "
        "which knows model, tool, compute, io, communication, hybrid"
    )


def failing(requirements: Requirements, agents: Offers) -> Any:
    raise KeyError("in the plug-in")


def misshapen(requirements: Requirements, agents: Offers) -> Any:
    return np.ones(7)


@pytest.mark.parametrize("takes", [failing, misshapen])
def test_a_constraint_that_fails_holds_for_all_and_says_so(crew: Crew, takes: Any) -> None:
    snapshot = with_family(crew, Family(name="lift", takes=takes))
    found = explain(LIFT, snapshot)
    assert found.impossible
    assert "the family lift does not allow them: its `takes` " in found.refusals[0].detail
    assert explain(TaskProfile("t"), snapshot).feasible == 2


@pytest.mark.parametrize("setup_s", [failing, misshapen])
def test_costs_that_fail_are_none_and_are_told(crew: Crew, setup_s: Any) -> None:
    snapshot = with_family(crew, Family(name="lift", setup_s=setup_s))
    assert costs(snapshot, LIFT) == []
    assert "its `setup_s` " in snapshot.agents.families.faults["lift"]
    wait(snapshot, LIFT, 1, 1_000)
    assert len(plan_by_cost(snapshot, PlanLimits(), FAST, 0.0).choices) == 1


def test_costs_that_make_no_sense_are_brought_within_bounds(crew: Crew) -> None:
    def senseless(requirements: Requirements, agents: Agents) -> Any:
        return np.where(agents.has("permission", "lift"), np.inf, np.nan)

    snapshot = with_family(crew, Family(name="lift", setup_s=senseless))
    assert costs(snapshot, LIFT) == [LONGEST_SETUP_S, 0.0]
