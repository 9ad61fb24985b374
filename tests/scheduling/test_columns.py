"""The columns of what waits say what its classes do, whatever comes and goes, and what rounds note in them
changes no plan (E1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.kinds import kind_of
from coordinator.core.model import (
    INDEX_BITS,
    AgentLoad,
    AgentSpec,
    FamilyNeeds,
    Priority,
    Requirements,
    Resources,
    TaskFamily,
    TaskProfile,
)
from coordinator.scheduling.agents import capable
from coordinator.scheduling.agents.capable import FeasibilityCache
from coordinator.scheduling.agents.table import AgentTable, resource_vector
from coordinator.scheduling.costs.weights import BALANCED, FAST
from coordinator.scheduling.plans import planner
from coordinator.scheduling.plans.crowd import Crowd, crowd_of
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.plans.turns import Line
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks import waiting as waiting_module
from coordinator.scheduling.tasks.waiting import NOBODY_ELSE, Owner, TaskClass, WaitingTable, WaitingTask
from tests.scheduling.test_planner import made

FEW = settings(max_examples=max(20, settings().max_examples // 3))
OWNERS = [NOBODY_ELSE, Owner("n"), Owner("n", "fast")]


def asks(resources: Resources | None = None, **more: Any) -> Requirements:
    return Requirements(resources or Resources(), **more)


PROFILES = [
    TaskProfile("t"),
    TaskProfile("t", priority=Priority.HIGH),
    TaskProfile("t", deadline_ms=9),
    TaskProfile("u", TaskFamily.MODEL, asks(needs=FamilyNeeds(model="bert"))),
    TaskProfile("u", TaskFamily.MODEL, asks(Resources(100, 7))),
    TaskProfile("u", TaskFamily.COMMUNICATION, asks(needs=FamilyNeeds(max_latency_ms=5))),
    TaskProfile("v", TaskFamily.COMMUNICATION, asks(anti_affinity=("g",))),
    TaskProfile("v", TaskFamily.COMMUNICATION, family_name="drones"),
    TaskProfile("v", TaskFamily.COMMUNICATION, asks(capabilities=(("weld", 2),))),
]


def of_class(members: TaskClass) -> dict[str, object]:
    """What the columns should say, from the class itself."""
    first, profile = members.tasks[0], members.profile
    needs = profile.requirements.needs
    return {
        "count": len(members.tasks),
        "order_ms": first.order_ms,
        "key": first.key,
        "attempt": first.attempt,
        "hint": first.hint,
        "steady_ms": members.steady_ms,
        "level": -int(profile.priority),
        "shares": bool(profile.requirements.anti_affinity or needs.model),
        "fixed": needs.max_latency_ms > 0,
        "demand": resource_vector(profile.requirements.resources).tolist(),
    }


def check(table: WaitingTable) -> None:
    assert len(table.columns) == len(table.by_row) == len(table.classes)
    assert table.owners == {members.owner for members in table.classes.values()}
    waiting = [task for members in table.classes.values() for task in members.tasks]
    assert table.retried == {task.key for task in waiting if task.previous}
    families: dict[int, object] = {}
    kinds: dict[int, object] = {}
    for members in table.classes.values():
        at, profile = members.at, members.profile
        assert table.by_row[at] is members
        assert {name: table.columns[name][at].tolist() for name in of_class(members)} == of_class(members)
        family, kind = table.columns["family"].item(at), table.columns["kind"].item(at)
        named = profile.family_name, profile.family
        assert families.setdefault(family, named) == named
        assert kinds.setdefault(kind, members.traits.kinds) == members.traits.kinds
    assert len(families) == len(set(families.values()))
    assert len(kinds) == len(set(kinds.values()))


ADDED = st.tuples(
    st.sampled_from(PROFILES),
    st.sampled_from(OWNERS),
    st.lists(
        st.builds(
            WaitingTask,
            st.integers(-5, 5),
            st.integers(0, 30),
            st.integers(1, 3),
            st.sampled_from(["", "", "a"]),
            st.sampled_from([0, 700, -65_536]),
            ready_ms=st.integers(0, 9),
        ),
        min_size=1,
        max_size=6,
    ),
)
TAKEN = st.sets(st.integers(0, 30), max_size=20)


@given(st.lists(ADDED | TAKEN, max_size=30), st.sampled_from([0, 4_096]))
def test_columns_are_what_the_classes_say(
    steps: list[tuple[TaskProfile, Owner, list[WaitingTask]] | set[int]], codes_kept: int
) -> None:
    table = WaitingTable()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting_module, "CODES_KEPT", codes_kept)
        for step in steps:
            if isinstance(step, set):
                table.discard(step)
            else:
                profile, owner, tasks = step
                table.add(profile, *tasks, owner=owner)
            check(table)


def test_there_may_be_very_many_classes() -> None:
    table = WaitingTable()
    for at in range(300):
        table.add(TaskProfile(f"t{at}"), WaitingTask(-at, at))
    check(table)
    table.discard(range(0, 300, 2))
    check(table)


def test_what_clients_expect_may_be_more_than_a_column_holds() -> None:
    snapshot = Snapshot()
    for at in range(9):
        snapshot.agents.put(AgentSpec(f"a{at}", "i", 20, 20), 1)
    for key in range(100):
        rank_s = 1e30 if key == 50 else float(key)
        task = WaitingTask.ranked(9_000, 9_000, key, 1, "", 3_000, rank_s)
        snapshot.waiting.add(TaskProfile("t"), task)
    choices = made(snapshot).choices
    assert {choice.key for choice in choices} == set(range(100))
    assert choices[0].key == 50


def test_the_codes_of_what_waits_no_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_module, "CODES_KEPT", 3)
    table = WaitingTable()
    table.add(TaskProfile("stays"), WaitingTask(0, 0))
    for at in range(1, 100):
        table.add(TaskProfile(f"t{at}"), WaitingTask(0, at))
        check(table)
        table.discard([at])
    assert len(table._codes) <= 3 + 2 * 2


@pytest.mark.parametrize("kept", [2, 5, 100])
def test_where_feasibility_is_kept_is_known_after_the_cache_has_forgotten(
    monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(capable, "KINDS_KEPT", kept)
    table, agents, feasible = WaitingTable(), AgentTable(), FeasibilityCache()
    agents.put(AgentSpec("a", "i", 1, 1, task_types=("t0", "t3", "t5")), 1)
    for at in range(8):
        table.add(TaskProfile(f"t{at}"), WaitingTask(0, at))
    chance = np.random.default_rng(1)
    for step in range(60):
        rows = chance.permutation(len(table.columns))[: chance.integers(1, 5)]
        found = feasible.of_each(table.positions(rows, feasible), np.zeros(1, np.intp), agents)
        able = [table.by_row[row].profile.type in ("t0", "t3", "t5") for row in rows.tolist()]
        assert found[:, 0].tolist() == able
        key = step % 8
        profile, task = table.get(key) or (TaskProfile(""), WaitingTask(0, key))
        table.discard([key])
        table.add(profile, task)


# --- crowds -------------------------------------------------------------------------------------------------


def plain(crowd: Crowd) -> list[tuple[TaskProfile, list[int]]]:
    """The keys of each class."""
    keys = crowd.keys.tolist()
    assert len(crowd) == len(keys) == len(crowd.work) == len(crowd.brief) == len(crowd.attempts)
    assert crowd.attempts.tolist() == [key % 5 + 1 for key in keys]
    of = crowd.of.tolist()
    assert of == sorted(of)
    assert set(of) == set(range(len(crowd.rows)))
    assert crowd.counts().tolist() == [of.count(at) for at in range(len(crowd.rows))]
    assert [crowd.members(at) for at in range(len(crowd.rows))] == crowd.classes()
    mine = [
        [key for key, place in zip(keys, of, strict=True) if place == at] for at in range(len(crowd.rows))
    ]
    return [(members.profile, some) for members, some in zip(crowd.classes(), mine, strict=True)]


@given(st.data(), st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=9))
def test_parts_of_a_crowd_have_its_tasks_class_after_class(
    data: st.DataObject, classes: list[tuple[int, int]]
) -> None:
    snapshot, key = Snapshot(), 0
    for at, (waits, left) in enumerate(classes):
        for _ in range(waits + left):
            snapshot.waiting.add(TaskProfile(f"t{at}"), WaitingTask(key, key, key % 5 + 1, hint=key))
            key += 1
    order = np.array(data.draw(st.permutations(range(len(classes)))), np.intp)
    crowd = crowd_of(snapshot, Line(order, np.array([classes[at][0] for at in order.tolist()], np.int64)))
    wanted = [
        (members.profile, [task.key for task in members.tasks[: classes[at][0]]])
        for at, members in ((at, snapshot.waiting.by_row[at]) for at in order.tolist())
    ]
    assert plain(crowd) == wanted
    size = data.draw(st.integers(1, 4))
    blocks = [plain(block) for block in crowd.blocks(size)]
    assert blocks == [wanted[begin : begin + size] for begin in range(0, len(wanted), size)]
    numbers = data.draw(
        st.lists(st.integers(-2, 2), min_size=len(order), max_size=len(order)), label="numbers"
    )
    parts: dict[int, list[tuple[TaskProfile, list[int]]]] = {}
    for number, one in zip(numbers, wanted, strict=True):
        parts.setdefault(number, []).append(one)
    by = [plain(part) for part in crowd.by(np.array(numbers, np.int64))]
    assert by == list(parts.values())
    chosen = set(data.draw(st.sets(st.sampled_from(range(key))))) if key else set()
    some = [(profile, [one for one in keys if one in chosen]) for profile, keys in wanted]
    only = crowd.only(np.array([one in chosen for one in crowd.keys.tolist()], np.bool_))
    assert plain(only) == [(profile, keys) for profile, keys in some if keys]


@pytest.mark.parametrize("hints", [(0, 30, 2_000), (2_000,)])
def test_what_is_expected_of_a_crowd_is_what_is_of_each_task(hints: tuple[int, ...]) -> None:
    snapshot = Snapshot()
    snapshot.agents.put(AgentSpec("a", "i", 1, 1), 1)
    known = TaskProfile("t")
    alike = TaskProfile("t", requirements=asks(Resources(5)))
    others = [alike, TaskProfile("t", TaskFamily.IO), TaskProfile("u")] if 0 in hints else [alike]
    for dag, seconds in ((1, 1.0), (2, 40.0)):
        for _ in range(4):
            snapshot.estimates.observe(kind_of(known, 0), dag, "a", 0.01)
            snapshot.estimates.observe(kind_of(known, 2_000), dag, "a", seconds, 2_000)
    snapshot.estimates.renew()
    key = 0
    for profile in (known, *others):
        for _ in range(12):
            key += 1
            hint, place = hints[key % len(hints)], (key % 2 + 1 << INDEX_BITS) + key
            snapshot.waiting.add(profile, WaitingTask(key % 5, place, 1, hint=hint))
    columns = snapshot.waiting.columns
    crowd = crowd_of(snapshot, Line(np.arange(len(columns)), columns["count"]))
    asked = [snapshot.waiting.get(key) for key in crowd.keys.tolist()]
    tasks = [one for one in asked if one is not None]
    work = [snapshot.work_s(profile, task.key, task.hint) for profile, task in tasks]
    assert crowd.work.tolist() == pytest.approx(work)
    brief = [snapshot.is_brief(profile, task.key, task.hint) for profile, task in tasks]
    assert crowd.brief.tolist() == brief
    assert len(set(work)) == (9 if 0 in hints else 2)
    assert any(seconds < 0.2 and not known for seconds, known in zip(work, brief, strict=True)) is (
        0 in hints
    )
    assert any(brief) is (0 in hints)


# --- what rounds note ---------------------------------------------------------------------------------------

AGENTS = st.builds(
    AgentSpec,
    st.sampled_from([f"a{at}" for at in range(6)]),
    st.just("i"),
    st.integers(1, 5),
    st.integers(1, 9),
    speed=st.sampled_from([0.5, 1.0, 3.0]),
    capabilities=st.sampled_from([(), (("weld", 2),)]),
    resources=st.sampled_from([Resources(), Resources(200, 20)]),
    cached_models=st.sampled_from([(), ("bert",)]),
    model_limits=st.sampled_from([(), (("bert", 1),)]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("agent"), AGENTS),
        st.tuples(st.just("agent"), AGENTS),
        st.tuples(st.just("load"), st.sampled_from([f"a{at}" for at in range(6)]), st.integers(0, 20)),
        st.tuples(
            st.just("wait"),
            st.lists(
                st.tuples(
                    st.sampled_from(PROFILES), st.sampled_from(OWNERS[:2]), st.sampled_from(["", "", "a1"])
                ),
                max_size=12,
            ),
        ),
        st.tuples(st.just("gone"), st.sets(st.integers(0, 40), max_size=9)),
    ),
    min_size=4,
    max_size=16,
)


def do(snapshot: Snapshot, step: tuple[Any, ...], at: int) -> None:
    match step:
        case ("agent", spec):
            snapshot.agents.put(spec, at)
        case ("load", agent_id, latency_ms):
            snapshot.agents.set_load(agent_id, AgentLoad(latency_ms=latency_ms))
        case ("wait", tasks):
            for number, (profile, owner, previous) in enumerate(tasks):
                key = 12 * at + number + (at % 3 << INDEX_BITS)
                task = WaitingTask(7 * key % 11, key, 1, previous, 3_000 + key)
                snapshot.waiting.add(profile, task, owner=owner)
        case ("gone", keys):
            snapshot.waiting.discard(keys)


@FEW
@given(STEPS, st.sampled_from([BALANCED, FAST]), st.sampled_from([(2, 0), (10_000, 4_096)]))
def test_what_earlier_rounds_have_noted_changes_no_plan(
    steps: list[tuple[Any, ...]], policy: Any, kept: tuple[int, int]
) -> None:
    limits, often, once = PlanLimits(), Snapshot(), Snapshot()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "MANY", 2)
        for at, step in enumerate(steps):
            do(once, step, at)
            with patch.context() as small:
                small.setattr(capable, "KINDS_KEPT", kept[0])
                small.setattr(waiting_module, "CODES_KEPT", kept[1])
                do(often, step, at)
                made(often, policy, limits)
        assert made(often, policy, limits) == made(once, policy, limits)
