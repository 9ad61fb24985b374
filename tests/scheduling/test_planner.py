"""Plans by cost: they can be carried out, waste nothing, keep to the order of the line, and go where brute
force finds the least cost (E1, E2, E3)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import commands as c
from coordinator.core.kinds import kind_of
from coordinator.core.model import (
    AgentLoad,
    AgentSpec,
    DataItem,
    FamilyNeeds,
    Priority,
    Requirements,
    Resources,
    TaskExtras,
    TaskProfile,
)
from coordinator.families.built_in import MIXED_LOAD
from coordinator.scheduling.agents.lookahead import may_queue
from coordinator.scheduling.costs.pricing import LEAST_SUCCESS
from coordinator.scheduling.costs.weights import BALANCED, FAST, GREEN, Policy, Weights
from coordinator.scheduling.load.score import SCARCE
from coordinator.scheduling.plans.planner import plan_by_cost
from coordinator.scheduling.plans.solver import Plan, PlanLimits
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.order import STARVATION_S
from coordinator.scheduling.tasks.waiting import WaitingTask
from tests.scheduling.clusters import Cluster, measure

NOW_S = 1_700_000_000.0
NOW_MS = round(NOW_S * 1_000)
LIMITS = PlanLimits()
GREEDY = Policy("greedy", foresight=0)
PLAIN = TaskProfile("t")
NEEDS = [
    Requirements(),
    Requirements(),
    Requirements(capabilities=(("weld", 2),)),
    Requirements(resources=Resources(memory_bytes=40)),
    Requirements(anti_affinity=("g",)),
    Requirements(needs=FamilyNeeds(model="bert")),
]
FEW = settings(max_examples=max(20, settings().max_examples // 3))
policies = st.sampled_from([GREEDY, FAST, BALANCED, GREEN])


@st.composite
def snapshots(draw: st.DrawFn, most: int = 25, agents: int = 7) -> Snapshot:
    """A few agents that hold something, and tasks that wait."""
    snapshot = Snapshot()
    for at in range(draw(st.integers(1, agents))):
        spec = AgentSpec(
            f"a{at}",
            "i",
            slots=draw(st.integers(1, 3)),
            credit=draw(st.integers(1, 9)),
            task_types=draw(st.sampled_from([("*",), ("*",), ("u",)])),
            capabilities=draw(st.sampled_from([(), (("weld", 1),), (("weld", 2),)])),
            resources=Resources(memory_bytes=draw(st.sampled_from([0, 40, 100]))),
            speed=draw(st.sampled_from([0.5, 1.0, 1.0, 3.0])),
            busy_watts=draw(st.sampled_from([0.0, 50.0, 200.0])),
            model_limits=draw(st.sampled_from([(), (), (("bert", 1),), (("bert", 2),)])),
        )
        snapshot.agents.put(spec, at + 1, draw(st.sampled_from(["", "", "", "draining"])))
        measure(snapshot, f"a{at}", AgentLoad(cpu=draw(st.sampled_from([0.0, 0.5, 1.0]))))
        for number in range(draw(st.integers(0, 3))):
            key = 9_000 + 10 * at + number
            profile = TaskProfile("t", requirements=draw(st.sampled_from(NEEDS)))
            snapshot.hold(f"a{at}", key, 1, profile, draw(st.sampled_from([0, 10, 5_000])), NOW_S - 9)
            if draw(st.booleans()):
                snapshot.begin(key, 1, NOW_S - draw(st.sampled_from([0.1, 3.0])))
        for _ in range(draw(st.integers(0, 2))):
            snapshot.estimates.failed(kind_of(PLAIN, 0), f"a{at}")
    snapshot.estimates.renew()
    for key in range(1, 1 + draw(st.integers(1, most))):
        wait(
            snapshot,
            key,
            TaskProfile(
                draw(st.sampled_from(["t", "t", "u"])),
                requirements=draw(st.sampled_from(NEEDS)),
                priority=draw(st.sampled_from([Priority.LOW, Priority.MEDIUM, Priority.MEDIUM])),
            ),
            expected_ms=draw(st.sampled_from([0, 0, 5, 3_000])),
            previous=draw(st.sampled_from(["", "", "a0", "gone"])),
        )
    return snapshot


def wait(
    snapshot: Snapshot,
    key: int,
    profile: TaskProfile = PLAIN,
    *,
    expected_ms: int = 0,
    previous: str = "",
    waited_s: float = 0.0,
    rank_s: float = 0.0,
) -> None:
    ready_ms = NOW_MS - round(waited_s * 1_000)
    task = WaitingTask.ranked(ready_ms, ready_ms, key, 1, previous, expected_ms, rank_s)
    snapshot.waiting.add(profile, task)


def made(snapshot: Snapshot, policy: Policy = GREEDY, limits: PlanLimits = LIMITS) -> Plan:
    return plan_by_cost(snapshot, limits, policy, NOW_S)


class Books:
    """What agents hold, in plain numbers, as choices are carried out."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.agents = snapshot.agents
        self.profiles = {
            row: [held.profile for held in snapshot.agents.held_attempts[row].values()]
            for row in snapshot.agents.rows.values()
        }
        self.seconds = {row: snapshot.agents.held_s.item(row) for row in self.profiles}

    def could(self, row: int, profile: TaskProfile) -> bool:
        """Whether the agent could take such a task beside what it holds, but for a slot."""
        spec, wanted, held = self.agents.specs[row], profile.requirements, self.profiles[row]
        assert spec is not None
        memory = wanted.resources.memory_bytes
        taken = sum(one.requirements.resources.memory_bytes for one in held)
        model = wanted.needs.model
        users = sum(one.requirements.needs.model == model for one in held)
        return (
            not self.agents.refusing[row]
            and ("*" in spec.task_types or profile.type in spec.task_types)
            and all(dict(spec.capabilities).get(name, -1) >= level for name, level in wanted.capabilities)
            and (not memory or taken + memory <= spec.resources.memory_bytes)
            and not (wanted.anti_affinity and any(one.requirements.anti_affinity for one in held))
            and (not model or users < dict(spec.model_limits).get(model, math.inf))
            and len(held) < spec.credit
        )

    def has_slot(self, row: int) -> bool:
        return len(self.profiles[row]) < self.agents.slots.item(row)

    def may_queue(self, row: int, work_s: float) -> bool:
        held, slots = len(self.profiles[row]), self.agents.slots.item(row)
        return bool(may_queue(held, slots, self.seconds[row], work_s, self.snapshot.look_ahead))

    def take(self, choice: c.Choice) -> None:
        """Carry out a choice that can be."""
        found = self.snapshot.waiting.get(choice.key)
        assert found is not None
        profile, task = found
        row = self.agents.rows[choice.agent]
        assert (choice.attempt, choice.epoch) == (task.attempt, self.agents.epochs.item(row))
        assert self.could(row, profile)
        work_s = self.snapshot.work_s(profile, choice.key, task.hint)
        brief = work_s <= self.snapshot.look_ahead.brief_s
        seconds = work_s / self.snapshot.estimates.speeds(profile.family).item(row)
        assert self.has_slot(row) or (brief and self.may_queue(row, min(work_s, seconds)))
        self.profiles[row].append(profile)
        self.seconds[row] += seconds


def check(snapshot: Snapshot, plan: Plan) -> Books:
    books = Books(snapshot)
    assert len({choice.key for choice in plan.choices}) == len(plan.choices)
    for choice in plan.choices:
        books.take(choice)
    assert plan.considered == len(snapshot.waiting)
    assert sum(plan.unplaced.values()) + len(plan.choices) <= plan.considered
    return books


def portrait(snapshot: Snapshot) -> list[object]:
    agents = snapshot.agents
    arrays = (
        agents.held,
        agents.held_s,
        agents.free,
        agents.slots,
        agents.credit,
        agents.accepting,
        agents.load,
    )
    return [
        *[array.tolist() for array in arrays],
        [dict(held) for held in agents.held_attempts],
        [list(members.tasks) for members in snapshot.waiting.classes.values()],
        dict(snapshot.running.items()),
        snapshot.running.waits(NOW_S).tolist(),
        agents.groups("g").tolist(),
    ]


@FEW
@given(snapshots(), policies, st.sampled_from([1, 3, 1_000]))
def test_a_plan_can_be_carried_out_is_repeatable_and_changes_nothing(
    snapshot: Snapshot, policy: Policy, most: int
) -> None:
    before = portrait(snapshot)
    limits = PlanLimits(max_choices=most)
    plan = made(snapshot, policy, limits)
    assert portrait(snapshot) == before
    check(snapshot, plan)
    assert len(plan.choices) <= most
    assert made(snapshot, policy, limits) == plan


def left(snapshot: Snapshot, plan: Plan) -> list[tuple[TaskProfile, WaitingTask]]:
    placed = {choice.key for choice in plan.choices}
    return [
        (profile, task)
        for profile, members in snapshot.waiting.classes.items()
        for task in members.tasks
        if task.key not in placed
    ]


@FEW
@given(snapshots(), policies)
def test_nothing_is_left_that_could_run_but_for_a_place_that_is_kept(
    snapshot: Snapshot, policy: Policy
) -> None:
    plan = made(snapshot, policy)
    books = check(snapshot, plan)
    kept = {expected.row for expected in plan.kept.values()}
    assert not (policy is GREEDY and kept)
    for profile, task in left(snapshot, plan):
        if task.key in plan.kept:
            continue
        for row in books.profiles:
            assert row in kept or not (books.has_slot(row) and books.could(row, profile))


@FEW
@given(snapshots(), policies)
def test_a_place_is_kept_only_where_it_is_better_than_all_that_are_free(
    snapshot: Snapshot, policy: Policy
) -> None:
    plan = made(snapshot, policy)
    for key, expected in plan.kept.items():
        assert snapshot.waiting.get(key) is not None
        assert key not in {choice.key for choice in plan.choices}
        assert expected.seconds > 0
        assert snapshot.agents.accepting[expected.row]


# --- cost ---------------------------------------------------------------------------------------------------


def brute_load(snapshot: Snapshot, row: int, profile: TaskProfile) -> float:
    """The LoadScore for a task without a family, of agents that measure nothing but their CPU."""
    weights, agents = MIXED_LOAD, snapshot.agents
    scarce = max(0.0, float(agents.load[: agents.size].mean()) - SCARCE) / (1 - SCARCE)
    cpu = weights.cpu * (1 + scarce)
    spec, wanted = agents.specs[row], profile.requirements
    assert spec is not None
    wasted = [1 - level / dict(spec.capabilities)[name] for name, level in wanted.capabilities]
    if wanted.resources.memory_bytes:
        wasted.append(1 - wanted.resources.memory_bytes / spec.resources.memory_bytes)
    match = weights.match * (sum(wasted) / len(wasted) if wasted else 0.0)
    history = weights.history * snapshot.estimates.failure_shares().item(row)
    return (cpu * agents.load.item(row) + match + history) / (1 + cpu - weights.cpu)


def brute_cost(snapshot: Snapshot, policy: Policy, row: int, work_s: float, profile: TaskProfile) -> float:
    agents, weights, estimates = snapshot.agents, policy.weights, snapshot.estimates
    family = profile.family
    inverse = 1 / estimates.speeds(family).item(row)
    tries = 1 / max(1 - estimates.failure_shares().item(row), LEAST_SUCCESS)
    stated = [watts for watts in agents.busy_watts[: agents.size].tolist() if watts > 0]
    watts = agents.busy_watts.item(row)
    power = watts / (sum(stated) / len(stated)) if watts > 0 else 1.0
    return (
        weights.time * (snapshot.running.waits(NOW_S).item(row) + inverse * tries * work_s)
        + weights.balance
        * (agents.held_s.item(row) / agents.slots.item(row) + brute_load(snapshot, row, profile) * work_s)
        + weights.energy * inverse * power * work_s
    )


@FEW
@given(
    snapshots(most=1),
    st.builds(
        Weights,
        st.sampled_from([0.5, 1.0, 3.0]),
        st.sampled_from([0.0, 1.0]),
        st.sampled_from([0.0, 1.0]),
        st.sampled_from([0.0, 2.0]),
    ),
)
def test_a_single_task_goes_where_it_costs_least(snapshot: Snapshot, weights: Weights) -> None:
    policy = Policy("drawn", weights)
    plan = made(snapshot, policy)
    profile, task = left(snapshot, Plan([], 1, {}, 0))[0]
    work_s = snapshot.work_s(profile, task.key, task.hint)
    if work_s <= snapshot.look_ahead.brief_s:
        return
    books = Books(snapshot)
    previous = snapshot.agents.rows.get(task.previous, -1)
    costs = {}
    for row in books.profiles:
        spec = snapshot.agents.specs[row]
        assert spec is not None
        crowded = len(books.profiles[row]) >= spec.credit
        books.profiles[row] = books.profiles[row][: spec.credit - 1] if crowded else books.profiles[row]
        if Books(snapshot).could(row, profile) or (crowded and books.could(row, profile)):
            again = 0.5 * work_s / snapshot.estimates.speeds(profile.family).item(row)
            cost = brute_cost(snapshot, policy, row, work_s, profile)
            costs[row] = cost + (again if row == previous else 0.0)
    rows = [snapshot.agents.rows[choice.agent] for choice in plan.choices]
    rows += [expected.row for expected in plan.kept.values()]
    if rows and rows[0] in costs:
        assert costs[rows[0]] == pytest.approx(min(costs.values()), rel=1e-9)
    elif not rows:
        assert not any(Books(snapshot).has_slot(row) and Books(snapshot).could(row, profile) for row in costs)


def test_a_task_waits_for_a_better_agent_only_if_that_is_sooner(crew: Callable[..., Snapshot]) -> None:
    for began_s, expected in ((0.1, ["slow"]), (4.9, [])):
        snapshot = crew(slow={"speed": 0.5}, quick={"speed": 10.0})
        snapshot.hold("quick", 77, 1, PLAIN, 40_000, NOW_S - began_s)
        snapshot.begin(77, 1, NOW_S - began_s)
        wait(snapshot, 1, expected_ms=1_500)
        plan = made(snapshot, FAST)
        assert [choice.agent for choice in plan.choices] == expected
        assert (1 in plan.kept) == (not expected)


def test_data_draws_a_task_to_where_it_is() -> None:
    cluster = Cluster()
    for name in ("near", "far"):
        cluster.join(name, slots=2, speed=2.0 if name == "far" else 1.0)
    item = DataItem("o", 1_250_000_000)
    extras = {"x": TaskExtras(outputs=(item,)), "z": TaskExtras(inputs=(item,))}
    cluster.submit({"x": [], "z": ["x"]}, extras=extras, expected_ms={"z": 2_000, "x": 1_000})
    cluster.complete("near", "x")
    plan = plan_by_cost(cluster.snapshot, LIMITS, FAST, cluster.now_s)
    assert [choice.agent for choice in plan.choices] == ["near"]


# --- order --------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Priority)), st.integers(0, 3_000), st.floats(0, 99)),
        min_size=1,
        max_size=30,
    ),
    st.integers(1, 4),
    policies,
)
def test_the_most_urgent_go_first(
    tasks: list[tuple[Priority, int, float]], slots: int, policy: Policy
) -> None:
    snapshot = Snapshot()
    snapshot.agents.put(AgentSpec("a", "i", slots, 99), 1)
    for key, (priority, waited_s, rank_s) in enumerate(tasks, 1):
        wait(snapshot, key, TaskProfile("t", priority=priority), waited_s=waited_s, rank_s=rank_s)
    order = sorted(
        range(1, len(tasks) + 1),
        key=lambda key: (
            -tasks[key - 1][0],
            -round(tasks[key - 1][1] * 1_000) - round(tasks[key - 1][2] * 10_000),
            key,
        ),
    )
    assert [choice.key for choice in made(snapshot, policy).choices] == order[:slots]


def test_a_deadline_that_is_near_goes_before_others_of_its_priority(crew: Callable[..., Snapshot]) -> None:
    snapshot = crew(a={})
    wait(snapshot, 1, waited_s=60.0)
    wait(snapshot, 2, TaskProfile("t", deadline_ms=NOW_MS + 10_000))
    assert [choice.key for choice in made(snapshot).choices] == [2]
    wait(snapshot, 3, TaskProfile("t", priority=Priority.HIGH))
    assert [choice.key for choice in made(snapshot).choices] == [3]


@pytest.mark.parametrize("many", [3, 300])
def test_nobody_waits_for_ever_behind_those_of_higher_priority(
    crew: Callable[..., Snapshot], many: int
) -> None:
    snapshot = crew(a={"slots": many - 1, "credit": many})
    wait(snapshot, 1, TaskProfile("t", priority=Priority.LOW), waited_s=2 * STARVATION_S + 1)
    for key in range(2, many + 2):
        wait(snapshot, key, TaskProfile("t", priority=Priority.HIGH))
    assert 1 in {choice.key for choice in made(snapshot).choices}
    wait(snapshot, 1, TaskProfile("t", priority=Priority.LOW), waited_s=2 * STARVATION_S - 60)
    assert 1 not in {choice.key for choice in made(snapshot).choices}


# --- what is foreseen ---------------------------------------------------------------------------------------


def test_a_place_is_kept_for_what_will_be_ready_and_matters_more() -> None:
    cluster = Cluster()
    cluster.join("a")
    cluster.submit({"x": [], "y": ["x"], "z": ["y"]}, expected_ms={"x": 5_000, "y": 50_000, "z": 50_000})
    cluster.begin("a", "x")
    cluster.now_ms += 4_500
    cluster.submit({"w": []}, dag_id="other", expected_ms={"w": 60_000})
    cluster.join("b", speed=0.01)
    Snapshot.duration_s(cluster.snapshot, cluster.task("w", "other"))
    plan = plan_by_cost(cluster.snapshot, LIMITS, FAST, cluster.now_s)
    assert [choice.agent for choice in plan.choices if choice.agent == "a"] == []


def test_what_comes_after_brief_tasks_keeps_no_place_from_those_that_wait() -> None:
    cluster = Cluster()
    for agent in ("a", "b"):
        cluster.join(agent, slots=4)
    chain = {"x": [], "y": ["x"], "z": ["y"]}
    for number in range(8):
        cluster.submit(chain, dag_id=f"d{number}", expected_ms=dict.fromkeys(chain, 10))
    plan = plan_by_cost(cluster.snapshot, LIMITS, BALANCED, cluster.now_s)
    assert sorted(choice.agent for choice in plan.choices) == ["a"] * 4 + ["b"] * 4


@pytest.mark.parametrize(("last_ms", "given"), [(90_000, 0), (10, 1)])
def test_a_place_is_kept_for_what_lasts_behind_a_brief_task(last_ms: int, given: int) -> None:
    cluster = Cluster()
    cluster.join("a", slots=2)
    chain = {"x": [], "y": ["x"], "z": ["y"]}
    cluster.submit(
        chain, TaskProfile("t", priority=Priority.HIGH), expected_ms={"x": 1_000, "y": 10, "z": last_ms}
    )
    cluster.begin("a", "x")
    cluster.submit({"w": []}, dag_id="other", expected_ms={"w": 60_000})
    plan = plan_by_cost(cluster.snapshot, LIMITS, FAST, cluster.now_s)
    assert len(plan.choices) == given


def test_no_place_is_kept_for_a_task_that_was_cancelled() -> None:
    cluster = Cluster()
    cluster.join("a")
    cluster.join("b")
    cluster.submit({"x": [], "y": ["x"]}, TaskProfile("t", priority=Priority.HIGH))
    cluster.apply(c.CancelTask("", "d", "y"))
    cluster.submit({"w": []}, dag_id="other")
    plan = plan_by_cost(cluster.snapshot, LIMITS, FAST, cluster.now_s)
    assert {choice.agent for choice in plan.choices} == {"a", "b"}


def test_foresight_is_bounded_by_the_policy(crew: Callable[..., Snapshot]) -> None:
    snapshot = crew(quick={"speed": 50.0}, slow={"slots": 9})
    snapshot.hold("quick", 77, 1, PLAIN, 50_000, NOW_S)
    for key in range(1, 10):
        wait(snapshot, key, expected_ms=10_000)
    for foresight in (0, 1, 3):
        plan = made(snapshot, Policy("p", foresight=foresight))
        assert len(plan.kept) <= foresight
        assert len(plan.choices) == 9 - len(plan.kept)


def test_what_cannot_be_placed_is_counted_by_reason(crew: Callable[..., Snapshot]) -> None:
    snapshot = crew(a={})
    wait(snapshot, 1, TaskProfile("t", requirements=Requirements(capabilities=(("fly", 1),))))
    wait(snapshot, 2, TaskProfile("t", requirements=Requirements(resources=Resources(memory_bytes=1))))
    plan = made(snapshot)
    assert (plan.choices, plan.unplaced) == ([], {"impossible": 2})
    assert math.isfinite(np.sum(list(plan.unplaced.values())))


def test_a_brief_task_goes_elsewhere_after_it_has_failed(crew: Callable[..., Snapshot]) -> None:
    snapshot = crew(a={}, b={})
    wait(snapshot, 1, expected_ms=100, previous="a")
    assert [choice.agent for choice in made(snapshot).choices] == ["b"]


def test_many_brief_tasks_wait_for_the_first_agent(crew: Callable[..., Snapshot]) -> None:
    snapshot = crew()
    for key in range(100):
        wait(snapshot, key, TaskProfile("t", requirements=NEEDS[4]), expected_ms=5)
    assert made(snapshot, BALANCED) == Plan([], 100, {}, 0)
