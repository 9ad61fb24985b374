"""Random clusters and queues: a plan is exactly that of a plain greedy search over all agents; and whatever
the settings, it keeps to slots, credit, look-ahead, resources and needs, respects priority, places all it
can, is repeatable, and agrees with `explain` (E1, E2, E8, E10)."""

from __future__ import annotations

import math
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.commands import Choice
from coordinator.core.kinds import kind_of
from coordinator.core.model import (
    AgentLoad,
    AgentSpec,
    FamilyNeeds,
    Priority,
    Requirements,
    Resources,
    TaskProfile,
)
from coordinator.scheduling.costs.objectives import LOAD_WEIGHT, PREVIOUS_PENALTY
from coordinator.scheduling.costs.policies import SIMPLE
from coordinator.scheduling.explain import explain
from coordinator.scheduling.plans.solver import Plan, PlanLimits, plan
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import WaitingTask
from tests.scheduling.clusters import recall

BOUND_S = 0.020
BRIEF_S = 0.25
SECONDS = {"tiny": 0.0039, "long": 5.0}
REQUIREMENTS = [
    Requirements(),
    Requirements(capabilities=(("weld", 2),)),
    Requirements(resources=Resources(memory_bytes=40)),
    Requirements(anti_affinity=("g",)),
    Requirements(needs=FamilyNeeds(tool="saw")),
]
PROFILES = [
    TaskProfile(task_type, requirements=requirements, priority=priority, deadline_ms=deadline_ms)
    for task_type, requirements, priority, deadline_ms in product(
        SECONDS, REQUIREMENTS, (Priority.LOW, Priority.HIGH), (0, 7)
    )
]


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    snapshot = Snapshot()
    for task_type, seconds in SECONDS.items():
        recall(snapshot.estimates, kind_of(TaskProfile(task_type), 0), 100, math.log(seconds), 0.0)
    for at in range(draw(st.integers(0, 9))):
        spec = AgentSpec(
            f"a{at}",
            "i",
            slots=draw(st.integers(1, 3)),
            credit=draw(st.integers(1, 9)),
            task_types=draw(st.sampled_from([("*",), ("tiny",)])),
            capabilities=draw(st.sampled_from([(), (("weld", 1),), (("weld", 2),)])),
            resources=Resources(memory_bytes=draw(st.sampled_from([0, 40, 100]))),
            tools=("saw",),
            tool_limits=draw(st.sampled_from([(), (), (("saw", 1),), (("saw", 2),)])),
        )
        snapshot.agents.put(spec, at, draw(st.sampled_from(["", "", "", "draining"])))
        snapshot.agents.set_load(f"a{at}", AgentLoad(cpu=draw(st.sampled_from([0.0, 0.5, 1.0]))))
        for key in range(draw(st.integers(0, 3))):
            profile = draw(st.sampled_from(PROFILES))
            snapshot.agents.hold(f"a{at}", 1_000 + 10 * at + key, 1, profile, SECONDS[profile.type])
    for key in range(draw(st.integers(0, 25))):
        previous = draw(st.sampled_from(["", "", "a0", "a1", "gone"]))
        profile = draw(st.sampled_from(PROFILES[: draw(st.sampled_from([1, 4, len(PROFILES)]))]))
        snapshot.waiting.add(profile, WaitingTask(draw(st.integers(0, 3)), key, 1, previous))
    return snapshot


class Cluster:
    """What agents hold, in plain numbers, to place tasks one by one."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.agents = snapshot.agents
        self.held = {
            row: list(snapshot.agents.held_attempts[row].values()) for row in snapshot.agents.rows.values()
        }
        self.profiles = {row: [held.profile for held in attempts] for row, attempts in self.held.items()}

    def spec(self, row: int) -> AgentSpec:
        spec = self.agents.specs[row]
        assert spec is not None
        return spec

    def admits(self, row: int, profile: TaskProfile) -> bool:
        spec, held, wanted = self.spec(row), self.profiles[row], profile.requirements
        taken = sum(other.requirements.resources.memory_bytes for other in held)
        memory = wanted.resources.memory_bytes
        sawing = sum(other.requirements.needs.tool == "saw" for other in held)
        return (
            self.agents.refusing[row] == ""
            and ("*" in spec.task_types or profile.type in spec.task_types)
            and all(dict(spec.capabilities).get(name, -1) >= level for name, level in wanted.capabilities)
            and (not memory or taken + memory <= spec.resources.memory_bytes)
            and not (wanted.anti_affinity and any(other.requirements.anti_affinity for other in held))
            and (not wanted.needs.tool or sawing < dict(spec.tool_limits).get("saw", math.inf))
            and len(held) < spec.credit
            and (len(held) < spec.slots or self.may_queue(row, SECONDS[profile.type]))
        )

    def may_queue(self, row: int, seconds: float) -> bool:
        slots = self.spec(row).slots
        one_brief = len(self.profiles[row]) == slots and seconds <= BRIEF_S
        return one_brief or self.seconds(row) + seconds <= BOUND_S * slots

    def seconds(self, row: int) -> float:
        return sum(SECONDS[other.type] for other in self.profiles[row])

    def has_slot(self, row: int) -> bool:
        return len(self.profiles[row]) < self.spec(row).slots

    def cost(self, row: int) -> float:
        return len(self.profiles[row]) / self.spec(row).slots + LOAD_WEIGHT * self.agents.load.item(row)

    def best(self, profile: TaskProfile, previous: str) -> int | None:
        """The row that a task goes to, by looking at every agent."""
        able = [row for row in self.profiles if self.admits(row, profile)]
        able = [row for row in able if self.has_slot(row)] or able
        ranked = sorted(able, key=lambda row: (self.cost(row), row))
        if len(ranked) > 1 and self.agents.rows.get(previous) == ranked[0]:
            return ranked[self.cost(ranked[1]) <= self.cost(ranked[0]) + PREVIOUS_PENALTY]
        return ranked[0] if ranked else None


def ordered(snapshot: Snapshot) -> list[tuple[TaskProfile, WaitingTask]]:
    """All waiting tasks, most urgent first."""
    tasks = [
        (profile, task) for profile, members in snapshot.waiting.classes.items() for task in members.tasks
    ]
    return sorted(
        tasks, key=lambda one: (-one[0].priority, one[0].deadline_ms or 1 << 62, one[1].order_ms, one[1].key)
    )


def greedy(snapshot: Snapshot) -> list[Choice]:
    cluster, choices = Cluster(snapshot), []
    for profile, task in ordered(snapshot):
        row = cluster.best(profile, task.previous)
        if row is not None:
            cluster.profiles[row].append(profile)
            choices.append(
                Choice(task.key, task.attempt, cluster.spec(row).agent_id, cluster.agents.epochs.item(row))
            )
    return choices


def check(snapshot: Snapshot, made: Plan) -> Cluster:
    """Every choice is one that can be carried out in its turn."""
    cluster = Cluster(snapshot)
    for choice in made.choices:
        found = snapshot.waiting.get(choice.key)
        assert found is not None
        row = cluster.agents.rows[choice.agent]
        assert cluster.admits(row, found[0])
        cluster.profiles[row].append(found[0])
    assert len({choice.key for choice in made.choices}) == made.placed
    return cluster


@given(snapshots(), st.sampled_from([1, 2, 3, 128]))
def test_the_plan_is_that_of_a_plain_greedy_search(snapshot: Snapshot, shortlist: int) -> None:
    made = plan(snapshot, PlanLimits(shortlist=shortlist, run=1))
    assert made.choices == greedy(snapshot)
    assert made.considered == made.placed + sum(made.unplaced.values())


@given(snapshots(), st.sampled_from(["least-loaded", "round-robin"]), st.sampled_from([1, 2, 64]))
def test_a_plan_can_be_carried_out_and_leaves_nothing_that_could_be_placed(
    snapshot: Snapshot, policy: str, run: int
) -> None:
    made = plan(snapshot, PlanLimits(run=run, shortlist=2), SIMPLE[policy])
    assert plan(snapshot, PlanLimits(run=run, shortlist=2), SIMPLE[policy]) == made
    cluster = check(snapshot, made)
    placed = {choice.key for choice in made.choices}
    for profile, task in ordered(snapshot):
        if task.key not in placed:
            assert cluster.best(profile, task.previous) is None


@given(snapshots(), st.integers(1, 5))
def test_a_short_round_takes_the_most_urgent_that_can_be_placed(snapshot: Snapshot, most: int) -> None:
    made = plan(snapshot, PlanLimits(max_choices=most))
    ranks = [(profile.priority, profile.deadline_ms) for profile, _ in ordered(snapshot)]
    places = {task.key: at for at, (_, task) in enumerate(ordered(snapshot))}
    chosen = [ranks[places[choice.key]] for choice in made.choices]
    assert made.placed <= most
    assert chosen == sorted(chosen, key=lambda rank: (-rank[0], rank[1] or 1 << 62))


@given(snapshots(), st.sampled_from(PROFILES))
def test_explain_agrees_with_the_plan(snapshot: Snapshot, profile: TaskProfile) -> None:
    found = explain(profile, snapshot)
    snapshot.waiting.discard(range(100))
    snapshot.waiting.add(profile, WaitingTask(0, 1))
    made = plan(snapshot, PlanLimits())
    cluster = Cluster(snapshot)
    assert found.feasible == sum(cluster.admits(row, profile) for row in cluster.profiles)
    assert (made.placed == 1) == (found.feasible > 0)
    assert found.impossible == ("impossible" in made.unplaced)
    if not found.impossible and not found.feasible:
        assert set(made.unplaced) <= {refusal.reason for refusal in found.refusals} | {
            "capacity",
            "free_resources",
            "anti_affinity",
        }
