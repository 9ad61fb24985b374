"""Slots that are kept for a namespace (E9): no plan gives others the last of them, short work fills the time
before, and whoever waits because of it is told so."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import commands as c
from coordinator.core.kinds import kind_of
from coordinator.core.model import Priority, Requirements, Resources, TaskFamily, TaskProfile
from coordinator.core.outcome import Done
from coordinator.core.reservations import ReservationRecord, kept_of, room_of
from coordinator.scheduling.agents.reserved import RESERVED
from coordinator.scheduling.costs.policies import policy
from coordinator.scheduling.explain import explain
from coordinator.scheduling.plans.assignments import Witness
from coordinator.scheduling.plans.bulk import MANY
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.scheduler import Decision, Scheduler
from tests.scheduling.clusters import START_MS, Cluster, recall

POLICIES: Final = ("balanced", "least-loaded", "round-robin", "power-of-two")
LONG: Final = 1 << 40
MANY_TASKS: Final = settings(max_examples=max(20, settings().max_examples // 3))


class Keeping(Cluster):
    """Agents whose slots are kept, and work of several namespaces."""

    def __init__(self, name: str = "balanced") -> None:
        super().__init__()
        self.scheduler = Scheduler(self.snapshot, policy(name), PlanLimits())

    def reserve(self, name: str = "sale", namespace: str = "shop", **fields: Any) -> None:
        self.apply(c.SetReservation("", ReservationRecord(name, namespace, **fields)))

    def want(self, namespace: str, tasks: int, lasts_ms: int = 10_000, **fields: Any) -> None:
        """A DAG of the namespace's name, whose tasks say what they take, and take that."""
        fields = {"timeout_ms": LONG} | fields
        names = [f"t{at}" for at in range(tasks)]
        self.submit(
            dict.fromkeys(names, ()),
            TaskProfile(fields.pop("type", "t"), **fields),
            dag_id=namespace,
            namespace=namespace,
            expected_ms=dict.fromkeys(names, lasts_ms),
        )

    def trust(self, kind: str = "t") -> None:
        """What clients say of such tasks is right."""
        for stated in (0, 1_000):
            known = kind_of(TaskProfile(kind), stated)
            recall(self.snapshot.estimates, known, 300, math.log(1.0), 0.0)

    def decide(self, witness: Witness | None = None) -> Decision:
        """The next decision, carried out."""
        decision = self.scheduler.decide(self.now_s, witness)
        outcome = self.apply(*decision.before, c.Assign(decision.choices))
        done = outcome.replies[-1]
        assert isinstance(done, Done)
        assert done.count == len(decision.choices), "proposed what the machine does not do"
        return decision

    def settle(self) -> Decision:
        """Until there is nothing more to give out; returns the last decision."""
        while (decision := self.decide()).choices:
            continue
        return decision

    def held(self) -> Counter[str]:
        """Live attempts by namespace."""
        return Counter({name: usage.attempts for name, usage in self.state.namespaces.usage.items()})

    def end_one(self, namespace: str) -> None:
        """One of its attempts completes."""
        dag = self.state.dag(namespace)
        assert dag is not None
        task = next(task for task in dag.tasks if task.live)
        self.report(task.live[0].agent, task)


@pytest.mark.parametrize("name", POLICIES)
def test_slots_are_there_for_their_namespace_at_once(name: str) -> None:
    """Others wait beside free slots; what comes takes them, and gives nothing back that is kept."""
    cluster = Keeping(name)
    cluster.reserve(slots=2)
    cluster.join("a", slots=4)
    cluster.join("b", slots=4)
    cluster.want("lab", 20)
    assert cluster.settle().plan.unplaced == {RESERVED: 16}
    assert cluster.held() == {"lab": 4}
    cluster.want("shop", 6)
    cluster.settle()
    assert cluster.held() == {"lab": 4, "shop": 4}
    cluster.end_one("shop")
    cluster.settle()
    assert cluster.held() == {"lab": 4, "shop": 4}
    for _ in range(3):
        cluster.end_one("shop")
    cluster.settle()
    assert cluster.held() == {"lab": 4, "shop": 2}
    cluster.end_one("lab")
    cluster.settle()
    assert cluster.held() == {"lab": 4, "shop": 2}


def test_its_own_work_goes_where_it_costs_least() -> None:
    """Not to a slower agent because slots are kept for it there: these are left for when the others are
    taken."""
    cluster = Keeping()
    cluster.join("quick", slots=2, speed=2.0)
    cluster.join("slow", slots=2)
    cluster.reserve(agents=("slow",))
    cluster.want("shop", 1)
    cluster.settle()
    assert [one.live[0].agent for one in cluster.state.dag("shop").tasks] == ["quick"]
    cluster.want("lab", 5)
    cluster.settle()
    cluster.submit({"u": [], "v": []}, dag_id="more", namespace="shop")
    cluster.settle()
    assert [one.live[0].agent for one in cluster.state.dag("more").tasks] == ["slow", "slow"]


@pytest.mark.parametrize("name", POLICIES)
def test_all_goes_on_when_a_reservation_is_over_or_removed(name: str) -> None:
    """Nothing else has to happen than that somebody looks again; they are told when."""
    cluster = Keeping(name)
    cluster.reserve(agents=("a",), end_ms=START_MS + 5_000)
    cluster.reserve("other", "audit", agents=("b",))
    cluster.join("a", slots=3)
    cluster.join("b", slots=3)
    cluster.want("lab", 20)
    cluster.settle()
    assert cluster.held() == {"lab": 0}
    assert cluster.snapshot.reserved.next_change_s(cluster.now_s) == START_MS / 1_000 + 5.0
    cluster.now_ms += 4_999
    cluster.settle()
    assert cluster.held() == {"lab": 0}
    cluster.now_ms += 1
    cluster.settle()
    assert cluster.held() == {"lab": 3}
    assert cluster.snapshot.reserved.next_change_s(cluster.now_s) is None
    cluster.apply(c.RemoveReservation("", "other"))
    cluster.settle()
    assert cluster.held() == {"lab": 6}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize(("lasts_ms", "begin"), [(20_000, 0), (4_000, 4)])
def test_before_it_begins_what_ends_in_time_has_its_slots(name: str, lasts_ms: int, begin: int) -> None:
    """What should last too long has the others alone."""
    cluster = Keeping(name)
    cluster.trust()
    cluster.reserve(slots=4, begin_ms=START_MS + 10_000)
    cluster.join("a", slots=4)
    cluster.want("lab", 9, lasts_ms)
    cluster.settle()
    assert cluster.held() == {"lab": begin}
    cluster.now_ms += 10_000
    cluster.settle()
    assert cluster.held() == {"lab": begin}


def test_of_what_is_not_known_the_timeout_says_how_long_it_may_take() -> None:
    """As the time limit of a batch system does."""
    cluster = Keeping()
    cluster.reserve(slots=2, begin_ms=START_MS + 10_000)
    cluster.join("a", slots=2)
    cluster.want("long", 2, 0, timeout_ms=10_001)
    cluster.want("short", 2, 0, timeout_ms=10_000)
    cluster.settle()
    assert cluster.held() == {"long": 0, "short": 2}


def test_a_task_behind_one_that_lasts_too_long_may_end_in_time() -> None:
    """Also one of the same class."""
    cluster = Keeping()
    cluster.trust()
    cluster.reserve(slots=2, begin_ms=START_MS + 10_000)
    cluster.join("a", slots=2)
    names = {"t0": 60_000, "t1": 50_000, "t2": 5_000, "t3": 40_000}
    profile = TaskProfile("t", timeout_ms=LONG)
    cluster.submit(dict.fromkeys(names, ()), profile, expected_ms=names)
    decision = cluster.settle()
    assert [task.id for task in cluster.state.dags[1].tasks if task.live] == ["t2"]
    assert decision.plan.unplaced == {RESERVED: 3}


@pytest.mark.parametrize("lasts_ms", [10_000, 4])
def test_rounds_of_many_leave_the_last_slots(lasts_ms: int) -> None:
    """Blocks of classes, and brief tasks, which would queue elsewhere."""
    cluster = Keeping()
    cluster.trust()
    cluster.reserve(slots=3, zone="eu")
    for at in range(10):
        cluster.join(f"a{at}", slots=12, zone="eu" if at % 2 else "us")
    cluster.want("lab", 40 * MANY, lasts_ms)
    cluster.want("audit", 3 * MANY, lasts_ms, type="u")
    cluster.settle()
    for at in range(1, 10, 2):
        assert len(cluster.state.agents[f"a{at}"].held) == 9
        assert len(cluster.state.agents[f"a{at - 1}"].held) >= 12
    cluster.want("shop", 2 * MANY, lasts_ms)
    cluster.settle()
    assert all(len(cluster.state.agents[f"a{at}"].held) >= 12 for at in range(10))
    assert cluster.held()["shop"] >= 15


@pytest.mark.parametrize("name", POLICIES)
def test_a_slot_stands_for_its_part_of_the_resources(name: str) -> None:
    """Others leave that too, as long as the slot is not in use; its namespace may have it for one task."""
    cluster = Keeping(name)
    cluster.reserve(slots=1)
    cluster.join("a", slots=4, resources=Resources(milli_cores=8_000, memory_bytes=100))
    half = Requirements(Resources(milli_cores=4_000))
    cluster.want("lab", 2, requirements=half)
    assert cluster.settle().plan.unplaced == {RESERVED: 1}
    cluster.want("audit", 2, requirements=Requirements(Resources(milli_cores=2_000)))
    cluster.settle()
    assert cluster.held() == {"lab": 1, "audit": 1}
    cluster.want("shop", 1, requirements=Requirements(Resources(milli_cores=2_000)))
    cluster.settle()
    assert cluster.held() == {"lab": 1, "audit": 1, "shop": 1}
    cluster.end_one("audit")
    cluster.settle()
    assert cluster.held() == {"lab": 1, "audit": 1, "shop": 1}


def test_an_urgent_task_gets_no_resources_that_are_kept() -> None:
    """Enough is ended for it to begin beside them."""
    cluster = Keeping()
    cluster.reserve(slots=1)
    cluster.join("a", slots=4, resources=Resources(milli_cores=8_000))
    cluster.want("lab", 2, 3_600_000, preemptible=True, requirements=Requirements(Resources(3_000)))
    cluster.begin("a", "t0", "t1", dag_id="lab")
    cluster.want("news", 1, priority=Priority.URGENT, requirements=Requirements(Resources(2_000)))
    cluster.now_ms += 10_000
    decision = cluster.decide()
    assert [len(one.attempts) for one in decision.before if isinstance(one, c.Preempt)] == [1]
    assert cluster.held() == {"lab": 1, "news": 0}


def test_nothing_is_begun_twice_or_moved_to_where_slots_are_kept() -> None:
    """An agent that is idle for others is not idle for these."""
    for kept in (False, True):
        cluster = Keeping("fast")
        cluster.join("slow", slots=2)
        cluster.want("lab", 1, family=TaskFamily.MODEL)
        cluster.begin("slow", "t0", dag_id="lab")
        cluster.join("quick", speed=10.0)
        if kept:
            cluster.reserve(agents=("quick",))
        cluster.now_ms += 5_000
        rivals = [one.agent for one in cluster.decide().choices]
        assert rivals == ([] if kept else ["quick"])
    for kept in (False, True):
        cluster = Keeping()
        cluster.join("a")
        cluster.want("lab", 3, 100)
        cluster.give("a", "t0", "t1", "t2", dag_id="lab")
        cluster.begin("a", "t0", dag_id="lab")
        cluster.join("b")
        if kept:
            cluster.reserve(agents=("b",))
        cluster.now_ms += 10_000
        cluster.trust()
        moved = [one for one in cluster.decide().before if isinstance(one, c.Recall)]
        assert bool(moved) is not kept


class TestMakingRoom:
    """What is preemptible gives way to whom a slot is kept for, as it does to what is urgent."""

    @staticmethod
    def busy(**fields: Any) -> Keeping:
        """An agent whose slots others had before they were kept for the shop."""
        cluster = Keeping()
        cluster.join("a", slots=4)
        cluster.want("lab", 4, 3_600_000, **fields)
        cluster.begin("a", "t0", "t1", "t2", "t3", dag_id="lab")
        cluster.now_ms += 1_000
        cluster.reserve(slots=2)
        return cluster

    @staticmethod
    def ended(cluster: Keeping) -> list[str]:
        decision = cluster.decide()
        before = [one for one in decision.before if isinstance(one, c.Preempt)]
        return [one.reason for one in before for _ in one.attempts]

    def test_no_more_is_ended_than_is_kept(self) -> None:
        cluster = self.busy(preemptible=True)
        assert self.ended(cluster) == []
        cluster.want("shop", 5)
        cluster.now_ms += 3_000
        reasons = []
        for _ in range(9):
            reasons += self.ended(cluster)
            cluster.now_ms += 500
        assert reasons == [
            f"to make room for the task shop/t{at}, for which the slot is kept" for at in range(2)
        ]
        for key, number in list(cluster.state.agents["a"].record.stopping):
            gone = c.AttemptReport(key, number, c.ReportKind.ENDED, outcome=c.AttemptOutcome.CANCELLED)
            cluster.apply(c.Report("a", cluster.epoch("a"), [gone]))
        assert self.ended(cluster) == []
        assert cluster.held() == {"lab": 2, "shop": 2}
        cluster.now_ms += 60_000
        assert self.ended(cluster) == []

    def test_what_may_not_be_ended_goes_on(self) -> None:
        cluster = self.busy()
        cluster.want("shop", 5)
        cluster.now_ms += 3_000
        assert self.ended(cluster) == []

    def test_an_urgent_task_of_others_ends_nobody_for_a_slot_that_it_could_not_have(self) -> None:
        """Three would have to go before it had one; of these two have what is kept for them."""
        cluster = self.busy(preemptible=True)
        cluster.want("news", 1, priority=Priority.URGENT)
        cluster.now_ms += 1_000
        assert self.ended(cluster) == ["to make room for the urgent task news/t0"] * 3

    def test_nobody_ends_what_has_its_own_slot(self) -> None:
        cluster = Keeping()
        cluster.join("a", slots=2)
        cluster.reserve()
        cluster.apply(c.SetReservation("", ReservationRecord("sale", "shop", 2)))
        cluster.want("shop", 2, 3_600_000, preemptible=True)
        cluster.settle()
        cluster.want("news", 1, priority=Priority.URGENT)
        cluster.now_ms += 60_000
        assert self.ended(cluster) == []


@st.composite
def worlds(draw: st.DrawFn) -> Keeping:
    """Agents, reservations of several namespaces, and what they hold."""
    cluster = Keeping(draw(st.sampled_from(POLICIES)))
    cluster.trust("t")
    for at in range(draw(st.integers(1, 5))):
        slots, credit = draw(st.integers(1, 5)), draw(st.integers(0, 8))
        cluster.join(f"a{at}", slots, credit, zone=draw(st.sampled_from(["eu", "us"])))
    for name in draw(st.lists(st.sampled_from("pqrs"), unique=True, max_size=4)):
        begin_ms = START_MS + draw(st.sampled_from([-1, 0, 0, 10_000]))
        slots = draw(st.sampled_from([None, 1, 2, 3]))
        zone = "eu" if slots is None else draw(st.sampled_from(["", "eu"]))
        cluster.reserve(name, draw(st.sampled_from(["n0", "n1"])), slots=slots, begin_ms=begin_ms, zone=zone)
    for name in ("n0", "n1", "n2"):
        many = draw(st.sampled_from([0, 3, 3, 9, 2 * MANY]))
        cluster.want(
            name, many or 1, draw(st.sampled_from([4, 1_000, 20_000])), type=draw(st.sampled_from("tu"))
        )
    return cluster


@MANY_TASKS
@given(worlds())
def test_no_plan_is_refused_and_no_kept_slot_is_taken(cluster: Keeping) -> None:
    """Also of agents whose slots several want; whoever is left waits for a reason that is told."""
    last = cluster.settle()
    state, known = cluster.state, list(cluster.state.reservations.values())
    for agent in state.agents.values():
        spec = agent.record.spec
        kept = kept_of(spec, known, cluster.now_ms)
        names = [state.dags[key >> 24].record.header.namespace for key in agent.held]
        if kept:
            assert sum(name not in kept for name in names) <= room_of(spec) - sum(kept.values())
    told = [
        explain(members.profile, cluster.snapshot, 0, None, "", cluster.now_s, members.owner.namespace)
        for members in cluster.snapshot.waiting.classes.values()
    ]
    if not known:
        assert not any(one.reason == RESERVED for found in told for one in found.refusals)
    # A new leader sees the same.
    for name in ("n0", "n1", "n2"):
        mine = cluster.snapshot.reserved.bounds(name, cluster.now_s)
        other = cluster.rebuild(cluster.now_ms).reserved.bounds(name, cluster.now_s)
        assert (mine is None) == (other is None)
        if mine is not None and other is not None:
            assert [row.tolist() for row in mine.now] == [row.tolist() for row in other.now]
    assert not last.choices


@given(st.data())
def test_what_is_kept_by_row_is_what_the_machine_says(data: st.DataObject) -> None:
    """Agents come, change and go; what their namespaces hold comes and goes."""
    cluster = Keeping()
    for name in ("p", "q", "r"):
        fields = data.draw(
            st.sampled_from([{"slots": 2}, {"agents": ("a", "b")}, {"zone": "eu", "slots": 1}])
        )
        cluster.reserve(name, data.draw(st.sampled_from(["n0", "n1"])), **fields)
    for name in ("n0", "n1", "n2"):
        cluster.want(name, 4)
    for _ in range(data.draw(st.integers(1, 8))):
        agent = data.draw(st.sampled_from("abc"))
        what = data.draw(st.sampled_from(["join", "settle", "lose"]))
        if what == "join":
            zone, slots = data.draw(st.sampled_from(["eu", "us"])), data.draw(st.integers(1, 4))
            cluster.join(agent, slots, zone=zone)
        elif what == "lose" and agent in cluster.state.agents:
            epoch = cluster.epoch(agent)
            cluster.apply(c.CloseSession(agent, epoch, False), c.LoseAgents([(agent, epoch)], ""))
            cluster.apply(c.ForgetAgents([(agent, epoch)]))
        else:
            cluster.settle()
    for name in ("n0", "n1"):
        lacks = cluster.snapshot.reserved.lacks(name, cluster.now_s)
        for agent, row in cluster.snapshot.agents.rows.items():
            known = cluster.state.agents[agent]
            kept = kept_of(known.record.spec, cluster.state.reservations.values(), cluster.now_ms).get(
                name, 0
            )
            held = sum(cluster.state.dags[key >> 24].record.header.namespace == name for key in known.held)
            assert (0 if lacks is None else lacks.item(row)) == max(0, kept - held)
