"""The global layer: which groups agents are in, and in which of them tasks are looked at (E4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.model import AgentSpec, Requirements, TaskProfile
from coordinator.scheduling.agents import regions as regions_module
from coordinator.scheduling.agents.feasibility import could_take, needs_of
from coordinator.scheduling.agents.groups import groups_of
from coordinator.scheduling.agents.regions import ANYWHERE, Region, Regions, united
from coordinator.scheduling.agents.rows import RESOURCE_FIELDS, BoolRow, IntRow
from coordinator.scheduling.costs.weights import BALANCED
from coordinator.scheduling.plans import bulk
from coordinator.scheduling.plans.bulk import Places
from coordinator.scheduling.plans.crowd import Crowd
from coordinator.scheduling.plans.round import Round
from coordinator.scheduling.plans.supply import Free, Kind, Supply
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.summaries import summaries
from tests.scheduling.test_bulk import FEW, MODEL, WELD, crowds
from tests.scheduling.test_planner import NOW_S, made, wait

SKILLED: Final = TaskProfile("t", requirements=Requirements(capabilities=(("skill", 1),)))
IMPOSSIBLE: Final = TaskProfile("t", requirements=Requirements(capabilities=(("nobody", 1),)))

MOST: Final = 10
"""Tasks of a round: of four times as many places it is known which are the cheapest."""

WORK_S: Final = 3.0

specs = st.builds(
    AgentSpec,
    st.sampled_from([f"a{at}" for at in range(8)]),
    st.just("i"),
    st.integers(1, 3),
    st.just(4),
    labels=st.sampled_from([(), (("rack", "r1"),), (("rack", "r2"), ("room", "hall"))]),
    zone=st.sampled_from(["", "north", "south"]),
    groups=st.sampled_from([(), (), ("hall",), ("hall", "night")]),
    capabilities=st.sampled_from([(), (("skill", 1),)]),
)


@pytest.mark.parametrize(
    ("spec", "label", "names"),
    [
        ({}, "", ("",)),
        ({"zone": "north"}, "", ("north",)),
        ({"zone": "north", "groups": ("hall", "night")}, "", ("hall", "night")),
        ({"zone": "north", "labels": (("rack", "r1"),)}, "", ("north",)),
        ({"zone": "north", "labels": (("rack", "r1"),), "groups": ("hall",)}, "rack", ("r1",)),
        ({"zone": "north", "labels": (("rack", "r1"),)}, "room", ("north",)),
    ],
)
def test_an_agent_belongs_to_what_it_names_else_to_its_zone(
    spec: dict[str, object], label: str, names: tuple[str, ...]
) -> None:
    assert groups_of(AgentSpec("a", "i", 1, 1, **spec), label) == names  # type: ignore[arg-type]


@given(st.lists(st.one_of(specs, st.sampled_from(["a1", "a2", "a3", "renew"])), max_size=30), st.booleans())
def test_groups_follow_their_agents(happens: Sequence[AgentSpec | str], by_label: bool) -> None:
    label = "rack" if by_label else ""
    snapshot = Snapshot(group_by=label)
    agents, groups = snapshot.agents, snapshot.groups
    for what in [*happens, "renew"]:
        if isinstance(what, AgentSpec):
            agents.put(what, 1)
        elif what != "renew":
            snapshot.remove_agent(what)
        else:
            groups.renew()
            expected: dict[str, list[int]] = {}
            for row, spec in enumerate(agents.specs):
                for name in () if spec is None else groups_of(spec, label):
                    expected.setdefault(name, []).append(row)
            found = {name: groups.of(number).tolist() for number, name in enumerate(groups.names)}
            assert found == expected
            slots = agents.slots[: agents.size]
            by_group = [slots[groups.of(number)] for number in range(len(groups))]
            assert groups.total(slots).tolist() == [one.sum() for one in by_group]
            assert groups.most(slots).tolist() == [one.max() for one in by_group]
            assert groups.least(slots).tolist() == [one.min() for one in by_group]
            assert groups.any(slots > 2).tolist() == [bool((one > 2).any()) for one in by_group]


@pytest.fixture
def told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups count however few agents there are."""
    monkeypatch.setattr(regions_module, "ALL_ROWS", 0)
    monkeypatch.setattr(regions_module, "AGENTS_PER_GROUP", 1)


def fleet(zones: int, each: int) -> Snapshot:
    """The agents of the last zone alone are skilled; those of the first are the quickest."""
    snapshot = Snapshot()
    for at in range(zones * each):
        zone = at % zones
        skills = (("skill", 1),) if zone == zones - 1 else ()
        spec = AgentSpec(
            f"a{at:03}", "i", 1, 2, zone=f"z{zone}", capabilities=skills, speed=2.0 - zone / zones
        )
        snapshot.agents.put(spec, 1)
    return snapshot


@pytest.mark.usefixtures("told_apart")
@given(st.lists(specs, min_size=1, max_size=12, unique_by=lambda spec: spec.agent_id))
def test_the_region_of_a_task_are_the_groups_where_somebody_could_take_it(
    agents: Sequence[AgentSpec],
) -> None:
    snapshot = Snapshot()
    for spec in agents:
        snapshot.agents.put(spec, 1)
    groups, everywhere = snapshot.groups.renew(), slice(0, snapshot.agents.size)
    wanted = [needs_of(profile) for profile in (SKILLED, IMPOSSIBLE, TaskProfile("t"))]
    for needs, region in zip(wanted, snapshot.regions.of_each(wanted), strict=True):
        able = could_take(needs, snapshot.agents, everywhere)
        rows = set[int]()
        for number in range(len(groups)):
            if able[groups.of(number)].any():
                rows |= set(groups.of(number).tolist())
        found = snapshot.regions.rows(region)
        if region != ANYWHERE:
            assert found is not None
            assert found.tolist() == sorted(rows)
        elif 1 < len(groups) <= snapshot.agents.size:
            assert rows == set(range(snapshot.agents.size))


def test_a_few_agents_or_one_group_are_looked_at_one_and_all() -> None:
    wanted = [needs_of(SKILLED)]
    for zones, each in ((2, 5), (1, 2 * regions_module.ALL_ROWS), (regions_module.ALL_ROWS, 2)):
        assert fleet(zones, each).regions.of_each(wanted) == [ANYWHERE]
    snapshot = fleet(2, regions_module.ALL_ROWS)
    (region,) = snapshot.regions.of_each(wanted)
    rows = snapshot.regions.rows(region)
    assert rows is not None
    assert rows.tolist() == list(range(1, 2 * regions_module.ALL_ROWS, 2))


@pytest.mark.usefixtures("told_apart")
def test_a_region_follows_an_agent_that_learns_what_it_takes() -> None:
    snapshot, wanted = fleet(3, 4), [needs_of(SKILLED)]
    (before,) = snapshot.regions.of_each(wanted)
    spec = snapshot.agents.specs[0]
    assert spec is not None
    snapshot.agents.put(AgentSpec("a000", "i", 1, 2, zone="z0", capabilities=(("skill", 3),)), 1)
    (after,) = snapshot.regions.of_each(wanted)
    rows = snapshot.regions.rows(after)
    assert rows is not None
    assert before != after
    assert rows.tolist() == [0, 2, 3, 5, 6, 8, 9, 11]


def test_regions_are_united() -> None:
    masks = ([True, False, False], [False, True, False], [False, False, True])
    first, second, third = (np.array(mask).tobytes() for mask in masks)
    assert united([first, second]) == np.array([True, True, False]).tobytes()
    assert united([first, second, third]) == united([first, ANYWHERE]) == ANYWHERE


@st.composite
def marketplaces(draw: st.DrawFn) -> tuple[Snapshot, list[Region]]:
    """Agents with places of different worth, and regions of them."""
    snapshot = draw(crowds())
    groups = snapshot.groups.renew()
    masks = st.lists(st.booleans(), min_size=len(groups), max_size=len(groups))
    drawn = draw(st.lists(masks, min_size=1, max_size=3))
    return snapshot, [ANYWHERE if all(mask) else np.array(mask).tobytes() for mask in drawn]


@given(
    marketplaces(),
    st.lists(st.one_of(st.integers(1, 15), st.integers(1, 400)), min_size=2, max_size=6),
    st.integers(1, 9),
)
def test_places_are_seen_by_cost_and_taken_once(
    market: tuple[Snapshot, list[Region]], counts: Sequence[int], taken: int
) -> None:
    snapshot, regions = market
    around = Round(snapshot, BALANCED.weights, NOW_S, {})
    prices, ledger = snapshot.prices.renew(), around.ledger
    supply, kind = Supply(around, BALANCED, prices, MOST, WORK_S), Kind(WELD.family, "", None)
    slots = np.minimum(ledger.slots, ledger.credit) - ledger.held
    price = prices.per_second(BALANCED, kind.family, "", WORK_S)
    step = BALANCED.weights.balance * WORK_S * prices.inverse_speed(kind.family) / ledger.slots
    used = [0] * snapshot.agents.size
    all_rows = range(len(used))
    in_order = True
    for count in counts:
        within = [all_rows if (rows := snapshot.regions.rows(one)) is None else rows for one in regions]
        places = [
            sorted(
                (price[row] * WORK_S + around.base[row] + step[row] * nth, row, nth)
                for row in map(int, rows)
                if ledger.slot_free[row]
                for nth in range(used[row], slots[row])
            )
            for rows in within
        ]
        places_seen = supply.cheapest(kind, dict.fromkeys(regions, count))
        found = places_seen.rows
        assert places_seen.whole == all(len(some) <= count for some in places)
        seen = Counter[int]()
        costs = []
        for row in found.tolist():
            costs.append(price[row] * WORK_S + around.base[row] + step[row] * (used[row] + seen[row]))
            seen[row] += 1
        in_order &= count <= 4 * MOST
        if in_order:
            expected = {place for some in places for place in some[:count]}
            assert costs == pytest.approx(sorted(cost for cost, _, _ in expected))
        else:
            assert len(found) >= min(count, max(map(len, places)))
            assert all(used[row] + times <= slots[row] for row, times in seen.items())
        supply.take(found[:taken])
        for row in found[:taken].tolist():
            used[row] += 1
        assert supply.left().tolist() == [
            bool(ledger.slot_free[row]) and used[row] < slots[row] for row in all_rows
        ]


@given(crowds(), st.data())
def test_summaries_say_what_agents_of_a_group_have_together(snapshot: Snapshot, data: st.DataObject) -> None:
    agents = snapshot.agents
    loads = np.array(data.draw(st.lists(st.floats(0, 1), min_size=agents.size, max_size=agents.size)))
    found = {one.name: one for one in summaries(snapshot, loads, NOW_S)}
    assert list(found) == sorted({spec.zone for spec in agents.specs if spec is not None})
    waits = snapshot.running.waits(NOW_S)
    for name, one in found.items():
        rows = [row for row, spec in enumerate(agents.specs) if spec is not None and spec.zone == name]
        taking = [row for row in rows if agents.accepting[row]]
        places = [min(agents.slots[row], agents.credit[row]) - agents.held[row] for row in taking]
        assert (one.agents, one.accepting) == (len(rows), len(taking))
        assert (one.slots, one.held) == (agents.slots[rows].sum(), agents.held[rows].sum())
        assert one.held_s == pytest.approx(agents.held_s[rows].sum())
        assert one.load == pytest.approx(loads[rows].mean())
        assert one.free_slots == sum(max(0, count) for count in places)
        assert one.wait_s == min(waits[taking].tolist(), default=None)
        assert one.speed == max(agents.speed[taking].tolist(), default=0)
        memory = agents.free[:, RESOURCE_FIELDS.index("memory_bytes")]
        assert one.free.memory_bytes == max([0, *memory[taking].tolist()])


def test_the_least_power_is_that_of_agents_that_say_theirs() -> None:
    snapshot = Snapshot()
    for at, watts in enumerate([0.0, 40.0, 30.0]):
        snapshot.agents.put(AgentSpec(f"a{at}", "i", 1, 1, busy_watts=watts, zone="north"), 1)
    snapshot.agents.put(AgentSpec("other", "i", 1, 1, zone="south"), 1)
    assert [one.busy_watts for one in summaries(snapshot, np.zeros(4), NOW_S)] == [30.0, 0.0]
    assert summaries(Snapshot(), np.zeros(0), NOW_S) == []


@FEW
@given(crowds())
def test_where_all_places_are_seen_the_plan_is_that_without_groups(snapshot: Snapshot) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "_SPARE_PLACES", 1_000)
        plan = made(snapshot, BALANCED)
        patch.setattr(regions_module, "ALL_ROWS", 0)
        patch.setattr(regions_module, "AGENTS_PER_GROUP", 1)
        snapshot.regions = Regions(snapshot.agents, snapshot.groups, snapshot.feasible)
        assert made(snapshot, BALANCED).choices == plan.choices


@pytest.mark.usefixtures("told_apart")
def test_tasks_find_the_dear_zone_that_can_take_them_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    take = Places._take

    def counted(self: Places, crowd: Crowd, places: Free) -> tuple[BoolRow, IntRow]:
        looks.append(len(places.rows))
        return take(self, crowd, places)

    monkeypatch.setattr(Places, "_take", counted)
    snapshot = fleet(6, 150)
    for key in range(1, 81):
        wait(snapshot, key, (SKILLED, MODEL, IMPOSSIBLE)[key % 3])
    plan = made(snapshot, BALANCED)
    agents = {choice.key: choice.agent for choice in plan.choices}
    skilled = [key for key in range(1, 81) if key % 3 == 0]
    assert set(skilled) <= set(agents)
    assert {int(agents[key][1:]) % 6 for key in skilled} == {5}
    assert len(looks) == 1
    assert looks[0] < 6 * 150
