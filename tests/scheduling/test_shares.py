"""Fair shares and quotas of namespaces (E8): shares come to be as weights are, no quota is exceeded, and no
slot is idle while somebody may use it."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import commands as c
from coordinator.core.kinds import Kind
from coordinator.core.model import Requirements, Resources, TaskFamily, TaskProfile
from coordinator.core.namespaces import NamespaceRecord, Quotas
from coordinator.scheduling.costs.policies import policy
from coordinator.scheduling.explain import explain
from coordinator.scheduling.plans.claims import QUOTA
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.scheduler import Decision, Scheduler
from coordinator.scheduling.tasks.shares import HALF_LIFE_S, PAST_COUNTS, SLOT_S, Shares
from tests.scheduling.clusters import START_MS, Cluster

POLICIES: Final = ("balanced", "least-loaded", "round-robin")
GIB: Final = 1 << 30


def needs(cores: int = 0, memory: int = 0) -> TaskProfile:
    return TaskProfile("t", requirements=Requirements(Resources(1_000 * cores, GIB * memory)))


class Busy(Cluster):
    """Namespaces that want more than there is, on agents that do what they are given at once."""

    def __init__(self, policy_name: str) -> None:
        super().__init__()
        self.scheduler = Scheduler(self.snapshot, policy(policy_name), PlanLimits())
        self.ends: list[tuple[int, int, str]] = []
        self.had: Counter[str] = Counter()
        """Milliseconds of attempts by namespace."""
        self.lasts: dict[int, int] = {}

    def submit_many(
        self, namespace: str, tasks: int, lasts_ms: int, profile: TaskProfile | None = None
    ) -> None:
        names = {f"t{at}": () for at in range(tasks)}
        expected = dict.fromkeys(names, lasts_ms)
        dag = self.submit(names, profile, dag_id=namespace, namespace=namespace, expected_ms=expected)
        self.lasts |= {task.key: lasts_ms for task in dag.tasks}

    def decide(self) -> Decision:
        """Until there is nothing more to give out; returns the last decision."""
        while True:
            decision = self.scheduler.decide(self.now_s)
            choices = [one for one in decision.choices if not one.rival]
            if not choices:
                return decision
            self.apply(c.Assign(choices))
            for choice in choices:
                task = self.state.task(choice.key)
                assert task is not None
                assert task.live, "proposed beyond what the machine allows"
                one = c.AttemptReport(choice.key, choice.attempt, c.ReportKind.STARTED)
                self.apply(c.Report(choice.agent, choice.epoch, [one]))
                due_ms = self.now_ms + self.lasts[choice.key]
                heapq.heappush(self.ends, (due_ms, choice.key, choice.agent))

    def pass_on(self) -> None:
        """The next attempts end."""
        before_ms = self.now_ms
        self.now_ms = self.ends[0][0]
        for name, usage in self.state.namespaces.usage.items():
            self.had[name] += usage.attempts * (self.now_ms - before_ms)
        while self.ends and self.ends[0][0] <= self.now_ms:
            _, key, agent = heapq.heappop(self.ends)
            task = self.state.task(key)
            assert task is not None
            self.report(agent, task, seconds=self.lasts[key] / 1_000)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize(("slots", "lasts_s"), [(1, 120), (2, 120), (10, 40), (72, 10)])
@pytest.mark.parametrize(("one_ms", "other_ms"), [(1_000, 1_000), (700, 2_000)])
def test_shares_come_to_be_as_the_weights(
    name: str, slots: int, lasts_s: int, one_ms: int, other_ms: int
) -> None:
    """3 to 1 in slot-seconds, however long tasks last, with one slot too, and in rounds of many."""
    cluster = Busy(name)
    cluster.join("a", slots)
    cluster.apply(c.SetNamespace("", "one", 3.0))
    for namespace, lasts_ms in (("one", one_ms), ("other", other_ms)):
        cluster.submit_many(namespace, (lasts_s + 10) * 1_000 * slots // lasts_ms, lasts_ms)
    cluster.decide()
    while cluster.now_s - START_MS / 1_000 < lasts_s:
        cluster.pass_on()
        cluster.decide()
    assert cluster.had["one"] / cluster.had["other"] == pytest.approx(3.0, rel=0.18)


@given(
    st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=2, max_size=4),
    st.integers(1, 8),
    st.sampled_from(POLICIES),
    st.data(),
)
@settings(max_examples=max(8, settings().max_examples // 6))
def test_every_share_is_near_its_weight(
    weights: list[float], slots: int, name: str, data: st.DataObject
) -> None:
    cluster = Busy(name)
    cluster.join("a", slots)
    for at, weight in enumerate(weights):
        cluster.apply(c.SetNamespace("", f"n{at}", weight))
        lasts_ms = data.draw(st.sampled_from([500, 1_000, 2_500]))
        cluster.submit_many(f"n{at}", 70_000 * slots // lasts_ms, lasts_ms)
    cluster.decide()
    while cluster.now_s - START_MS / 1_000 < 60:
        cluster.pass_on()
        cluster.decide()
    whole = sum(cluster.had.values())
    for at, weight in enumerate(weights):
        assert cluster.had[f"n{at}"] / whole == pytest.approx(weight / sum(weights), abs=0.08)


@pytest.mark.parametrize("name", POLICIES)
def test_what_counts_is_the_dominant_share(name: str) -> None:
    """The example of Ghodsi et al. (NSDI 2011): 9 cores and 18 GiB, tasks of (1, 4) and of (3, 1)."""
    cluster = Busy(name)
    cluster.join("a", 100, resources=Resources(9_000, 18 * GIB))
    cluster.submit_many("memory", 20, 60_000, needs(1, 4))
    cluster.submit_many("cores", 20, 60_000, needs(3, 1))
    cluster.decide()
    usage = cluster.state.namespaces.usage
    assert (usage["memory"].attempts, usage["cores"].attempts) == (3, 2)


@pytest.mark.parametrize("tiny", ["one", "other"])
def test_brief_tasks_have_no_other_turn_than_long_ones(tiny: str) -> None:
    """Many wait, and few slots are free: neither kind of task gets them all."""
    cluster = Busy("balanced")
    cluster.join("a", 8, credit=8)
    cluster.apply(c.SetNamespace("", "one", 3.0))
    for at in range(100):
        cluster.snapshot.estimates.observe(Kind("t", "", TaskFamily.UNSPECIFIED, True), at, "a", 0.9, 900)
    for namespace in ("one", "other"):
        cluster.submit_many(namespace, 100, 10 if namespace == tiny else 60_000)
    assert cluster.snapshot.is_brief(TaskProfile("t"), 0, 10)
    cluster.decide()
    usage = cluster.state.namespaces.usage
    assert (usage["one"].attempts, usage["other"].attempts) == (6, 2)


def test_who_comes_late_catches_up_for_a_while_and_not_for_ever() -> None:
    cluster = Busy("balanced")
    cluster.join("a", 10)
    cluster.submit_many("early", 5_000, 1_000)
    cluster.decide()
    for _ in range(300):
        cluster.pass_on()
        cluster.decide()
    cluster.submit_many("late", 5_000, 1_000)
    held = []
    for _ in range(int(6 * HALF_LIFE_S)):
        cluster.pass_on()
        cluster.decide()
        held.append(cluster.state.namespaces.usage["late"].attempts)
    assert max(held[:5]) == 10
    assert held[-1] in (5, 6)
    assert sum(held) > 5.5 * len(held)


def test_one_namespace_alone_is_placed_as_if_there_were_none() -> None:
    for namespace in ("default", "shop"):
        cluster = Cluster()
        cluster.join("a", 2)
        cluster.submit({"x": (), "y": (), "z": ()}, namespace=namespace)
        decision = Scheduler(cluster.snapshot, policy("balanced"), PlanLimits()).decide(cluster.now_s)
        assert [choice.key for choice in decision.choices] == [cluster.task(name).key for name in "xy"]


# --- quotas -------------------------------------------------------------------------------------------------


@given(st.data())
def test_no_quota_is_exceeded_and_no_slot_is_idle_that_may_be_used(data: st.DataObject) -> None:
    """Whatever the planner chooses the machine carries out (`Busy.decide`), and when it chooses nothing more,
    every namespace has met a quota, or has nothing that fits."""
    cluster = Busy(data.draw(st.sampled_from(POLICIES)))
    agents = data.draw(st.integers(1, 3))
    for at in range(agents):
        cluster.join(f"a{at}", data.draw(st.sampled_from([1, 4, 70])))
    limits = {}
    for name in ("one", "two", "three"):
        quotas = Quotas(
            attempts=data.draw(st.sampled_from([None, 0, 1, 3, 50])),
            milli_cores=data.draw(st.sampled_from([None, 2_500, 40_000])),
        )
        limits[name] = quotas
        cluster.apply(c.SetNamespace("", name, data.draw(st.sampled_from([0.5, 1.0, 3.0])), None, quotas))
        cores = data.draw(st.sampled_from([0, 1, 2]))
        cluster.submit_many(name, data.draw(st.sampled_from([1, 5, 120])), 1_000, needs(cores))
    spec = {"resources": Resources(10**6, 10**12)}
    for at in range(agents):
        cluster.apply(c.ChangeAgent(cluster.spec(f"a{at}", 70, **spec), cluster.epoch(f"a{at}")))
    for _ in range(3):
        cluster.decide()
        free = sum(
            max(int(cluster.snapshot.agents.slots[row] - cluster.snapshot.agents.held[row]), 0)
            for row in cluster.snapshot.agents.rows.values()
        )
        for name, quotas in limits.items():
            usage = cluster.state.namespaces.usage.get(name)
            if usage is None:
                continue
            assert quotas.attempts is None or usage.attempts <= quotas.attempts
            assert quotas.milli_cores is None or usage.milli_cores <= quotas.milli_cores
            waits = [
                members for members in cluster.snapshot.waiting.classes.values() if members.owner[0] == name
            ]
            resources = waits[0].profile.requirements.resources if waits else Resources()
            assert not waits or not free or quotas.broken_by(usage, resources)
        if cluster.ends:
            cluster.pass_on()


@pytest.mark.parametrize("name", POLICIES)
def test_a_quota_is_a_reason_of_its_own(name: str) -> None:
    """In the figures of a plan, and in words for one task (E10)."""
    cluster = Busy(name)
    cluster.join("a", 10)
    cluster.apply(c.SetNamespace("", "shop", quotas=Quotas(attempts=2)))
    cluster.submit_many("shop", 5, 1_000)
    decision = cluster.decide()
    assert decision.plan.unplaced == {QUOTA: 3}
    task = cluster.task("t4", "shop")
    quota = cluster.snapshot.shares.beyond("shop", task.profile)
    assert quota == "namespace shop holds 2 of its 2 attempts"
    found = explain(task.profile, cluster.snapshot, quota=quota)
    assert found.summary == f"it waits for its quota: {quota}"
    assert (found.capable, found.feasible, [one.reason for one in found.refusals]) == (1, 0, [QUOTA])
    cluster.apply(c.SetNamespace("", "shop", lifted=("attempts",)))
    assert cluster.snapshot.shares.beyond("shop", task.profile) == ""
    cluster.decide()
    assert cluster.state.namespaces.usage["shop"].attempts == 5


def test_a_resource_beyond_its_quota_is_told_with_what_is_needed() -> None:
    cluster = Busy("balanced")
    cluster.join("a", 10, resources=Resources(99_000, 99 * GIB))
    cluster.apply(c.SetNamespace("", "shop", quotas=Quotas(milli_cores=5_000)))
    cluster.submit_many("shop", 5, 1_000, needs(2))
    cluster.decide()
    found = cluster.snapshot.shares.beyond("shop", needs(2))
    assert found == "namespace shop holds 4,000 of its 5,000 milli_cores, and the task needs 2,000"


# --- the accounts -------------------------------------------------------------------------------------------


def test_accounts_are_those_that_a_new_leader_would_make() -> None:
    cluster = Busy("balanced")
    cluster.join("a", 4)
    cluster.apply(c.SetNamespace("", "shop", 2.0))
    cluster.submit_many("shop", 3, 1_000)
    cluster.submit_many("other", 3, 1_000)
    cluster.decide()
    rebuilt = cluster.rebuild(cluster.now_ms)
    for name in ("shop", "other"):
        mine, other = cluster.snapshot.shares.account(name), rebuilt.shares.account(name)
        assert (mine.holding, mine.settings) == (other.holding, other.settings)
    for _ in range(4):
        if cluster.ends:
            cluster.pass_on()
            cluster.decide()
    assert not cluster.state.dags
    for name in ("shop", "other"):
        assert cluster.snapshot.shares.holds(name) == 0.0


def test_what_queues_counts_for_as_long_as_it_lasts() -> None:
    """Who has slots has them, whatever is expected; a queue of tiny tasks is no cluster."""
    cluster = Cluster()
    cluster.join("a", 4)
    shares = cluster.snapshot.shares
    for key in range(2):
        shares.hold("slots", key, 1, TaskProfile("t"))
    for key in range(100, 200):
        shares.hold("queue", key, 1, TaskProfile("t"), SLOT_S / 50)
    assert (shares.holds("slots"), shares.holds("queue")) == pytest.approx((0.5, 0.5))


def test_idle_namespaces_are_forgotten_where_there_are_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.scheduling.tasks.shares.ACCOUNTS_KEPT", 10)
    shares = Shares(Cluster().snapshot.agents)
    shares.set("kept", NamespaceRecord("kept", 2.0))
    shares.hold("held", 1, 1, TaskProfile("t"))
    for at in range(100):
        shares.account(f"n{at}")
    assert len(shares._accounts) <= 10
    assert shares.account("kept").settings.weight == 2.0
    assert shares.account("held").holding.usage.attempts == 1


def test_a_clock_that_goes_back_changes_no_share() -> None:
    cluster = Cluster()
    cluster.join("a")
    shares = cluster.snapshot.shares
    shares.hold("shop", 1, 1, TaskProfile("t"))
    shares.advance(cluster.now_s + HALF_LIFE_S)
    account = shares.account("shop")
    later = shares.share(account, account.holding)
    assert (account.had, later) == pytest.approx((0.5, 1.0 + 0.5 * (1.0 + PAST_COUNTS)))
    shares.advance(0.0)
    assert shares.share(account, account.holding) == later
