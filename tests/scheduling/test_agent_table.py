"""The table of agents: rows are reused, what is counted follows from the attempts held, columns and cached
feasibility are what a table made from nothing would have (E2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.model import AgentLoad, AgentSpec, FamilyNeeds, Requirements, Resources, TaskProfile
from coordinator.scheduling.agents import capable, standing
from coordinator.scheduling.agents.capable import FeasibilityCache
from coordinator.scheduling.agents.feasibility import Needs, could_take
from coordinator.scheduling.agents.table import COLUMNS_KEPT, AgentTable

PLAIN = TaskProfile("t")
HEAVY = TaskProfile(
    "t", requirements=Requirements(resources=Resources(memory_bytes=10), anti_affinity=("g",))
)
SAW = TaskProfile("t", requirements=Requirements(needs=FamilyNeeds(tool="saw", model="bert")))
BALANCES = (0.0, 1.5)
USES = [("tool", "saw"), ("model", "bert"), ("tool", "bert")]
NEEDS = [
    Needs("t", Requirements()),
    Needs("u", Requirements(capabilities=(("weld", 2),))),
    Needs("t", Requirements(labels=(("zone", "a"),))),
    Needs("t", Requirements(resources=Resources(memory_bytes=10))),
    Needs("t", Requirements(needs=FamilyNeeds(tool="saw", permissions=("p",)))),
]


def test_rows_of_those_who_left_are_reused_and_arrays_grow(spec_of: Callable[..., AgentSpec]) -> None:
    table = AgentTable()
    for at in range(200):
        table.put(spec_of(f"a{at}", slots=at), epoch=at)
    assert table.groups("g")[table.rows["a7"]] == 0
    table.hold("a7", 1, 1, HEAVY, 2.0)
    table.remove("a7")
    table.remove("a7")
    table.put(spec_of("new", slots=9), epoch=3, refusing="draining")
    row = table.rows["new"]
    assert (row, table.size) == (7, 200)
    assert (table.slots[row], table.epochs[row], table.held[row], table.held_s[row]) == (9, 3, 0, 0.0)
    assert (table.agent_id(7), bool(table.accepting[7]), table.refusing[7]) == ("new", False, "draining")
    assert (table.free[row] == table.total[row]).all()
    assert [table.agent_id(table.rows[f"a{at}"]) for at in (0, 199)] == ["a0", "a199"]
    assert (table.slots[199], table.epochs[199]) == (199, 199)


def test_usage_follows_the_attempts_held(spec_of: Callable[..., AgentSpec]) -> None:
    table = AgentTable()
    table.put(spec_of("a", resources=Resources(memory_bytes=100)), epoch=1)
    for _ in range(2):  # saying it twice changes nothing
        table.hold("a", 1, 1, HEAVY, 0.1)
        table.hold("a", 1, 2, PLAIN, 0.2)
    assert (table.held[0], table.free[0, 1], table.groups("g")[0]) == (2, 90, 1)
    table.put(spec_of("a", resources=Resources(memory_bytes=50)), epoch=2)
    assert (table.held[0], table.free[0, 1]) == (2, 40)
    for _ in range(2):
        table.release("a", 1, 1)
        table.release("a", 1, 2)
    assert (table.held[0], table.held_s[0], table.free[0, 1], table.groups("g")[0]) == (0, 0.0, 50, 0)
    table.hold("nobody", 1, 1, PLAIN, 1.0)
    table.release("nobody", 1, 1)
    table.set_load("nobody", AgentLoad())


def test_a_load_that_is_no_fraction_counts_as_full(spec_of: Callable[..., AgentSpec]) -> None:
    table = AgentTable()
    table.put(spec_of("a"), epoch=1)
    for cpu, expected in ((0.25, 0.25), (float("nan"), 1.0), (float("inf"), 1.0), (-1.0, 0.0), (7.0, 1.0)):
        table.set_load("a", AgentLoad(cpu=cpu, latency_ms=float("nan")))
        assert (table.load[0], table.latency_ms[0]) == (expected, 0.0)


def test_columns_are_bounded(spec_of: Callable[..., AgentSpec]) -> None:
    table = AgentTable()
    table.put(spec_of("a", capabilities=(("c1", 3),)), epoch=1)
    for at in range(COLUMNS_KEPT + 10):
        table.levels(f"c{at}")
    assert len(table._levels) <= COLUMNS_KEPT
    assert table.levels("c1")[0] == 3


SPECS = st.builds(
    AgentSpec,
    agent_id=st.sampled_from([f"a{at}" for at in range(5)]),
    instance_id=st.just("i"),
    slots=st.integers(1, 3),
    credit=st.integers(1, 5),
    task_types=st.sampled_from([("*",), ("t",), ("u", "v")]),
    capabilities=st.sampled_from([(), (("weld", 1),), (("weld", 2),)]),
    resources=st.sampled_from([Resources(), Resources(memory_bytes=10)]),
    labels=st.sampled_from([(), (("zone", "a"),), (("zone", "b"),)]),
    tools=st.sampled_from([(), ("saw",)]),
    permissions=st.sampled_from([(), ("p", "q")]),
    tool_limits=st.sampled_from([(), (("saw", 2),), (("drill", 1), ("saw", 1))]),
    model_limits=st.sampled_from([(), (("bert", 3),)]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), SPECS, st.sampled_from(["", "", "draining"])),
        st.tuples(st.just("remove"), st.integers(0, 4)),
        st.tuples(
            st.just("hold"), st.integers(0, 4), st.integers(1, 6), st.sampled_from([PLAIN, HEAVY, SAW])
        ),
        st.tuples(st.just("release"), st.integers(0, 4), st.integers(1, 6)),
        st.tuples(st.just("ask")),
    ),
    max_size=40,
)


def check_standing(table: AgentTable) -> None:
    """What is kept of how agents stand is what follows from the table."""
    stand, size = table.standing(), table.size
    held, slots, accepting = table.held[:size], table.slots[:size], table.accepting[:size]
    is_open = accepting & (held < table.credit[:size])
    assert stand.full.tolist() == (held >= slots).tolist()
    assert stand.open.tolist() == is_open.tolist()
    assert stand.slot_free.tolist() == (is_open & (held < slots)).tolist()
    assert stand.many_full == (held >= slots).sum()
    assert stand.many_open == is_open.sum()
    assert stand.many_free == (is_open & (held < slots)).sum()
    for balance in BALANCES:
        work_s = np.where(accepting, balance * table.held_s[:size] / slots, np.inf)
        assert stand.work_s(balance).tolist() == work_s.tolist()


def ask(table: AgentTable, cache: FeasibilityCache) -> None:
    """For everything that is kept once it was asked for."""
    check_standing(table)
    table.groups("g")
    for use in USES:
        table.users(use)
        table.limits(use)
    for needs in NEEDS:
        cache.rows(needs, table)


@given(STEPS)
def test_a_maintained_table_is_that_made_from_nothing(steps: list[tuple[Any, ...]]) -> None:
    table, cache = AgentTable(), FeasibilityCache()
    for step in steps:
        match step:
            case ("put", spec, refusing):
                table.put(spec, 1, refusing)
            case ("remove", at):
                table.remove(f"a{at}")
            case ("hold", at, key, profile):
                table.hold(f"a{at}", key, 1, profile, 0.1)
            case ("release", at, key):
                table.release(f"a{at}", key, 1)
            case _:
                ask(table, cache)

    check_standing(table)
    fresh = AgentTable()
    for agent_id, row in table.rows.items():
        spec = table.specs[row]
        assert spec is not None
        fresh.put(spec, epoch=1)
        for (key, attempt), held in table.held_attempts[row].items():
            fresh.hold(agent_id, key, attempt, held.profile, held.seconds)
    mine = np.array([table.rows[agent_id] for agent_id in fresh.rows], np.intp)
    theirs = np.array(list(fresh.rows.values()), np.intp)
    for name in ("slots", "credit", "held", "total", "free", "present"):
        assert (getattr(table, name)[mine] == getattr(fresh, name)[theirs]).all(), name
    assert np.allclose(table.held_s[mine], fresh.held_s[theirs])
    assert (table.groups("g")[mine] == fresh.groups("g")[theirs]).all()
    for use in USES:
        assert (table.users(use)[mine] == fresh.users(use)[theirs]).all()
        assert (table.limits(use)[mine] == fresh.limits(use)[theirs]).all()
    assert table.bounded(tuple(USES)) == fresh.bounded(tuple(USES))
    several = cache.of_each(np.array(cache.positions(NEEDS)), mine, table)
    for at, needs in enumerate(NEEDS):
        cached = cache.rows(needs, table)
        assert (cached[mine] == could_take(needs, fresh, slice(0, fresh.size))[theirs]).all()
        assert cached.sum() == cached[mine].sum()
        assert (several[at] == cached[mine]).all()


def test_how_agents_stand_is_known_after_one_has_changed_and_after_many(
    spec_of: Callable[..., AgentSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "BALANCES_KEPT", 1)
    table = AgentTable()
    for at in range(200):
        table.put(spec_of(f"a{at}", slots=1 + at % 2, credit=2), 1, "draining" if at % 7 == 0 else "")
        if at in (63, 64, 199):
            check_standing(table)
    for at in range(0, 200, 3):
        table.hold(f"a{at}", at, 1, PLAIN, 1.0 + at)
        if at % 2:
            table.hold(f"a{at}", at, 2, PLAIN, 1.0)
    check_standing(table)
    assert table.standing().many_full > 0
    for change in (
        lambda: table.release("a3", 3, 1),
        lambda: table.hold("a3", 3, 3, PLAIN, 2.0),
        lambda: table.put(spec_of("a3", slots=9), 2),
        lambda: table.remove("a3"),
    ):
        change()
        check_standing(table)
    for at in range(0, 200, 5):
        table.remove(f"a{at}")
    check_standing(table)


def test_who_could_take_a_task_is_known_of_a_bounded_number_of_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capable, "KINDS_KEPT", 3)
    table, cache = AgentTable(), FeasibilityCache()
    table.put(AgentSpec("a", "i", 1, 1, task_types=("t0", "t5")), 1)
    for at in range(8):
        rows = cache.rows(Needs(f"t{at}", Requirements()), table)
        kinds = [Needs(f"t{number}", Requirements()) for number in (0, at)]
        positions = np.array(cache.positions(kinds))
        assert cache.of_each(positions, np.zeros(1, np.intp), table).tolist() == [[True], [at in (0, 5)]]
        assert rows.tolist() == [at in (0, 5)]
        assert len(cache._at) <= 3
