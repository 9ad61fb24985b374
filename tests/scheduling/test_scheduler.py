"""The scheduler: it decides the same again, renews ranks in bounded steps, and races only where nothing
waits."""

from __future__ import annotations

import pytest

from coordinator.core import commands as c
from coordinator.core.commands import Assign, Preempt
from coordinator.core.kinds import Kind
from coordinator.core.model import Task, TaskFamily, TaskProfile
from coordinator.scheduling import scheduler as module
from coordinator.scheduling.costs.weights import BALANCED, FAST
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.scheduler import Scheduler
from tests.scheduling.clusters import Cluster

LIMITS = PlanLimits()
MODEL = TaskProfile("t", TaskFamily.MODEL)


def chain(length: int) -> dict[str, list[str]]:
    return {f"t{at}": [f"t{at - 1}"] if at else [] for at in range(length)}


def learn(cluster: Cluster, seconds: float) -> None:
    kind = Kind("t", "", TaskFamily.UNSPECIFIED, False)
    for _ in range(40):
        cluster.snapshot.estimates.observe(kind, 999, "a", seconds)


def first_rank(cluster: Cluster, dag_id: str = "d") -> float:
    task = cluster.task("t0", dag_id)
    graph = cluster.snapshot.graphs.of(task.key)
    assert graph is not None
    return graph.rank(task.index)


def test_ranks_follow_the_estimates_also_where_one_decision_does_not_suffice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RANKED_AT_ONCE", 10)
    monkeypatch.setattr("coordinator.scheduling.tasks.ranks.RANKED_AT_ONCE", 10)
    cluster = Cluster()
    cluster.join("a")
    for number in range(3):
        cluster.submit(chain(25), dag_id=f"d{number}")
    scheduler = Scheduler(cluster.snapshot, BALANCED, LIMITS)
    for _ in range(24):
        scheduler.decide(cluster.now_s)
    assert [first_rank(cluster, f"d{at}") for at in range(3)] == pytest.approx([25.0] * 3, rel=0.1)
    # More is learned before every decision: no DAG may be left behind for it.
    for turn in range(1, 49):
        learn(cluster, 8.0 + turn / 100)
        scheduler.decide(cluster.now_s)
    for number in range(3):
        assert first_rank(cluster, f"d{number}") == pytest.approx(200.0, rel=0.3)
    for number in range(3):
        cluster.apply(c.CancelDag("", f"d{number}"))
    scheduler.decide(cluster.now_s)
    assert not scheduler._ranking


def test_waiting_tasks_take_the_places_that_new_ranks_give_them() -> None:
    cluster = Cluster()
    cluster.join("a")
    cluster.submit({"short": [], "long": [], "after": ["long"]})
    decision = Scheduler(cluster.snapshot, BALANCED, LIMITS).decide(cluster.now_s)
    assert [choice.key for choice in decision.choices] == [cluster.task("long").key]


def test_it_decides_the_same_again_until_something_happens() -> None:
    cluster = Cluster()
    cluster.join("a", slots=2)
    cluster.join("b")
    cluster.submit(chain(3) | {"x": [], "y": []})
    scheduler = Scheduler(cluster.snapshot, FAST, LIMITS)
    first = scheduler.decide(cluster.now_s)
    assert scheduler.decide(cluster.now_s) == first
    assert Scheduler(cluster.snapshot, FAST, LIMITS).decide(cluster.now_s) == first


def carry_out(cluster: Cluster, scheduler: Scheduler) -> int:
    """Decide and carry out until there is nothing to decide; returns the number of decisions."""
    for turn in range(50):
        decision = scheduler.decide(cluster.now_s)
        if not (decision.before or decision.choices):
            return turn
        cluster.snapshot.waiting.discard([choice.key for choice in decision.choices])
        cluster.apply(*decision.before, *([Assign(decision.choices)] if decision.choices else []))
    raise AssertionError("it does not come to rest")


def running(task: Task) -> list[str]:
    return [attempt.agent for attempt in task.live]


def test_idle_agents_race_when_nothing_waits() -> None:
    cluster = Cluster()
    cluster.join("slow")
    cluster.submit({"x": []}, MODEL, expected_ms={"x": 100_000})
    cluster.begin("slow", "x")
    cluster.join("quick", speed=20.0)
    cluster.now_ms += 60_000
    assert carry_out(cluster, Scheduler(cluster.snapshot, FAST, LIMITS)) >= 1
    assert running(cluster.task("x")) == ["slow", "quick"]


@pytest.mark.parametrize("spoilt", ["credit", "draining", "held"])
def test_who_cannot_take_anything_is_not_idle(spoilt: str) -> None:
    cluster = Cluster()
    cluster.join("slow")
    cluster.submit({"x": []}, MODEL, expected_ms={"x": 100_000})
    cluster.begin("slow", "x")
    cluster.join("quick", speed=20.0, credit=0 if spoilt == "credit" else 1)
    if spoilt == "draining":
        cluster.apply(c.DrainAgent("", "quick"))
    elif spoilt == "held":
        cluster.submit({"y": []}, dag_id="other")
        cluster.give("quick", "y", dag_id="other")
    cluster.now_ms += 60_000
    assert carry_out(cluster, Scheduler(cluster.snapshot, FAST, LIMITS)) == 0
    assert running(cluster.task("x")) == ["slow"]


def test_second_attempts_make_room_for_tasks_that_wait() -> None:
    cluster = Cluster()
    for name in ("a", "b"):
        cluster.join(name)
    cluster.submit({"x": []}, MODEL, expected_ms={"x": 100_000})
    cluster.begin("a", "x")
    cluster.give("b", "x", rival=True)
    cluster.submit({"y": []}, dag_id="other")
    decision = Scheduler(cluster.snapshot, FAST, LIMITS).decide(cluster.now_s)
    assert [(choice.agent, choice.key) for choice in decision.choices] == [
        ("b", cluster.task("y", "other").key)
    ]
    assert [one.attempts for one in decision.before if isinstance(one, Preempt)] == [
        [(cluster.task("x").key, 2)]
    ]
    assert carry_out(cluster, Scheduler(cluster.snapshot, FAST, LIMITS)) >= 1
    assert running(cluster.task("y", "other")) == ["b"]


def test_a_second_attempt_stays_where_there_is_room_beside_it() -> None:
    cluster = Cluster()
    cluster.join("a")
    cluster.join("b", slots=2)
    cluster.submit({"x": []}, MODEL, expected_ms={"x": 100_000})
    cluster.begin("a", "x")
    cluster.give("b", "x", rival=True)
    cluster.submit({"y": []}, dag_id="other")
    decision = Scheduler(cluster.snapshot, FAST, LIMITS).decide(cluster.now_s)
    assert [choice.agent for choice in decision.choices] == ["b"]
    assert not decision.before
