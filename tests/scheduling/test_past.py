"""A new leader, whose estimates are made from the replicated history, expects what the one before did that
lived through it (D5, E5)."""

from __future__ import annotations

import math
import random

import pytest

from coordinator.core import commands as c
from coordinator.core.kinds import Kind, kind_of, read_log2
from coordinator.core.model import AttemptOutcome, DataItem, RetryPolicy, TaskExtras, TaskFamily, TaskProfile
from coordinator.core.outcome import Effects
from coordinator.scheduling.snapshot import Snapshot
from tests.scheduling.clusters import Cluster, Followed

MODEL = TaskProfile("ask", TaskFamily.MODEL, retry=RetryPolicy(max_attempts=99))
COMPUTE = TaskProfile("count", TaskFamily.COMPUTE, retry=RetryPolicy(max_attempts=99))
TRUE = {"a": 1.0, "b": 2.0, "c": 0.5}
"""Speeds; all agents advertise 1 but b, which says so."""


class Busy(Cluster):
    """Agents that carry out tasks of their kinds, in durations that vary."""

    def __init__(self, seed: int = 7) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.made = 0
        self.second: Followed | None = None
        """Another leader that follows."""
        for agent_id in TRUE:
            self.join(agent_id, speed=2.0 if agent_id == "b" else 1.0)

    def follow(self, effects: Effects, now_ms: int) -> None:
        super().follow(effects, now_ms)
        if self.second is not None:
            self.second.follow(effects, now_ms)

    def work(
        self, agent_id: str, profile: TaskProfile, seconds: float, times: int = 1, *, expected_ms: int = 0
    ) -> None:
        """So many tasks of so much work, on an agent of its true speed."""
        for _ in range(times):
            dag_id = self.one(profile, expected_ms)
            noise = math.exp(self.rng.gauss(0.0, 0.2))
            took = seconds * noise / TRUE.get(agent_id, 1.0)
            self.complete(agent_id, "t", dag_id=dag_id, seconds=took)

    def one(self, profile: TaskProfile, expected_ms: int = 0) -> str:
        """A DAG of one task "t"."""
        self.made += 1
        dag_id = f"d{self.made}"
        self.submit({"t": []}, profile, dag_id=dag_id, expected_ms={"t": expected_ms})
        return dag_id

    def fail(self, agent_id: str, profile: TaskProfile) -> None:
        """A task that the agent fails, and that another completes."""
        dag_id = self.one(profile)
        self.give(agent_id, "t", dag_id=dag_id)
        self.report(agent_id, self.task("t", dag_id), outcome=AttemptOutcome.FAILED)
        self.complete("a", "t", dag_id=dag_id)


def all_settled(snapshot: Snapshot) -> Snapshot:
    while snapshot.estimates.renew():
        pass
    return snapshot


def expected(snapshot: Snapshot, profile: TaskProfile, agent_id: str, expected_ms: int = 0) -> float:
    """Seconds of a task of a DAG of which nothing has ended."""
    row = snapshot.agents.rows[agent_id]
    work = snapshot.work_s(profile, 1 << 60, expected_ms)
    return work / float(snapshot.estimates.speeds(profile.family)[row])


def counted(snapshot: Snapshot) -> dict[tuple[Kind, str], float]:
    """Ends that count, by kind and agent."""
    snapshot.estimates.renew()
    return {
        (kind, agent_id): float(ends.sums[0, row])
        for kind, ends in snapshot.estimates._kinds.items()
        for agent_id, row in snapshot.agents.rows.items()
        if ends.sums[0, row]
    }


def lived() -> Busy:
    busy = Busy()
    for _ in range(30):
        for agent_id in TRUE:
            busy.work(agent_id, MODEL, 20.0)
            busy.work(agent_id, COMPUTE, 0.5)
            busy.work(agent_id, COMPUTE, 90.0, expected_ms=30_000)
            busy.snapshot.estimates.renew()
    return busy


def assert_alike(mine: Snapshot, made: Snapshot) -> None:
    for profile, expected_ms in ((MODEL, 0), (COMPUTE, 0), (COMPUTE, 30_000)):
        kind = kind_of(profile, expected_ms)
        before = mine.estimates.work(kind, 1 << 40, expected_ms)
        now = made.estimates.work(kind, 1 << 40, expected_ms)
        assert now.known
        assert now.sigma == pytest.approx(before.sigma, rel=0.1)
        for agent_id in mine.agents.rows:
            assert expected(made, profile, agent_id, expected_ms) == pytest.approx(
                expected(mine, profile, agent_id, expected_ms), rel=0.05
            )
    shares = [snapshot.estimates.failure_shares().tolist() for snapshot in (mine, made)]
    assert shares[1] == pytest.approx(shares[0], abs=0.01)


def test_a_new_leader_expects_what_the_old_one_did() -> None:
    busy = lived()
    for _ in range(6):
        busy.fail("c", COMPUTE)
    mine, made = all_settled(busy.snapshot), busy.rebuild(busy.now_ms)
    assert_alike(mine, made)
    # And both are right: c is half as fast as it says, b as fast as it says.
    assert expected(made, MODEL, "a") == pytest.approx(20.0, rel=0.15)
    assert expected(made, MODEL, "b") == pytest.approx(10.0, rel=0.15)
    assert expected(made, MODEL, "c") == pytest.approx(40.0, rel=0.15)
    assert made.estimates.failure_shares()[made.agents.rows["c"]] > 0.04


def test_what_follows_goes_on_top_and_nothing_counts_twice() -> None:
    busy = lived()
    busy.second = Followed(busy.state)
    busy.second.mirror.remember()
    before = counted(busy.second.snapshot)
    assert before == counted(busy.snapshot)
    assert before[kind_of(MODEL, 0), "a"] == 30
    busy.work("a", MODEL, 40.0, 70)
    for _ in range(3):
        busy.fail("c", MODEL)
    assert counted(busy.second.snapshot) == counted(busy.snapshot)
    assert counted(busy.snapshot)[kind_of(MODEL, 0), "a"] == 103
    assert_alike(all_settled(busy.snapshot), all_settled(busy.second.snapshot))


@pytest.mark.parametrize("forgotten", [False, True])
def test_how_work_grows_with_what_is_read_outlives_the_leader_and_the_agents(forgotten: bool) -> None:
    busy, hints = Busy(), []
    for at in range(90):
        inputs = (DataItem("x", 10 ** (5 + at % 4)),)
        hints.append(-read_log2(inputs))
        dag_id, agent_id = f"r{at}", list(TRUE)[at % 3]
        busy.submit({"t": []}, COMPUTE, dag_id=dag_id, extras={"t": TaskExtras(inputs=inputs)})
        took = 10 ** (at % 4 / 2) * math.exp(busy.rng.gauss(0.0, 0.2)) / TRUE[agent_id]
        busy.complete(agent_id, "t", dag_id=dag_id, seconds=took)
        busy.snapshot.estimates.renew()
    if forgotten:
        for agent_id in TRUE:
            busy.apply(c.CloseSession(agent_id, busy.epoch(agent_id), True))
        busy.apply(c.ForgetAgents([(agent_id, busy.epoch(agent_id)) for agent_id in TRUE]))
    mine, made = all_settled(busy.snapshot), busy.rebuild(busy.now_ms)
    works = [[one.work_s(COMPUTE, 1 << 60, hint) for hint in hints[:4]] for one in (mine, made)]
    assert works[1] == pytest.approx(works[0], rel=0.25)
    for some in works:
        assert [one / some[0] for one in some] == pytest.approx([1, 10**0.5, 10, 10**1.5], rel=0.2)


def test_long_histories_fade_alike() -> None:
    busy = Busy()
    for seconds in (1.0, 8.0):
        for _ in range(60):
            busy.work("a", COMPUTE, seconds, 5)
            busy.snapshot.estimates.renew()
    mine, made = all_settled(busy.snapshot), busy.rebuild(busy.now_ms)
    kind = kind_of(COMPUTE, 0)
    assert made.estimates.work(kind, 1 << 40).seconds == pytest.approx(
        mine.estimates.work(kind, 1 << 40).seconds, rel=0.02
    )


def test_agents_that_are_forgotten_have_taught_what_kinds_last() -> None:
    busy = lived()
    for agent_id in TRUE:
        busy.apply(c.CloseSession(agent_id, busy.epoch(agent_id), True))
    busy.apply(c.ForgetAgents([(agent_id, busy.epoch(agent_id)) for agent_id in TRUE]))
    busy.join("new")
    made = busy.rebuild(busy.now_ms)
    assert list(made.agents.rows) == ["new"]
    assert 15 < expected(made, MODEL, "new") < 35
    assert made.estimates.work(kind_of(MODEL, 0), 1).known
    assert 60 < expected(made, COMPUTE, "new", 30_000) < 180


def test_an_agent_that_claims_to_need_no_time_fools_nobody() -> None:
    busy = Busy()
    busy.join("liar")
    for agent_id in TRUE:
        busy.work(agent_id, MODEL, 20.0, 9)
    for _ in range(200):
        busy.complete("liar", "t", dag_id=busy.one(MODEL), seconds=0.0)
    made = busy.rebuild(busy.now_ms)
    row = made.agents.rows["liar"]
    assert float(made.estimates.speeds(MODEL.family)[row]) < math.exp(6)
    assert expected(made, MODEL, "b") < expected(made, MODEL, "a") < expected(made, MODEL, "c")
