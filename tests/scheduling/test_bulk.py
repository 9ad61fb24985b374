"""Rounds of many tasks: the most urgent go, each where it can; resources hold; brief tasks level out (E1,
E2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.commands import Choice
from coordinator.core.model import (
    INDEX_BITS,
    AgentSpec,
    FamilyNeeds,
    Priority,
    Requirements,
    Resources,
    TaskProfile,
)
from coordinator.scheduling.agents.ledger import Ledger
from coordinator.scheduling.agents.lookahead import LookAhead, may_queue
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.costs.weights import BALANCED, FAST, Policy
from coordinator.scheduling.plans import planner
from coordinator.scheduling.plans.bounded import Bounded
from coordinator.scheduling.plans.brief import _fill, place_brief
from coordinator.scheduling.plans.bulk import MANY, _first_come
from coordinator.scheduling.plans.claims import Claims
from coordinator.scheduling.plans.crowd import Crowd, crowd_of
from coordinator.scheduling.plans.lane import Lane
from coordinator.scheduling.plans.planner import plan_by_cost
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.plans.solver import Plan, PlanLimits
from coordinator.scheduling.plans.turns import Line, most_urgent
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.order import STARVATION_S, place_in_line
from coordinator.scheduling.tasks.waiting import WaitingTask
from tests.scheduling.clusters import Cluster
from tests.scheduling.test_planner import LIMITS, NOW_MS, NOW_S, Books, check, left, made, portrait, wait

BRIEF_MS = 4
GREEDY = Policy("greedy", foresight=0)
FEW = settings(max_examples=max(15, settings().max_examples // 4))
MEMORY = TaskProfile("t", requirements=Requirements(resources=Resources(memory_bytes=40)))
WELD = TaskProfile("t", requirements=Requirements(capabilities=(("weld", 2),)))
MODEL = TaskProfile("t", requirements=Requirements(needs=FamilyNeeds(model="bert")))
APART = TaskProfile("t", priority=Priority.URGENT, requirements=Requirements(anti_affinity=("g",)))
BOUNDED = [
    TaskProfile("u", requirements=MODEL.requirements),
    TaskProfile("t", requirements=APART.requirements),
    TaskProfile("u", requirements=Requirements(needs=FamilyNeeds(model="bert"), anti_affinity=("g",))),
]
profiles = st.sampled_from(
    [
        TaskProfile("t"),
        TaskProfile("t", priority=Priority.HIGH),
        TaskProfile("u"),
        MEMORY,
        WELD,
        MODEL,
        *BOUNDED,
    ]
)


@st.composite
def crowds(draw: st.DrawFn, *, lasting: tuple[int, ...] = (3_000, 3_000, 9_000)) -> Snapshot:
    """Slots for many tasks, and as many tasks or more."""
    snapshot = Snapshot()
    for at in range(draw(st.integers(8, 20))):
        spec = AgentSpec(
            f"a{at}",
            "i",
            slots=draw(st.integers(5, 12)),
            credit=draw(st.integers(4, 30)),
            capabilities=draw(st.sampled_from([(), (("weld", 2),)])),
            resources=Resources(memory_bytes=draw(st.sampled_from([0, 100, 400]))),
            speed=draw(st.sampled_from([0.5, 1.0, 3.0])),
            model_limits=draw(st.sampled_from([(), (), (("bert", 4),)])),
            zone=draw(st.sampled_from(["", "north", "south"])),
        )
        snapshot.agents.put(spec, at + 1, draw(st.sampled_from(["", "", "", "draining"])))
        for number in range(draw(st.integers(0, 3))):
            snapshot.hold(f"a{at}", 9_000 + 10 * at + number, 1, MEMORY, 3_000, NOW_S)
    key = 1
    for profile in draw(st.lists(profiles, min_size=1, max_size=4)):
        size = draw(st.sampled_from([1, 30, 70, 120]))
        waited_s = draw(st.sampled_from([0.0, 5.0]))
        for _ in range(size):
            expected_ms = draw(st.sampled_from(lasting))
            wait(snapshot, key, profile, expected_ms=expected_ms, waited_s=waited_s + key % 7)
            key += 1
    return snapshot


@FEW
@given(crowds(), st.sampled_from([FAST, BALANCED, GREEDY]), st.sampled_from([70, 1_000]))
def test_a_plan_of_many_can_be_carried_out_is_repeatable_and_changes_nothing(
    snapshot: Snapshot, policy: Policy, most: int
) -> None:
    before = portrait(snapshot)
    limits = PlanLimits(max_choices=most)
    plan = made(snapshot, policy, limits)
    assert portrait(snapshot) == before
    check(snapshot, plan)
    assert len(plan.choices) <= most
    assert made(snapshot, policy, limits) == plan


@FEW
@given(
    st.one_of(crowds(lasting=(BRIEF_MS,)), crowds(lasting=(BRIEF_MS, 3_000))),
    st.sampled_from([FAST, BALANCED]),
)
def test_brief_tasks_queue_within_the_bound_of_their_agents_and_others_do_not(
    snapshot: Snapshot, policy: Policy
) -> None:
    check(snapshot, made(snapshot, policy))


def carry_out(snapshot: Snapshot, plan: Plan) -> None:
    for choice in plan.choices:
        found = snapshot.waiting.get(choice.key)
        assert found is not None
        profile, task = found
        snapshot.hold(choice.agent, choice.key, choice.attempt, profile, task.hint, NOW_S)
    snapshot.waiting.discard([choice.key for choice in plan.choices])


@given(st.data(), st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 80))
def test_who_comes_first_takes_the_first_places(data: st.DataObject, counts: list[int], places: int) -> None:
    rows = st.lists(st.booleans(), min_size=places, max_size=places)
    can = np.array(data.draw(st.lists(rows, min_size=len(counts), max_size=len(counts))))
    taken: list[int] = []
    found = []
    for row, count in zip(can, counts, strict=True):
        mine = [at for at in range(places) if row[at] and at not in taken][:count]
        taken += mine
        found.append(len(mine))
    nothing = Bounded(Ledger(AgentTable(), LookAhead()), {})
    got, numbers = _first_come(can, np.array(counts), nothing, np.arange(places))
    assert (got.tolist(), numbers.tolist()) == (taken, found)


@FEW
@given(crowds())
def test_round_after_round_nothing_is_left_that_could_run(snapshot: Snapshot) -> None:
    for _ in range(12):
        plan = made(snapshot, GREEDY)
        check(snapshot, plan)
        if not plan.choices:
            break
        carry_out(snapshot, plan)
    assert not plan.choices
    books = Books(snapshot)
    for profile, _ in left(snapshot, plan):
        assert not any(books.has_slot(row) and books.could(row, profile) for row in books.profiles)


@FEW
@given(
    st.lists(
        st.tuples(
            st.sampled_from([Priority.LOW, Priority.HIGH]),
            st.sampled_from("tu"),
            st.integers(0, 5_000),
            st.integers(0, 50),
        ),
        min_size=MANY,
        max_size=200,
    ),
    st.integers(1, 3),
)
def test_the_most_urgent_are_chosen(tasks: list[tuple[Priority, str, int, int]], slots: int) -> None:
    snapshot = Snapshot()
    for at in range(40):
        snapshot.agents.put(AgentSpec(f"a{at}", "i", slots, 99), 1)
    for key, (priority, task_type, waited_s, rank_s) in enumerate(tasks, 1):
        wait(snapshot, key, TaskProfile(task_type, priority=priority), waited_s=waited_s / 10, rank_s=rank_s)
    found = [snapshot.waiting.get(key) for key in range(1, len(tasks) + 1)]
    places = sorted(place_in_line(one[0], one[1], 0.0, NOW_MS) for one in found if one is not None)
    wanted = {place[-1] for place in places[: 40 * slots]}
    assert {choice.key for choice in made(snapshot, GREEDY).choices} == wanted
    waiting = snapshot.waiting
    claims = Claims(snapshot, NOW_S, waiting.owners)
    line = most_urgent(waiting, np.arange(len(waiting.columns)), 50, NOW_MS, claims)
    assert set(crowd_of(snapshot, line).keys.tolist()) == {place[-1] for place in places[:50]}


@pytest.mark.parametrize("equal", [True, False])
def test_of_very_many_classes_the_first_go(equal: bool) -> None:
    snapshot = Snapshot()
    for key in range(300):
        waited_s = 0.0 if equal else 1_000.0 - key // 3
        for task_type in (f"t{key}", f"u{key % 9}"):
            wait(snapshot, 2 * key + (task_type[0] == "u"), TaskProfile(task_type), waited_s=waited_s)
    waiting = snapshot.waiting
    line = most_urgent(waiting, np.arange(309), 50, NOW_MS, Claims(snapshot, NOW_S, waiting.owners))
    assert sorted(crowd_of(snapshot, line).keys.tolist()) == list(range(50))


@pytest.mark.parametrize("why", ["failed", "moved"])
def test_what_cannot_go_by_class_goes_first(crew: Callable[..., Snapshot], why: str) -> None:
    snapshot = crew(**{f"a{at}": {"slots": 10, "speed": 1.1 if at == 0 else 1.0} for at in range(10)})
    dag = 7 << INDEX_BITS
    for key in range(80):
        wait(snapshot, key, expected_ms=3_000, waited_s=9.0)
    for key in (dag, dag + 1):
        wait(snapshot, key, expected_ms=3_000, previous="a0" if why == "failed" else "")
    if why == "moved":
        snapshot.graphs.moved.add(7)
    choices = made(snapshot, FAST).choices
    assert [choice.key for choice in choices[:2]] == [dag, dag + 1]
    assert all((choice.agent == "a0") == (why == "moved") for choice in choices[:2])
    assert len(choices) == 82


def test_brief_tasks_are_many_although_slots_are_few(
    crew: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = []

    def counted(around: Round, lane: Lane, crowd: Crowd) -> list[Choice]:
        choices = place_brief(around, lane, crowd)
        placed.append(len(choices))
        return choices

    monkeypatch.setattr(planner, "place_brief", counted)
    snapshot = crew(**{f"a{at}": {"slots": 2, "credit": 99} for at in range(9)})
    for key in range(600):
        wait(snapshot, key, TaskProfile(f"t{key}"), expected_ms=9_000)
    for key in range(600, 700):
        wait(snapshot, key, TaskProfile("u"), expected_ms=BRIEF_MS, waited_s=9.0)
    made(snapshot, FAST)
    assert placed == [81]


def test_who_has_waited_for_an_hour_goes_among_many_with_the_next_higher_priority(
    crew: Callable[..., Snapshot],
) -> None:
    snapshot = crew(**{f"a{at}": {"slots": 10} for at in range(10)})
    low = TaskProfile("t", priority=Priority.LOW)
    for key in range(1, 201):
        wait(snapshot, key, TaskProfile("t", priority=Priority.MEDIUM), expected_ms=3_000)
    wait(snapshot, 999, low, expected_ms=3_000, waited_s=STARVATION_S - 60)
    assert 999 not in {choice.key for choice in made(snapshot, GREEDY).choices}
    wait(snapshot, 1_000, low, expected_ms=3_000, waited_s=STARVATION_S + 1)
    assert 1_000 in {choice.key for choice in made(snapshot, GREEDY).choices}


def test_memory_is_not_overdrawn_where_slots_abound(crew: Callable[..., Snapshot]) -> None:
    snapshot = crew(**{f"a{at}": {"slots": 10, "resources": Resources(memory_bytes=100)} for at in range(10)})
    for key in range(1, 101):
        wait(snapshot, key, MEMORY, expected_ms=3_000)
    plan = made(snapshot, GREEDY)
    check(snapshot, plan)
    carry_out(snapshot, plan)
    while made(snapshot, GREEDY).choices:
        carry_out(snapshot, made(snapshot, GREEDY))
    assert snapshot.agents.held[:10].tolist() == [2] * 10
    assert (snapshot.agents.free[:10, 1] == 20).all()


@pytest.mark.parametrize("speeds", [(1.0, 1.0, 1.0, 1.0), (1.0, 2.0, 4.0, 0.5)])
def test_brief_tasks_level_out(crew: Callable[..., Snapshot], speeds: tuple[float, ...]) -> None:
    snapshot = crew(**{f"a{at}": {"slots": 4, "speed": speed} for at, speed in enumerate(speeds)})
    for key in range(1, 51):
        wait(snapshot, key, expected_ms=1)
    snapshot.waiting.discard([0])
    for key in range(51, 81):
        wait(snapshot, key, expected_ms=1)
    plan = made(snapshot, FAST)
    check(snapshot, plan)
    carry_out(snapshot, plan)
    assert len(plan.choices) == 80
    ends = snapshot.agents.held_s[:4] / 4
    counts = Counter(choice.agent for choice in plan.choices)
    assert max(counts.values()) <= 80
    longest = 0.0011 / min(speeds)
    assert float(ends.max() - ends.min()) <= 2 * longest


@given(
    st.lists(st.tuples(st.floats(0, 9), st.floats(0.01, 3), st.integers(0, 9)), min_size=1, max_size=9),
    st.integers(1, 60),
)
def test_filling_goes_one_by_one_to_where_it_costs_least(
    agents: list[tuple[float, float, int]], tasks: int
) -> None:
    first, step = (np.array([agent[at] for agent in agents]) for at in (0, 1))
    room = np.array([agent[2] for agent in agents], np.int64)
    counts = _fill(first, step, room, tasks)
    assert (counts <= room).all()
    assert int(counts.sum()) == min(tasks, int(room.sum()))
    costs = sorted(
        float(first[at] + number * step[at]) for at in range(len(agents)) for number in range(room[at])
    )
    mine = [float(first[at] + number * step[at]) for at in range(len(agents)) for number in range(counts[at])]
    assert sorted(mine) == pytest.approx(costs[: len(mine)], abs=1e-4)


@pytest.mark.parametrize("hours", [1, 48, 24 * 365])
def test_filling_finds_small_steps_beside_great_differences(hours: int) -> None:
    """One agent is free, and eight have tasks that last for hours."""
    first = np.array([0.0] + [hours * 3_600.0] * 8)
    step, room = np.full(9, 2.5e-4), np.array([100] + [1] * 8)
    assert _fill(first, step, room, 70).tolist() == [70] + [0] * 8


@st.composite
def queues(draw: st.DrawFn) -> Snapshot:
    """More agents than are looked at first, of which most have little room, and brief tasks."""
    snapshot = Snapshot()
    for at in range(draw(st.integers(1, 50))):
        spec = AgentSpec(
            f"a{at}",
            "i",
            slots=draw(st.integers(1, 3)),
            credit=draw(st.integers(1, 9)),
            speed=draw(st.sampled_from([0.5, 1.0, 1.0, 3.0])),
            capabilities=draw(st.sampled_from([(), (("weld", 2),)])),
            resources=Resources(memory_bytes=draw(st.sampled_from([40, 90, 400]))),
        )
        snapshot.agents.put(spec, 1, draw(st.sampled_from(["", "", "", "draining"])))
        for number in range(draw(st.integers(0, 4))):
            held, expected_ms = draw(st.sampled_from([(TaskProfile("t"), BRIEF_MS), (MEMORY, 1)]))
            snapshot.hold(f"a{at}", 9_000 + 10 * at + number, 1, held, expected_ms, NOW_S)
    profile = draw(st.sampled_from([TaskProfile("t"), MEMORY, WELD]))
    for key in range(draw(st.sampled_from([1, 2, 7, 40, 200]))):
        wait(snapshot, key, profile, expected_ms=BRIEF_MS)
    return snapshot


def brief_class(snapshot: Snapshot, policy: Policy) -> tuple[Round, Lane, Crowd]:
    """A round for the only class that waits."""
    (members,) = snapshot.waiting.classes.values()
    around = Round(snapshot, policy.weights, NOW_S, {})
    lane = Lane(members.profile, policy, around, snapshot.prices.renew(), LIMITS.shortlist)
    line = Line(np.array([members.at]), np.array([len(members.tasks)]))
    return around, lane, crowd_of(snapshot, line)


@FEW
@given(queues(), st.sampled_from([FAST, BALANCED]))
def test_brief_tasks_go_one_by_one_to_where_they_cost_least(snapshot: Snapshot, policy: Policy) -> None:
    around, lane, crowd = brief_class(snapshot, policy)
    work_s, books = crowd.work.item(0), Books(snapshot)
    costs = lane.queue_costs(work_s).tolist()
    places: list[tuple[float, int]] = []
    for row in books.profiles:
        seconds, slots = work_s * lane.inverse_speed.item(row), snapshot.agents.slots.item(row)
        for number in range(len(crowd)):
            room = books.has_slot(row) or may_queue(
                len(books.profiles[row]), slots, books.seconds[row], seconds, snapshot.look_ahead
            )
            if not (room and books.could(row, lane.profile)):
                break
            places.append((costs[row] + number * (seconds / slots), row))
            books.profiles[row].append(lane.profile)
            books.seconds[row] += seconds
    expected = [snapshot.agents.ids[row] for _, row in sorted(places)[: len(crowd)]]
    assert [choice.agent for choice in place_brief(around, lane, crowd)] == expected


def test_of_equal_agents_brief_tasks_go_to_the_first(crew: Callable[..., Snapshot]) -> None:
    snapshot = crew(**{f"a{at}": {} for at in range(300)})
    for key in range(5):
        wait(snapshot, key, expected_ms=BRIEF_MS)
    choices = place_brief(*brief_class(snapshot, FAST))
    assert [choice.agent for choice in choices] == [f"a{at}" for at in range(5)]


def test_brief_tasks_find_the_few_agents_that_have_room(crew: Callable[..., Snapshot]) -> None:
    roomy = {"resources": Resources(memory_bytes=80), "slots": 2}
    full = {"resources": Resources(memory_bytes=40), "slots": 2, "speed": 9.0}
    snapshot = crew(**{f"full{at}": full for at in range(300)}, a=roomy, b=roomy)
    for at in range(300):
        snapshot.hold(f"full{at}", 9_000 + at, 1, MEMORY, 1, NOW_S)
    for key in range(MANY):
        wait(snapshot, key, MEMORY, expected_ms=BRIEF_MS)
    assert [choice.agent for choice in place_brief(*brief_class(snapshot, FAST))] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("expected_ms", [3_000, BRIEF_MS])
def test_what_has_to_be_placed_one_by_one_is_not_left_behind(
    crew: Callable[..., Snapshot], expected_ms: int
) -> None:
    snapshot = crew(**{f"a{at}": {"slots": 4} for at in range(25)})
    for key in range(1, 4):
        wait(snapshot, key, APART)
    for key in range(4, 400):
        wait(snapshot, key, TaskProfile("t", priority=Priority.LOW), expected_ms=expected_ms)
    plan = made(snapshot, FAST)
    check(snapshot, plan)
    assert {1, 2, 3} <= {choice.key for choice in plan.choices}


@pytest.mark.parametrize("expected_ms", [3_000, BRIEF_MS])
def test_classes_whose_tasks_agents_bound_go_in_one_round_as_far_as_they_can(
    crew: Callable[..., Snapshot], expected_ms: int
) -> None:
    """Two classes share a model, one has to keep apart, and what nothing bounds goes last."""
    snapshot = crew(**{f"a{at}": {"slots": 8, "model_limits": (("bert", 3),)} for at in range(50)})
    plain = TaskProfile("t", priority=Priority.LOW)
    for key, profile in enumerate([*[MODEL] * 100, *[BOUNDED[0]] * 100, *[APART] * 80, *[plain] * 300], 1):
        wait(snapshot, key, profile, expected_ms=expected_ms)
    placed = []
    for _ in range(2):
        plan = made(snapshot, FAST)
        check(snapshot, plan)
        found = [snapshot.waiting.get(choice.key) for choice in plan.choices]
        placed.append(Counter(one[0].requirements for one in found if one is not None))
        carry_out(snapshot, plan)
    first, then = placed
    assert (first[MODEL.requirements], first[APART.requirements]) == (150, 50)
    assert set(then) <= {plain.requirements}
    assert first[plain.requirements] + then[plain.requirements] >= 200
    assert (plan.unplaced["model_limit"], plan.unplaced["anti_affinity"]) == (50, 30)


def test_spare_attempts_give_way_to_many_within_credit() -> None:
    cluster = Cluster()
    for at in range(10):
        cluster.join(f"a{at}", slots=1, credit=2)
        cluster.join(f"b{at}", slots=1, credit=2)
    cluster.submit({f"x{at}": [] for at in range(10)}, expected_ms={f"x{at}": 100_000 for at in range(10)})
    for at in range(10):
        cluster.begin(f"a{at}", f"x{at}")
        cluster.give(f"b{at}", f"x{at}", rival=True)
    names = [f"y{at}" for at in range(80)]
    cluster.submit({name: [] for name in names}, dag_id="brief", expected_ms=dict.fromkeys(names, BRIEF_MS))
    plan = plan_by_cost(cluster.snapshot, LIMITS, FAST, cluster.now_s)
    held = Counter(choice.agent for choice in plan.choices)
    assert held
    for agent, count in held.items():
        assert count + len(cluster.state.agents[agent].held) <= 2
    shared = {(task.key, 2) for task in (cluster.task(f"x{at}") for at in range(10))}
    assert set(plan.withdrawn) <= shared


def test_a_round_is_one_of_many_only_where_there_are_places(crew: Callable[..., Snapshot]) -> None:
    snapshot = crew(a={"slots": 2})
    for key in range(1, 200):
        snapshot.waiting.add(TaskProfile("t"), WaitingTask(0, key))
    assert len(made(snapshot, GREEDY).choices) == 2
