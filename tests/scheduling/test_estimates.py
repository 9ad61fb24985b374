"""What is learned from ends, on synthetic data: speeds and work, the bias of clients, garbage, bounds, rows
that are used again."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.kinds import Kind, kind_of
from coordinator.core.model import AgentSpec, FamilyNeeds, Requirements, TaskFamily, TaskProfile
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.learning import blame, kind_ends
from coordinator.scheduling.learning import estimates as module
from coordinator.scheduling.learning.estimates import Estimates
from coordinator.scheduling.learning.expectation import UNKNOWN_S
from tests.scheduling.clusters import recall

ANY = TaskFamily.UNSPECIFIED
KIND = Kind("t", "", ANY, False)
STATED = Kind("t", "", ANY, True)
NOISE = [0.1 * ((7 * at % 31) / 15 - 1) for at in range(31)]
"""Even over -0.1 to 0.1, in no order."""


def table(**speeds: float) -> AgentTable:
    agents = AgentTable()
    for agent_id, speed in speeds.items():
        agents.put(AgentSpec(agent_id, "i", 1, 10, speed=speed), 1)
    return agents


def teach(
    learner: Estimates,
    seconds: Iterable[float],
    agent: str = "a",
    kind: Kind = KIND,
    dag: int = 1,
    stated_ms: int = 0,
) -> None:
    for one in seconds:
        learner.observe(kind, dag, agent, one, stated_ms)


def settle(learner: Estimates) -> Estimates:
    for _ in range(20):
        learner.renew()
        for kind in list(learner._kinds):
            learner._changed_kinds[kind] = None
        for row in learner._agents.rows.values():
            learner._changed_rows[row] = None
    return learner


# --- what is recovered --------------------------------------------------------------------------------------


@pytest.mark.parametrize("advertised", [{}, {"a": 1.0, "b": 4.0, "c": 0.25}])
def test_true_speeds_and_work_are_found_whatever_agents_say(advertised: dict[str, float]) -> None:
    true = {"a": 1.0, "b": 2.0, "c": 0.5}
    agents = table(**{name: advertised.get(name, 1.0) for name in true})
    learner = Estimates(agents)
    for at, noise in enumerate(NOISE * 4):
        for work, task_type in ((3.0, "t"), (40.0, "u")):
            for name, speed in true.items():
                kind = Kind(task_type, "", ANY, False)
                learner.observe(kind, at % 3, name, work / speed * math.exp(noise))
        learner.renew()
    speeds = dict(zip(agents.rows, learner.speeds(ANY).tolist(), strict=True))
    assert speeds["b"] / speeds["a"] == pytest.approx(2.0, rel=0.05)
    assert speeds["c"] / speeds["a"] == pytest.approx(0.5, rel=0.05)
    for work, task_type in ((3.0, "t"), (40.0, "u")):
        for name, speed in true.items():
            expected = learner.work_s(Kind(task_type, "", ANY, False), 1) / speeds[name]
            assert expected == pytest.approx(work / speed, rel=0.05)


def test_a_dag_that_differs_is_found_out_and_teaches_others_little() -> None:
    learner = Estimates(table(a=1.0))
    for dag in range(10):
        teach(learner, [2.0] * 10, dag=dag)
    teach(learner, [20.0] * 12, dag=99)
    learner.renew()
    assert learner.work_s(KIND, 99) == pytest.approx(20.0, rel=0.5)
    assert learner.work_s(KIND, 1) == pytest.approx(2.0, rel=0.5)
    learner.forget_dag(99)
    teach(learner, [2.0])
    learner.renew()
    assert learner.work_s(KIND, 99) < 5.0


def test_clients_are_believed_until_their_bias_is_known() -> None:
    learner = Estimates(table(a=1.0))
    assert learner.work_s(STATED, 1, 8_000) == pytest.approx(8.0, rel=0.1)
    for at, noise in enumerate(NOISE):
        stated_ms = 1_000 * (1 + at % 5)
        learner.observe(STATED, at % 4, "a", 3 * stated_ms / 1_000 * math.exp(noise), stated_ms)
        learner.renew()
    speed = learner.speeds(ANY).item(0)
    assert learner.work_s(STATED, 77, 10_000) / speed == pytest.approx(30.0, rel=0.2)
    assert learner.work_s(STATED, 1, 100) / speed == pytest.approx(0.3, rel=0.2)
    expected = learner.work(STATED, 1, 100)
    assert expected.seconds == pytest.approx(learner.work_s(STATED, 1, 100))
    assert expected.quantile(0.0) < expected.quantile(1.0)


def test_an_agent_that_is_not_as_fast_as_it_says_is_found_out_in_a_few_ends() -> None:
    agents = table(a=1.0, b=1.0, liar=100.0)
    learner = Estimates(agents)
    teach(learner, [1.0] * 10, "a")
    teach(learner, [1.0] * 10, "b")
    learner.renew()
    for _ in range(5):
        teach(learner, [1.0], "liar")
        learner.renew()
    honest, liar = learner.speeds(ANY)[[0, 2]].tolist()
    assert liar < 2 * honest
    assert learner.work_s(KIND, 1) == pytest.approx(1.0, rel=0.6), "nor does it mislead about the work"


def test_an_agent_may_be_quick_at_one_family_only() -> None:
    agents = table(a=1.0, b=1.0)
    learner = Estimates(agents)
    for family, seconds in ((TaskFamily.MODEL, 1.0), (TaskFamily.IO, 4.0)):
        kind = Kind("t", "", family, False)
        teach(learner, [4.0] * 40, "a", kind)
        teach(learner, [seconds] * 40, "b", kind)
    settle(learner)
    model, io = (learner.speeds(family) for family in (TaskFamily.MODEL, TaskFamily.IO))
    assert model.item(1) / model.item(0) > 2.5
    assert io.item(1) / io.item(0) < 1.6


def test_kinds_are_told_apart_by_type_model_or_tool_and_what_clients_say() -> None:
    def profile(**needs: str) -> TaskProfile:
        return TaskProfile("t", TaskFamily.MODEL, Requirements(needs=FamilyNeeds(**needs)))  # type: ignore[arg-type]

    kinds = {
        kind_of(profile(), 0),
        kind_of(profile(), 5),
        kind_of(profile(model="large"), 0),
        kind_of(profile(tool="saw"), 0),
        kind_of(profile(), -5),
    }
    assert len(kinds) == 5


def test_one_that_was_never_seen_is_like_its_relatives() -> None:
    learner = Estimates(table(a=1.0))
    unknown = Kind("t", "small", ANY, False)
    assert learner.work_s(unknown, 1) == pytest.approx(UNKNOWN_S)
    teach(learner, [5.0] * 20, kind=Kind("t", "large", ANY, False))
    teach(learner, [500.0] * 20, kind=Kind("u", "", ANY, False))
    learner.renew()
    assert learner.work_s(unknown, 1) == pytest.approx(5.0, rel=0.2)
    assert learner.work_s(Kind("t", "small", ANY, True), 1, 300) == pytest.approx(0.3, rel=0.1)
    assert 5.0 < learner.work_s(Kind("new", "", ANY, False), 1) < 500.0
    assert learner.work(unknown, 1).sigma > learner.work(Kind("t", "large", ANY, False), 1).sigma


def test_history_gives_way_for_all_kinds_of_a_dag_with_its_first_ends() -> None:
    learner = Estimates(table(a=1.0))
    kinds = [Kind(name, "", ANY, False) for name in "tuvw"]
    for at, kind in enumerate(kinds):
        recall(learner, kind, 100, math.log(40.0 * (at + 1)), 0.05)
    learner.renew()
    assert learner.work_s(kinds[3], 1) == pytest.approx(160.0, rel=0.1)
    for end, kind in enumerate(kinds[:2]):
        teach(learner, [1.0 * (end + 1)], kind=kind)
        learner.renew()
    assert learner.work_s(kinds[0], 1) == pytest.approx(1.0, rel=0.5), "its own end"
    assert learner.work_s(kinds[3], 1) == pytest.approx(4.0, rel=1.0), "nothing of this kind has ended in it"
    assert learner.work_s(kinds[3], 2) > 80.0, "nor is the other DAG like it"
    assert learner.work(kinds[3], 1).sigma < learner.work(kinds[3], 2).sigma


def test_an_offset_of_one_kind_alone_is_not_that_of_its_dag() -> None:
    learner = Estimates(table(a=1.0))
    kinds = [Kind(f"t{at}", "", ANY, False) for at in range(8)]
    for kind in kinds:
        recall(learner, kind, 100, math.log(10.0), 0.02)
    for kind in kinds[:6]:
        teach(learner, [10.0] * 3, kind=kind)
    teach(learner, [100.0] * 3, kind=kinds[6])
    learner.renew()
    assert learner.work_s(kinds[6], 1) == pytest.approx(100.0, rel=0.35)
    assert learner.work_s(kinds[7], 1) == pytest.approx(10.0, rel=0.8)


def test_clients_are_not_given_up_for_one_end() -> None:
    learner = Estimates(table(a=1.0))
    teach(learner, [2.0], kind=STATED, stated_ms=1_000)
    learner.renew()
    assert learner.work_s(STATED, 1, 1_000) < 1.6


def test_an_agent_may_be_quick_at_one_kind_only() -> None:
    agents = table(a=1.0, b=1.0, c=1.0)
    learner = Estimates(agents)
    kinds = [Kind(name, "", ANY, False) for name in "tuvw"]
    for kind in kinds:
        for name in agents.rows:
            quick = (kind.type, name) == ("t", "b")
            teach(learner, [(2.0 if quick else 8.0) * math.exp(noise) for noise in NOISE], name, kind)
    settle(learner)
    took = {name: 1 / math.exp(learner.log_pace(kinds[0], row)[0]) for name, row in agents.rows.items()}
    assert took["a"] / took["b"] == pytest.approx(4.0, rel=0.2)
    assert took["a"] / took["c"] == pytest.approx(1.0, rel=0.2)
    other = [math.exp(learner.log_pace(kinds[1], row)[0]) for row in range(3)]
    assert max(other) / min(other) < 1.2, "nor is it taken for quick at what it is not"
    row = agents.rows["b"]
    learner.forget_row(row)
    assert learner.log_pace(kinds[0], row)[0] == learner.log_speed(ANY, row)[0]


def test_an_agent_that_is_slow_at_all_it_does_is_as_slow_at_each() -> None:
    agents = table(a=1.0, b=1.0)
    learner = Estimates(agents)
    for name in "tuv":
        teach(learner, [4.0 * math.exp(noise) for noise in NOISE], "a", Kind(name, "", ANY, False))
        teach(learner, [9.0 * math.exp(noise) for noise in NOISE], "b", Kind(name, "", ANY, False))
    settle(learner)
    for name in "tuv":
        paces = [math.exp(learner.log_pace(Kind(name, "", ANY, False), row)[0]) for row in (0, 1)]
        assert paces[0] / paces[1] == pytest.approx(9 / 4, rel=0.1)


# --- what must not harm -------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, -1.0, -1e-300, 1e9, 1e300])
def test_what_is_no_duration_is_passed_over(garbage: float) -> None:
    learner = Estimates(table(a=1.0))
    teach(learner, [2.0] * 20)
    learner.renew()
    before = (learner.work(KIND, 1), learner.speeds(ANY).tolist(), learner.version)
    teach(learner, [garbage] * 50)
    assert not learner.renew()
    assert (learner.work(KIND, 1), learner.speeds(ANY).tolist(), learner.version) == before


@pytest.mark.parametrize("odd", [0.0, 1e-9, 1e8, 9.9e8])
def test_a_single_odd_end_among_many_misleads_little(odd: float) -> None:
    agents = table(a=1.0, b=1.0)
    learner = Estimates(agents)
    teach(learner, [1.0] * 10, "a")
    teach(learner, [1.0] * 10, "b")
    learner.renew()
    teach(learner, [odd], "b", dag=2)
    learner.renew()
    assert 1 / 3 < learner.work_s(KIND, 1) < 3
    assert 1 / 3 < learner.work_s(KIND, 5) < 3
    assert 1 / 3 < learner.speeds(ANY).item(1) / learner.speeds(ANY).item(0) < 3


def test_who_is_not_there_teaches_nothing() -> None:
    learner = Estimates(table(a=1.0))
    teach(learner, [2.0], "gone")
    learner.failed(KIND, "gone")
    assert not learner.renew()


ends = st.tuples(
    st.sampled_from(
        [KIND, STATED, Kind("t", "x", TaskFamily.IO, False), Kind("u", "", TaskFamily.MODEL, True)]
    ),
    st.integers(0, 3),
    st.sampled_from(["a", "b", "c", "d"]),
    st.one_of(st.floats(), st.floats(0, 1e9), st.just(0.0)),
    st.sampled_from([1, 1_000, 1 << 40]),
)


@given(
    st.lists(
        st.one_of(ends, st.sampled_from(["renew", "leave", "grow", "fail", "forget", "recall", "ask"])),
        max_size=60,
    ),
    st.lists(st.sampled_from([1e-3, 1.0, 100.0]), min_size=4, max_size=4),
)
def test_whatever_happens_expectations_and_speeds_are_finite_and_above_0(
    events: list[tuple[Kind, int, str, float, int] | str], speeds: list[float]
) -> None:
    agents = table(**dict(zip("abcd", speeds, strict=True)))
    learner = Estimates(agents)
    grown = 0
    for event in events:
        if isinstance(event, tuple):
            kind, dag, agent, seconds, stated_ms = event
            learner.observe(kind, dag, agent, seconds, stated_ms if kind.stated else 0)
        elif event == "renew":
            learner.renew()
        elif event == "leave" and "d" in agents.rows:
            learner.forget_row(agents.rows["d"])
            agents.remove("d")
        elif event == "grow":
            for _ in range(70):
                grown += 1
                agents.put(AgentSpec(f"g{grown}", "i", 1, 1), 1)
        elif event == "fail":
            learner.failed(KIND, "a")
        elif event == "forget":
            learner.forget_dag(1)
        elif event == "recall":
            recall(learner, KIND, 5, math.log(3.0), 0.1)
        for family in (ANY, TaskFamily.IO):
            found = learner.speeds(family)
            assert len(found) == agents.size
            assert all(math.isfinite(speed) and speed > 0 for speed in found.tolist())
            log_speed, sigma = learner.log_speed(family, 0)
            assert math.isfinite(log_speed)
            assert 0 < sigma < 1
        assert math.isfinite(learner.mean_inverse_speed())
        assert ((learner.failure_shares() >= 0) & (learner.failure_shares() < 1)).all()
        for kind in (KIND, STATED, Kind("v", "", ANY, False)):
            expected = learner.work(kind, 1, 1_000)
            assert math.isfinite(expected.seconds)
            assert expected.seconds > 0
            assert math.isfinite(expected.log_mean)
            assert expected.sigma > 0


def test_what_is_recalled_counts_before_anybody_is_seen_and_gives_way() -> None:
    learner = Estimates(table(a=1.0))
    recall(learner, KIND, 40, math.log(7.0), 0.01)
    learner.renew()
    assert learner.work_s(KIND, 1) == pytest.approx(7.0, rel=0.1)
    teach(learner, [7.0] * 3)
    learner.renew()
    assert learner.work_s(KIND, 1) == pytest.approx(7.0, rel=0.1)
    assert learner.speeds(ANY).item(0) == pytest.approx(1.0, rel=0.1)


# --- bounds -------------------------------------------------------------------------------------------------


def test_kinds_are_bounded_and_the_longest_unseen_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KINDS_KEPT", 3)
    learner = Estimates(table(a=1.0))
    for name in ("a", "b", "c", "a", "d"):
        teach(learner, [50.0], kind=Kind(name, "", ANY, False))
    learner.renew()
    assert [kind.type for kind in learner._kinds] == ["c", "a", "d"]
    recall(learner, Kind("e", "", ANY, False), 1, 0.0, 0.1)
    assert len(learner._kinds) == 3
    learner.renew()
    assert learner.work_s(Kind("c", "", ANY, False), 2) > 0


def test_no_more_is_kept_of_kinds_that_are_only_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no end is told, nothing else would forget them."""
    monkeypatch.setattr(module, "KINDS_KEPT", 3)
    learner = Estimates(table(a=1.0))
    for number in range(50):
        learner.work_s(Kind(f"k{number}", "", ANY, False), number)
        learner.forget_dag(number)
    assert len(learner._of_new) <= 3
    assert len(learner._expected) == 0


def test_a_new_dag_is_taken_for_one_like_all_until_it_has_ends_of_its_own() -> None:
    learner = Estimates(table(a=1.0))
    teach(learner, [1.0] * 20, dag=1)
    learner.renew()
    assert learner.basic(KIND, 2) is learner.basic(KIND, 3)
    teach(learner, [9.0] * 20, dag=2)
    learner.renew()
    assert learner.work_s(KIND, 2) > 2 * learner.work_s(KIND, 3)


def test_what_is_kept_of_dags_goes_with_them() -> None:
    learner = Estimates(table(a=1.0))
    for dag in range(50):
        learner.work(Kind("never", "", ANY, False), dag)
        learner.work_s(KIND, dag)
        teach(learner, [1.0], dag=dag)
        learner.forget_dag(dag)
    assert len(learner._offsets) == 0
    assert len(learner._expected) <= 1


def test_a_renewal_is_bounded_and_the_rest_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEWED_AT_ONCE", 2)
    learner = Estimates(table(a=1.0, b=1.0, c=1.0))
    for name, agent in zip("xyz", "abc", strict=True):
        teach(learner, [30.0] * 30, agent, Kind(name, "", ANY, False))
    assert [learner.renew() for _ in range(3)] == [True, True, False]
    assert learner.work_s(Kind("z", "", ANY, False), 1) > 10


def test_old_ends_lose_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind_ends, "WINDOW_ENDS", 16.0)
    monkeypatch.setattr(blame, "HISTORY_WINDOW", 16)
    learner = Estimates(table(a=1.0))
    teach(learner, [1.0] * 500, dag=1)
    learner.renew()
    for dag in range(2, 200):
        teach(learner, [8.0], dag=dag)
        learner.renew()
    seconds = learner.work_s(KIND, 999) / learner.speeds(ANY).item(0)
    assert seconds == pytest.approx(8.0, rel=0.2)
    for _ in range(500):
        learner.failed(KIND, "a")
    teach(learner, [8.0] * 100)
    learner.renew()
    assert learner.failure_shares().item(0) < 0.1


# --- rows ---------------------------------------------------------------------------------------------------


def test_who_takes_over_a_row_takes_over_nothing_of_what_was_known_of_it() -> None:
    agents = table(a=1.0, slow=1.0)
    learner = Estimates(agents)
    teach(learner, [1.0] * 30, "a")
    teach(learner, [50.0] * 30, "slow")
    for _ in range(9):
        learner.failed(KIND, "slow")
    learner.renew()
    row = agents.rows["slow"]
    assert learner.speeds(ANY).item(row) < 0.2 * learner.speeds(ANY).item(0)
    learner.forget_row(row)
    agents.remove("slow")
    agents.put(AgentSpec("new", "i", 1, 10), 1)
    assert agents.rows["new"] == row
    fresh = Estimates(table(one=1.0))
    assert learner.log_speed(ANY, row) == fresh.log_speed(ANY, 0)
    assert learner.speeds(ANY).item(row) == fresh.speeds(ANY).item(0)
    assert learner.failure_shares().item(row) == 0
    teach(learner, [1.0], "a")
    learner.renew()
    assert learner.log_speed(ANY, row) == fresh.log_speed(ANY, 0)


def test_what_a_kind_has_taught_stays_when_its_agents_leave() -> None:
    agents = table(a=1.0, slow=0.5)
    learner = Estimates(agents)
    teach(learner, [20.0] * 30, "a")
    teach(learner, [40.0] * 30, "slow")
    learner.renew()
    for name in ("a", "slow"):
        learner.forget_row(agents.rows[name])
        agents.remove(name)
    agents.put(AgentSpec("b", "i", 1, 10), 1)
    learner.forget_dag(1)
    learner.renew()
    teach(learner, [0.5], "b", Kind("u", "", ANY, False))
    learner.renew()
    assert learner.work_s(KIND, 2) == pytest.approx(20.0, rel=0.1)
    teach(learner, [26.0], "b")
    learner.renew()
    assert learner.work_s(KIND, 3) == pytest.approx(20.0, rel=0.2)
    assert learner.work(KIND, 1).sigma < 0.4 < learner.work(KIND, 2).sigma, "nothing of DAG 2 has ended"
    assert learner.speeds(ANY).item(agents.rows["b"]) == pytest.approx(1.0, rel=0.4)


def test_clients_stay_corrected_when_agents_leave_or_what_is_recalled_says_so() -> None:
    agents = table(a=1.0)
    learner = Estimates(agents)
    for _ in range(30):
        teach(learner, [30.0], kind=STATED, stated_ms=10_000)
    learner.renew()
    before = learner.work_s(STATED, 2, 10_000)
    learner.forget_row(agents.rows["a"])
    agents.remove("a")
    agents.put(AgentSpec("b", "i", 1, 10), 1)
    teach(learner, [26.0], "b", STATED, stated_ms=10_000)
    learner.renew()
    assert learner.work_s(STATED, 3, 10_000) == pytest.approx(before, rel=0.3)
    other = Estimates(table(a=1.0))
    recall(other, STATED, 200, math.log(3.0), 0.02)
    other.renew()
    assert other.work_s(STATED, 1, 10_000) == pytest.approx(30.0, rel=0.15)


def test_the_table_of_agents_may_grow_at_any_time() -> None:
    agents = table(a=1.0)
    learner = Estimates(agents)
    recall(learner, KIND, 5, math.log(2.0), 0.1)
    teach(learner, [2.0])
    learner.renew()
    for at in range(200):
        agents.put(AgentSpec(f"b{at}", "i", 1, 10), 1)
    recall(learner, Kind("u", "", ANY, False), 5, math.log(2.0), 0.1)
    teach(learner, [2.0], "b199", Kind("u", "", ANY, False))
    teach(learner, [2.0], "b150")
    learner.renew()
    assert len(learner.speeds(ANY)) == 201
    assert learner.work_s(KIND, 1) == pytest.approx(2.0, rel=0.2)
