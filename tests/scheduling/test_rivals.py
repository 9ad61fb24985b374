"""Second attempts: only where they may be and are worth it, within every bound, and the same again (E8,
F2)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import commands as c
from coordinator.core.limits import LIVE_ATTEMPTS
from coordinator.core.model import (
    FamilyNeeds,
    Requirements,
    Resources,
    TaskFamily,
    TaskProfile,
    TaskState,
)
from coordinator.scheduling.costs.weights import FAST, GREEN, Policy, Weights
from coordinator.scheduling.moves.rivals import Racing, Rival
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.scheduler import Scheduler
from tests.scheduling.clusters import Cluster

FEW = settings(max_examples=max(25, settings().max_examples // 3))
MODEL = TaskProfile("t", TaskFamily.MODEL)
NEEDS = [
    Requirements(),
    Requirements(),
    Requirements(capabilities=(("weld", 2),)),
    Requirements(resources=Resources(memory_bytes=40)),
    Requirements(anti_affinity=("g",)),
]


def idle_rows(cluster: Cluster) -> list[int]:
    return Scheduler(cluster.snapshot, FAST, PlanLimits())._idle()


def rivals(cluster: Cluster, policy: Policy = FAST) -> list[Rival]:
    return Racing(cluster.snapshot, policy, cluster.now_s).rivals(idle_rows(cluster))


def running_for(seconds: float, expected_s: float = 10.0, profile: TaskProfile = MODEL) -> Cluster:
    """One agent that has run its task for so long, and one that is idle and ten times as quick."""
    cluster = Cluster()
    cluster.join("slow", slots=2)
    cluster.submit({"x": []}, profile, expected_ms={"x": round(expected_s * 1_000)})
    cluster.begin("slow", "x")
    cluster.join("quick", speed=10.0)
    cluster.now_ms += round(seconds * 1_000)
    return cluster


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Agents of which some hold attempts, several of the same tasks among them."""
    cluster = Cluster()
    graph: dict[str, list[str]] = {}
    for at in range(draw(st.integers(1, 5))):
        graph[f"t{at}"] = []
        if draw(st.booleans()):
            graph[f"after{at}"] = [f"t{at}"]
    profiles = {
        name: TaskProfile(
            "t",
            draw(st.sampled_from([TaskFamily.MODEL, TaskFamily.MODEL, TaskFamily.COMPUTE, TaskFamily.TOOL])),
            draw(st.sampled_from(NEEDS)),
        )
        for name in graph
    }
    agents = [f"a{at}" for at in range(draw(st.integers(2, 8)))]
    for name in agents:
        cluster.join(
            name,
            slots=draw(st.integers(1, 2)),
            credit=draw(st.sampled_from([0, 1, 4, 4])),
            speed=draw(st.sampled_from([0.2, 1.0, 5.0])),
            capabilities=draw(st.sampled_from([(), (("weld", 2),)])),
            resources=Resources(memory_bytes=draw(st.sampled_from([0, 60, 100]))),
        )
    expected = {name: draw(st.sampled_from([500, 20_000, 90_000])) for name in graph}
    cluster.submit(graph, expected_ms=expected, profiles=profiles)
    for name in graph:
        if name.startswith("t"):
            for agent in draw(st.lists(st.sampled_from(agents), max_size=4, unique=True)):
                task = cluster.task(name)
                cluster.give(agent, name, rival=task.state is not TaskState.READY)
                cluster.now_ms += draw(st.sampled_from([0, 4_000]))
                if draw(st.booleans()) and any(one.agent == agent for one in task.live):
                    cluster.report(agent, task, kind=c.ReportKind.STARTED)
    if draw(st.booleans()):
        cluster.apply(c.DrainAgent("", agents[0]))
    cluster.now_ms += draw(st.sampled_from([0, 15_000, 200_000]))
    return cluster


@FEW
@given(clusters(), st.integers(1, 4))
def test_they_keep_to_every_bound_and_are_the_same_again(cluster: Cluster, most: int) -> None:
    policy = Policy("p", rivals=most, patience=0.0)
    found = rivals(cluster, policy)
    assert rivals(cluster, policy) == found
    idle = idle_rows(cluster)
    freed: set[str] = set()
    raced = set()
    agents = cluster.snapshot.agents
    for choice, replaces in found:
        task = cluster.state.task(choice.key)
        assert task is not None
        assert task.profile.family in (TaskFamily.MODEL, TaskFamily.COMPUTE)
        assert task.state in (TaskState.ASSIGNED, TaskState.RUNNING)
        assert choice.rival
        assert choice.attempt == task.attempt + 1
        assert choice.key not in raced
        raced.add(choice.key)
        assert choice.agent not in [one.agent for one in task.live]
        row = agents.rows[choice.agent]
        assert row in idle or choice.agent in freed
        if replaces is None:
            assert len(task.live) + 1 <= min(most, LIVE_ATTEMPTS)
        else:
            live = {one.number: one.agent for one in task.live}
            assert replaces[0] == choice.key
            assert len(live) >= min(most, LIVE_ATTEMPTS)
            freed.add(live[replaces[1]])
    counts: dict[str, int] = {}
    for choice, _ in found:
        counts[choice.agent] = counts.get(choice.agent, 0) + 1
    assert all(count <= 1 + (name in freed) for name, count in counts.items())
    before = [replaces for _, replaces in found if replaces is not None]
    outcome = cluster.apply(
        *([c.Preempt(before, "room")] if before else []), c.Assign([choice for choice, _ in found])
    )
    assert outcome.replies[-1].count == len(found), "each can be carried out"  # type: ignore[union-attr]
    for choice, _ in found:
        spec, profile = agents.specs[agents.rows[choice.agent]], None
        task = cluster.state.task(choice.key)
        assert task is not None
        profile = task.profile
        assert spec is not None
        assert all(
            dict(spec.capabilities).get(name, -1) >= level
            for name, level in profile.requirements.capabilities
        )
        if profile.requirements.anti_affinity:
            assert agents.groups("g").item(agents.rows[choice.agent]) == 1


def test_a_task_that_would_end_last_gets_another_attempt_on_a_quicker_agent() -> None:
    cluster = running_for(1.0)
    assert [(choice.agent, choice.key) for choice, _ in rivals(cluster)] == [("quick", cluster.task("x").key)]


@pytest.mark.parametrize(("lasted_s", "begun"), [(12.0, 0), (60.0, 1), (100_000.0, 1)])
def test_an_attempt_that_hangs_gets_another_although_nothing_would_be_gained(
    lasted_s: float, begun: int
) -> None:
    cluster = running_for(lasted_s)
    cluster.apply(c.ChangeAgent(cluster.spec("quick", speed=0.5), cluster.epoch("quick")))
    found = rivals(cluster)
    assert [(choice.agent, replaces) for choice, replaces in found] == [("quick", None)] * begun
    cluster.apply(*[c.Assign([choice]) for choice, _ in found])
    assert not rivals(cluster), "one is enough"


@pytest.mark.parametrize(
    "policy",
    [
        Policy("none", rivals=1),
        Policy("no time", Weights(time=0.0, energy=1.0), rivals=4),
        GREEN,
        Policy("dear", Weights(time=0.001, energy=1_000.0), rivals=4, patience=0.0),
        Policy("patient", rivals=4, patience=1e9),
    ],
)
def test_none_where_the_policy_has_no_use_for_them(policy: Policy) -> None:
    assert not rivals(running_for(1.0), policy)


def test_none_where_nothing_is_gained() -> None:
    assert not rivals(running_for(0.0, expected_s=0.5)), "too short"
    cluster = running_for(1.0)
    cluster.apply(c.ChangeAgent(cluster.spec("quick", speed=0.001), cluster.epoch("quick")))
    assert not rivals(cluster), "the other would end long after"


@pytest.mark.parametrize("family", [TaskFamily.TOOL, TaskFamily.IO, TaskFamily.COMMUNICATION])
def test_none_of_tasks_that_act_on_the_world(family: TaskFamily) -> None:
    assert not rivals(running_for(1.0, profile=TaskProfile("t", family)))


def test_none_of_a_dag_that_is_being_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.core.transaction.SWEEP_STEP", 1)
    cluster = Cluster()
    cluster.join("slow", slots=4)
    names = [f"x{at}" for at in range(4)]
    cluster.submit({name: [] for name in names}, MODEL, expected_ms=dict.fromkeys(names, 60_000))
    cluster.begin("slow", *names)
    cluster.join("quick", speed=10.0)
    cluster.apply(c.CancelDag("", "d"))
    dag = cluster.state.dag("d")
    assert dag is not None
    assert dag.record.ending is not None
    assert any(task.live for task in dag.tasks)
    assert not rivals(cluster)


def test_not_where_an_agent_holds_another_of_the_group_or_answers_too_slowly() -> None:
    apart = TaskProfile("t", TaskFamily.MODEL, Requirements(anti_affinity=("g",)))
    cluster = running_for(1.0, profile=apart)
    cluster.submit({"other": []}, apart, dag_id="e")
    row = cluster.snapshot.agents.rows["quick"]
    cluster.give("quick", "other", dag_id="e")
    assert not Racing(cluster.snapshot, FAST, cluster.now_s).rivals([row])
    quick = TaskProfile("t", TaskFamily.MODEL, Requirements(needs=FamilyNeeds(max_latency_ms=10)))
    cluster = running_for(1.0, profile=quick)
    cluster.snapshot.agents.latency_ms[row] = 50.0
    assert not rivals(cluster)
    cluster.snapshot.agents.latency_ms[row] = 5.0
    assert rivals(cluster)


def test_a_clearly_quicker_agent_replaces_the_slowest_of_as_many_as_there_may_be() -> None:
    cluster = Cluster()
    cluster.join("slowest", speed=0.2)
    cluster.join("slow")
    cluster.submit({"x": []}, MODEL, expected_ms={"x": 100_000})
    cluster.begin("slowest", "x")
    cluster.give("slow", "x", rival=True)
    cluster.join("quick", speed=20.0)
    cluster.now_ms += 5_000
    found = rivals(cluster, Policy("two", rivals=2, patience=0.0))
    assert (found[0].choice.agent, found[0].replaces) == (
        "quick",
        (cluster.task("x").key, 1),
    )


def test_who_is_set_free_but_takes_nothing_new_gets_nothing() -> None:
    cluster = Cluster()
    for name in ("draining", "slow", "middle"):
        cluster.join(name, speed=0.2 if name == "draining" else 1.0)
    cluster.submit({"x": [], "y": []}, MODEL, expected_ms={"x": 100_000, "y": 900_000})
    cluster.begin("draining", "x")
    cluster.give("slow", "x", rival=True)
    cluster.begin("middle", "y")
    cluster.apply(c.DrainAgent("", "draining"))
    cluster.join("quick", speed=20.0)
    cluster.now_ms += 5_000
    for choice, _ in rivals(cluster, Policy("two", rivals=2, patience=0.0)):
        assert choice.agent != "draining"


def test_extreme_estimates_do_not_break_it() -> None:
    for seconds in (0.0, 1e3, 1e7):
        cluster = running_for(seconds, expected_s=1e6)
        with np.errstate(all="raise", under="ignore"):
            rivals(cluster)


def test_a_task_has_no_rival_while_an_attempt_of_it_is_taken_to_be_brief() -> None:
    cluster = Cluster()
    for name in ("slow", "b", "quick"):
        cluster.join(name, speed=20.0 if name == "quick" else 1.0)
    cluster.submit({"x": []}, MODEL, expected_ms={"x": 100_000})
    cluster.begin("slow", "x")
    cluster.give("b", "x", rival=True)
    cluster.now_ms += 60_000
    scheduler = Scheduler(cluster.snapshot, FAST, PlanLimits())
    assert scheduler.decide(cluster.now_s).choices
    cluster.snapshot.running.release(cluster.task("x").key, 2)
    assert not scheduler.decide(cluster.now_s).choices


def test_no_agent_is_given_a_task_again_in_the_same_moment() -> None:
    """Agents gave way to each other until no more attempts might be begun: the mean of a wide distribution
    was held against that of scenarios, which leave out its tail."""
    cluster = Cluster()
    cluster.join("first", speed=1.0)
    for at, seconds in enumerate([0.01, 1.0, 0.1, 10.0, 1.0, 0.01, 10.0, 100.0]):
        cluster.submit({"x": []}, TaskProfile(f"t{at}", TaskFamily.MODEL), dag_id=f"before{at}")
        cluster.give("first", "x", dag_id=f"before{at}")
        cluster.complete("first", "x", dag_id=f"before{at}", seconds=seconds)
    cluster.submit({"x": []}, MODEL)
    cluster.begin("first", "x")
    for at, speed in enumerate([0.77, 0.71, 0.75, 0.77, 0.97, 0.93, 0.97, 0.64, 0.43, 0.46, 0.47]):
        cluster.join(f"a{at}", speed=speed)
    scheduler = Scheduler(cluster.snapshot, FAST, PlanLimits())
    given: list[str] = []
    while (decision := scheduler.decide(cluster.now_s)).choices:
        cluster.apply(*decision.before, c.Assign(decision.choices))
        given += [choice.agent for choice in decision.choices]
        assert len(given) == len(set(given))
    assert len(given) > 2
