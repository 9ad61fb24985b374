"""Each hard constraint by itself (E2): whom it refuses, what it says of near misses, and that an explanation
agrees with the plan (E10)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.core import commands as c
from coordinator.core.model import (
    AgentLoad,
    AgentSpec,
    FamilyNeeds,
    Requirements,
    Resources,
    TaskProfile,
)
from coordinator.scheduling.agents.departed import DEPARTED_KEPT, Departed
from coordinator.scheduling.agents.feasibility import needs_of
from coordinator.scheduling.explain import GROUPS_SHOWN, NEAR_MISSES, GroupView, NearMiss, Refusal, explain
from coordinator.scheduling.plans.solver import PlanLimits, plan
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import WaitingTask
from tests.scheduling.clusters import Cluster

Crew = Callable[..., Snapshot]

NEEDS_WELD = Requirements(capabilities=(("weld", 4),))
GROUPED = TaskProfile("t", requirements=Requirements(anti_affinity=("g",)))


def needing(**needs: Any) -> Requirements:
    return Requirements(needs=FamilyNeeds(**needs))


@pytest.mark.parametrize(
    ("profile", "fits", "lacks", "refusal"),
    [
        (
            TaskProfile("weld"),
            {},
            {"task_types": ("paint",)},
            Refusal("type", 1, "lacks", "no handler for the type 'weld'"),
        ),
        (
            TaskProfile("t", requirements=NEEDS_WELD),
            {"capabilities": (("weld", 4),)},
            {"capabilities": (("weld", 3),)},
            Refusal("capability", 1, "lacks", "needs weld >= 4, best has 3"),
        ),
        (
            TaskProfile("t", requirements=NEEDS_WELD),
            {"capabilities": (("weld", 5),)},
            {},
            Refusal("capability", 1, "lacks", "needs weld >= 4, none has it"),
        ),
        (
            TaskProfile("t", requirements=Requirements(resources=Resources(memory_bytes=2_000))),
            {"resources": Resources(memory_bytes=2_000)},
            {"resources": Resources(memory_bytes=1_999)},
            Refusal("resources", 1, "lacks", "needs memory_bytes 2,000, best has 1,999"),
        ),
        (
            TaskProfile("t", requirements=Requirements(labels=(("zone", "a"),))),
            {"labels": (("zone", "a"),)},
            {"labels": (("zone", "b"),)},
            Refusal("label", 1, "lacks", "needs the label zone=a"),
        ),
        (
            TaskProfile("t", requirements=needing(tool="saw")),
            {"tools": ("saw",)},
            {"tools": ("drill",)},
            Refusal("tool", 1, "lacks", "needs the tool saw"),
        ),
        (
            TaskProfile("t", requirements=needing(permissions=("read", "write"))),
            {"permissions": ("write", "read")},
            {"permissions": ("read",)},
            Refusal("permission", 1, "lacks", "needs the permission write"),
        ),
        (
            TaskProfile("t", requirements=needing(environment="linux")),
            {"environments": ("linux",)},
            {},
            Refusal("environment", 1, "lacks", "needs the environment linux"),
        ),
        (
            TaskProfile("t", requirements=needing(protocol="mqtt")),
            {"protocols": ("mqtt",)},
            {},
            Refusal("protocol", 1, "lacks", "needs the protocol mqtt"),
        ),
    ],
)
def test_what_an_agent_is(
    crew: Crew, profile: TaskProfile, fits: dict[str, Any], lacks: dict[str, Any], refusal: Refusal
) -> None:
    both = crew(lacks=lacks, fits=fits)
    found = explain(profile, both)
    assert (found.agents, found.capable, found.feasible, found.refusals) == (2, 1, 1, [refusal])
    assert not found.impossible
    both.waiting.add(profile, WaitingTask(1, 1))
    assert [choice.agent for choice in plan(both, PlanLimits()).choices] == ["fits"]

    alone = crew(lacks=lacks)
    found = explain(profile, alone)
    assert found.impossible
    assert found.summary == (
        f"impossible: none of the 1 agents known could ever take it (1 x {refusal.reason}: {refusal.detail})"
    )
    alone.waiting.add(profile, WaitingTask(1, 1))
    assert plan(alone, PlanLimits()).unplaced == {"impossible": 1}


def test_what_is_free_now(crew: Crew) -> None:
    snapshot = crew(
        away={},
        full={"credit": 2},
        apart={"slots": 2},
        slow={},
        small={"resources": Resources(milli_cores=9)},
        fine={},
    )
    agents = snapshot.agents
    agents.put(agents.specs[0], epoch=1, refusing="draining")  # type: ignore[arg-type]
    for key in (1, 2):
        agents.hold("full", key, 1, TaskProfile("t"), 1.0)
    agents.hold("apart", 3, 1, GROUPED, 0.0)
    agents.set_load("slow", AgentLoad(latency_ms=50))
    profile = TaskProfile(
        "t", requirements=Requirements(anti_affinity=("g",), needs=FamilyNeeds(max_latency_ms=10))
    )
    found = explain(profile, snapshot)
    assert (found.agents, found.capable, found.feasible) == (6, 6, 2)
    assert found.refusals == [
        Refusal("accepting", 1, "away", "draining"),
        Refusal("capacity", 1, "full", "all are busy: full holds 2 attempts with 1 slots and a credit of 2"),
        Refusal("latency", 1, "slow", "needs a latency <= 10 ms, the best measured 50.0 ms"),
        Refusal("anti_affinity", 1, "apart", "they hold tasks of the group g"),
    ]
    assert found.summary == "2 of 6 agents can take it: it waits for its turn"


def test_resources_that_others_have_taken(crew: Crew) -> None:
    snapshot = crew(a={"slots": 2, "resources": Resources(milli_cores=1_000)})
    profile = TaskProfile("t", requirements=Requirements(resources=Resources(milli_cores=600)))
    snapshot.agents.hold("a", 1, 1, profile, 0.0)
    found = explain(profile, snapshot)
    assert (found.capable, found.feasible) == (1, 0)
    assert found.refusals == [Refusal("free_resources", 1, "a", "needs milli_cores 600, best has free 400")]
    assert found.summary.startswith(
        "none of the 1 agents that could take it can do so now (1 x free_resources: "
    )


def test_a_tool_and_a_model_that_as_many_use_as_the_agent_allows(crew: Crew) -> None:
    """D8, E10: whoever has no bound, or does not use what is bounded, is not told of it."""
    profile = TaskProfile("t", requirements=needing(tool="saw", model="bert"))
    snapshot = crew(
        a={"slots": 9, "tools": ("saw",), "tool_limits": (("saw", 2),)},
        b={"slots": 9, "tools": ("saw",), "model_limits": (("bert", 1), ("gpt", 9))},
        c={"slots": 9, "tools": ("saw",)},
    )
    for agent_id, held in (("a", 2), ("b", 1), ("c", 5)):
        for key in range(held):
            snapshot.agents.hold(agent_id, key, 1, profile, 0.0)
    found = explain(profile, snapshot)
    assert (found.capable, found.feasible) == (3, 1)
    assert found.refusals == [
        Refusal("tool_limit", 1, "a", "a: 2 of at most 2 tasks of the tool saw at once"),
        Refusal("model_limit", 1, "b", "b: 1 of at most 1 tasks of the model bert at once"),
    ]
    assert explain(TaskProfile("t"), snapshot).refusals == []
    assert explain(TaskProfile("t", requirements=needing(model="gpt")), snapshot).refusals == []


def test_the_example_is_a_near_miss_where_there_is_one(crew: Crew) -> None:
    requirements = Requirements(capabilities=(("weld", 4),), labels=(("zone", "a"),))
    snapshot = crew(
        neither={"capabilities": (("weld", 3),)},
        no_skill={"labels": (("zone", "a"),), "capabilities": (("weld", 2),)},
    )
    found = explain(TaskProfile("t", requirements=requirements), snapshot)
    assert found.refusals == [
        Refusal("capability", 2, "no_skill", "needs weld >= 4, best has 2"),
        Refusal("label", 1, "neither", "needs the label zone=a"),
    ]


def test_nobody_is_there(crew: Crew) -> None:
    found = explain(TaskProfile("t"), crew())
    assert (found.agents, found.impossible, found.refusals) == (0, True, [])
    assert found.summary == "no agent is known"


# --- near misses, groups, what would help, since when -------------------------------------------------------


def test_near_misses_are_those_who_lack_one_thing(crew: Crew) -> None:
    requirements = Requirements(capabilities=(("weld", 4),), labels=(("zone", "a"),))
    here = {"labels": (("zone", "a"),)}
    snapshot = crew(
        neither={"capabilities": (("weld", 9),), "task_types": ("u",)},
        unskilled=here | {"capabilities": (("weld", 1),)},
        elsewhere={"capabilities": (("weld", 4),)},
    )
    found = explain(TaskProfile("t", requirements=requirements), snapshot)
    assert found.near_misses == [
        NearMiss("unskilled", "capability", "needs weld >= 4, best has 1"),
        NearMiss("elsewhere", "label", "needs the label zone=a"),
    ]
    assert found.unblocked_by == [
        "1 x capability: needs weld >= 4, best has 1",
        "1 x label: needs the label zone=a",
    ]
    assert found.impossible


def test_what_would_let_it_go_is_told_with_the_time_that_it_takes(crew: Crew) -> None:
    snapshot = crew(a={"credit": 1}, b={"credit": 1}, other={"task_types": ("u",)})
    for key, agent in enumerate(("a", "b"), start=1):
        snapshot.hold(agent, key, 1, TaskProfile("t"), 10_000 * key, 100.0)
        snapshot.begin(key, 1, 100.0)
    found = explain(TaskProfile("t"), snapshot, 60_000, now_s=102.0)
    assert [miss.agent for miss in found.near_misses] == ["a", "b", "other"]
    assert found.unblocked_by[0].startswith("2 x capacity: all are busy: a holds 1 attempts")
    assert re.search(r"; a should have a slot free in [89]\.\d s$", found.unblocked_by[0])
    assert found.unblocked_by[1] == "1 x type: no handler for the type 't'"
    free = explain(TaskProfile("u"), snapshot)
    assert (free.feasible, free.unblocked_by) == (1, [])


def test_agents_are_counted_by_group_and_reason(crew: Crew) -> None:
    weld = {"capabilities": (("weld", 4),)}
    snapshot = crew(
        a=weld | {"groups": ("hall", "night")},
        b={"groups": ("hall",)},
        c={"groups": ("hall",), "task_types": ("u",)},
        d=weld | {"zone": "north"},
        e={},
    )
    agents = snapshot.agents
    agents.put(agents.specs[agents.rows["d"]], 1, "draining")  # type: ignore[arg-type]
    assert explain(TaskProfile("t", requirements=NEEDS_WELD), snapshot).groups == [
        GroupView("hall", 3, 1, 1, {"type": 1, "capability": 2}),
        GroupView("", 1, 0, 0, {"capability": 1}),
        GroupView("night", 1, 1, 1, {}),
        GroupView("north", 1, 1, 0, {"accepting": 1}),
    ]


def test_what_is_shown_is_bounded(crew: Crew) -> None:
    many = crew(**{f"a{at}": {"groups": (f"g{at}",)} for at in range(50)})
    found = explain(TaskProfile("t", requirements=NEEDS_WELD), many)
    assert (len(found.near_misses), len(found.groups)) == (NEAR_MISSES, GROUPS_SHOWN)


def test_since_when_nobody_could_take_it() -> None:
    cluster = Cluster()
    profile = TaskProfile("t", requirements=NEEDS_WELD)

    def lost_s() -> float:
        return explain(profile, cluster.snapshot).lost_s

    assert lost_s() == 0, "there never was anybody"
    cluster.join("a", capabilities=(("weld", 5),))
    cluster.join("b", capabilities=(("weld", 4),))
    assert lost_s() == 0, "they can"
    cluster.now_ms += 5_000
    cluster.join("a", capabilities=(("paint", 5),))
    assert lost_s() == 0, "b can"
    cluster.now_ms += 2_000
    gone_s = cluster.now_s
    cluster.apply(c.CloseSession("b", cluster.epoch("b"), True))
    cluster.apply(c.ForgetAgents([("b", cluster.epoch("b"))]))
    cluster.now_ms += 9_000
    cluster.join("c")
    assert lost_s() == pytest.approx(gone_s)
    assert explain(TaskProfile("t", requirements=needing(tool="saw")), cluster.snapshot).lost_s == 0


def test_those_who_left_are_remembered_up_to_a_bound() -> None:
    departed = Departed()
    for at in range(DEPARTED_KEPT + 1):
        departed.add(AgentSpec(f"a{at}", "i", 1, 1, task_types=("t" if at == 0 else "u",)), 10.0 + at)
    assert departed.latest(needs_of(TaskProfile("t"))) == 0
    assert departed.latest(needs_of(TaskProfile("u"))) == 10.0 + DEPARTED_KEPT
