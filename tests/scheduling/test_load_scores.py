"""The LoadScore in the cost of plans (D3, B2, E1): by the weights of the task's family, of a plug-in or of an
operator, with how well an agent fits and how often it fails; and what explanations show of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.kinds import kind_of
from coordinator.core.model import (
    AgentLoad,
    AgentSpec,
    Requirements,
    Resources,
    TaskFamily,
    TaskProfile,
)
from coordinator.errors import PluginFailed
from coordinator.families.built_in import ALL, COMPUTE_LOAD, IO_LOAD, MIXED_LOAD
from coordinator.families.family import Family
from coordinator.families.load_weights import LoadWeights
from coordinator.families.registry import Families
from coordinator.scheduling.costs.weights import Policy, Weights
from coordinator.scheduling.load.match import Matches
from coordinator.scheduling.load.scores import LoadScores
from coordinator.scheduling.plans.assignments import Assignment, Witness
from coordinator.scheduling.plans.planner import plan_by_cost
from coordinator.scheduling.snapshot import Snapshot
from tests.scheduling.clusters import measure
from tests.scheduling.test_planner import LIMITS, NOW_S, wait

Crew = Callable[..., Snapshot]
EVEN = Policy("even", Weights(time=1.0, balance=1.0))
ASLEEP = LoadWeights(memory=1.0)
"""Looks at memory alone, as no family of the six does."""
PLUG_INS = Families([*ALL, Family(name="nap", like=TaskFamily.IO, load=ASLEEP), Family(name="plain")])
BUSY = {
    "cpu": AgentLoad(cpu=0.6),
    "memory": AgentLoad(memory=0.6),
    "network": AgentLoad(packet_loss=0.6),
}


def busy(families: Families | None = None, operators: LoadWeights | None = None) -> Snapshot:
    """Three agents, each busy in another way."""
    snapshot = Snapshot(families=families, load_weights=operators)
    for name, load in BUSY.items():
        snapshot.agents.put(AgentSpec(name, "i", slots=100, credit=100), epoch=1)
        measure(snapshot, name, load)
    return snapshot


def placed(snapshot: Snapshot, profile: TaskProfile, seconds: float = 1.0) -> Assignment:
    """One task of it, as it is explained."""
    wait(snapshot, 1, profile, expected_ms=round(1_000 * seconds))
    witness = Witness("even", NOW_S, 1)
    plan_by_cost(snapshot, LIMITS, EVEN, NOW_S, witness)
    snapshot.waiting.discard([1])
    (taken,) = witness.taken
    return taken


def order(one: Assignment) -> list[str]:
    """All agents, the cheapest first."""
    return [candidate.agent for candidate in sorted(one.candidates, key=lambda candidate: candidate.cost)]


def shown(one: Assignment, name: str) -> dict[str, float]:
    """By agent, a term that is explained, in seconds before it is weighed."""
    return {
        candidate.agent: part.value
        for candidate in one.candidates
        for part in candidate.parts
        if part.name == name
    }


FAMILIES = [
    (TaskFamily.COMPUTE, ["network", "memory", "cpu"]),
    (TaskFamily.IO, ["cpu", "memory", "network"]),
    (TaskFamily.MODEL, ["network", "cpu", "memory"]),
]


@pytest.mark.parametrize(("family", "cheapest_first"), FAMILIES)
def test_each_family_shuns_the_load_that_it_would_feel(family: TaskFamily, cheapest_first: list[str]) -> None:
    one = placed(busy(), TaskProfile("t", family))
    assert one.agent == cheapest_first[0]
    assert order(one) == cheapest_first


@pytest.mark.parametrize(("family", "cheapest_first"), FAMILIES)
def test_so_do_rounds_of_many(family: TaskFamily, cheapest_first: list[str]) -> None:
    snapshot = busy()
    for key in range(1, 101):
        wait(snapshot, key, TaskProfile("t", family), expected_ms=60_000)
    made = plan_by_cost(snapshot, LIMITS, Policy("only", Weights(0.0, 1.0)), NOW_S)
    assert len(made.choices) == 100
    first = [sum(choice.agent == name for choice in made.choices) for name in cheapest_first]
    assert first == sorted(first, reverse=True)
    assert first[0] > first[2]


def test_a_plug_in_brings_its_weights_or_has_those_of_the_family_that_it_is_like() -> None:
    for name, like, cheapest_first in (
        ("nap", TaskFamily.IO, ["cpu", "network", "memory"]),
        ("plain", TaskFamily.IO, ["cpu", "memory", "network"]),
        ("gone", TaskFamily.IO, ["cpu", "memory", "network"]),
    ):
        assert PLUG_INS.load_weights(like, name) == (ASLEEP if name == "nap" else IO_LOAD)
        snapshot = busy(PLUG_INS)
        scores = LoadScores(snapshot.agents, snapshot.measured)
        loads = dict(zip(BUSY, scores.machine(PLUG_INS.load_weights(like, name)), strict=True))
        assert sorted(loads, key=lambda agent: loads[agent]) == cheapest_first
    profile = TaskProfile("t", TaskFamily.IO, family_name="nap")
    load = shown(placed(busy(PLUG_INS), profile), "load")
    assert (load["cpu"], load["network"]) == (0.0, 0.0)
    assert load["memory"] > 0
    assert PLUG_INS.load_weights(TaskFamily.UNSPECIFIED) == Families().load_weights(TaskFamily.HYBRID)


def test_a_round_of_many_keeps_plug_ins_apart_from_the_family_that_they_are_like() -> None:
    snapshot = busy(PLUG_INS)
    for key in range(1, 141):
        name = "nap" if key % 2 else ""
        wait(snapshot, key, TaskProfile("t", TaskFamily.IO, family_name=name), expected_ms=60_000)
    made = plan_by_cost(snapshot, LIMITS, Policy("only", Weights(0.0, 1.0)), NOW_S)
    agents = {choice.key: choice.agent for choice in made.choices}
    assert len(agents) == 140
    naps = [agents[key] for key in agents if key % 2]
    others = [agents[key] for key in agents if not key % 2]
    assert naps.count("network") > naps.count("memory")
    assert others.count("memory") > others.count("network")


def test_an_operator_s_weights_go_before_all() -> None:
    memory = LoadWeights(memory=1.0)
    for profile in (
        TaskProfile("t", TaskFamily.COMPUTE),
        TaskProfile("t", TaskFamily.IO, family_name="nap"),
    ):
        snapshot = busy(PLUG_INS, memory)
        work_s = snapshot.work_s(profile, 1, 1_000)
        load = shown(placed(snapshot, profile), "load")
        assert load == pytest.approx({"cpu": 0.0, "memory": 0.6 * work_s, "network": 0.0})


def test_weights_of_a_plug_in_that_are_none_are_refused() -> None:
    with pytest.raises(PluginFailed, match="the family 'lift' weighs loads by a dict: give LoadWeights"):
        Family(name="lift", load={"cpu": 1.0})  # type: ignore[arg-type]


def test_explanations_show_the_score_that_decides() -> None:
    snapshot = busy()
    one = placed(snapshot, TaskProfile("t", TaskFamily.COMPUTE))
    work_s = snapshot.work_s(TaskProfile("t", TaskFamily.COMPUTE), 1, 1_000)
    assert shown(one, "load") == pytest.approx(
        {
            "cpu": work_s * COMPUTE_LOAD.cpu * 0.6,
            "memory": work_s * COMPUTE_LOAD.memory * 0.6,
            "network": work_s * COMPUTE_LOAD.network * 0.6,
        }
    )


def test_a_new_measurement_counts_at_once() -> None:
    snapshot = busy()
    profile = TaskProfile("t", TaskFamily.COMPUTE)
    assert placed(snapshot, profile).agent == "network"
    measure(snapshot, "network", AgentLoad(cpu=0.9))
    measure(snapshot, "cpu", AgentLoad())
    assert placed(snapshot, profile).agent == "cpu"


def test_what_is_scarce_everywhere_counts_more_in_plans_too() -> None:
    snapshot = busy()
    before = shown(placed(snapshot, TaskProfile("t", TaskFamily.COMPUTE)), "load")
    for name in BUSY:
        measure(snapshot, name, AgentLoad(memory=0.9))
    after = shown(placed(snapshot, TaskProfile("t", TaskFamily.COMPUTE)), "load")
    assert after["memory"] / 0.9 > 1.1 * before["memory"] / 0.6


# --- how well it fits, and how often it fails ---------------------------------------------------------------


def test_an_agent_that_fits_goes_before_one_that_is_wasted_on_the_task(crew: Crew) -> None:
    large, small = Resources(memory_bytes=100), Resources(memory_bytes=10)
    snapshot = crew(large={"resources": large}, small={"resources": small})
    needy = TaskProfile("t", requirements=Requirements(resources=Resources(memory_bytes=10)))
    one = placed(snapshot, needy)
    assert one.agent == "small"
    work_s = snapshot.work_s(needy, 1, 1_000)
    assert shown(one, "load") == pytest.approx({"large": work_s * MIXED_LOAD.match * 0.9, "small": 0.0})


def test_a_gpu_is_left_to_those_who_need_it(crew: Crew) -> None:
    gpu = Resources(gpu_memory_bytes=100)
    assert placed(crew(gpu={"resources": gpu}, plain={}), TaskProfile("t")).agent == "plain"


AMOUNTS = st.sampled_from([0, 1, 10, 40])
LEVELS = st.sampled_from([(), (("weld", 1),), (("weld", 4),)])


@given(
    st.lists(st.tuples(AMOUNTS, AMOUNTS, LEVELS), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), AMOUNTS, AMOUNTS, LEVELS), max_size=3),
    AMOUNTS,
    AMOUNTS,
    LEVELS,
)
def test_the_match_is_the_mean_of_what_is_left_unused_as_agents_change(
    agents: list[tuple[int, int, tuple[tuple[str, int], ...]]],
    changes: list[tuple[int, int, int, tuple[tuple[str, int], ...]]],
    memory: int,
    gpu: int,
    levels: tuple[tuple[str, int], ...],
) -> None:
    snapshot = Snapshot()
    matches = Matches(snapshot.agents)
    wanted = Requirements(resources=Resources(memory_bytes=memory, gpu_memory_bytes=gpu), capabilities=levels)
    for at, has, has_gpu, skills in [*((at, *one) for at, one in enumerate(agents)), *changes]:
        offers = Resources(memory_bytes=has, gpu_memory_bytes=has_gpu)
        snapshot.agents.put(AgentSpec(f"a{at}", "i", 1, 1, capabilities=skills, resources=offers), epoch=1)
        found = matches.of(wanted)
        for agent_id, row in snapshot.agents.rows.items():
            spec = snapshot.agents.specs[row]
            assert spec is not None
            pairs = [(memory, spec.resources.memory_bytes)] if memory else []
            if gpu or spec.resources.gpu_memory_bytes:
                pairs.append((gpu, spec.resources.gpu_memory_bytes))
            pairs += [(level, max(dict(spec.capabilities).get(name, -1), 0)) for name, level in levels]
            unused = [max(0.0, 1 - needed / has) if has > 0 else 0.0 for needed, has in pairs]
            expected = sum(unused) / len(unused) if unused else 0.0
            assert (0.0 if found is None else found[row]) == pytest.approx(expected), agent_id


def test_who_fails_is_more_loaded(crew: Crew) -> None:
    snapshot = crew(bad={}, good={})
    profile = TaskProfile("t", TaskFamily.TOOL)
    for _ in range(4):
        snapshot.estimates.failed(kind_of(profile, 0), "bad")
    snapshot.estimates.renew()
    one = placed(snapshot, profile)
    share = snapshot.estimates.failure_shares()[snapshot.agents.rows["bad"]]
    work_s = snapshot.work_s(profile, 1, 1_000)
    assert share > 0.2
    assert shown(one, "load") == pytest.approx({"bad": 0.2 * share * work_s, "good": 0.0})


def test_a_row_that_is_vacant_or_never_reported_is_idle() -> None:
    snapshot = busy()
    scores = LoadScores(snapshot.agents, snapshot.measured)
    snapshot.measured.forget("cpu")
    snapshot.remove_agent("cpu")
    snapshot.agents.put(AgentSpec("new", "i", 1, 1), epoch=2)
    assert np.flatnonzero(scores.machine(COMPUTE_LOAD) == 0).tolist() == [snapshot.agents.rows["new"]]
