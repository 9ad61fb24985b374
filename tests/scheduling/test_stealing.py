"""What stands in a queue goes where it ends much sooner, once, and nothing else moves."""

from __future__ import annotations

import pytest

from coordinator.core.commands import Recall
from coordinator.core.model import AttemptOutcome, TaskProfile
from coordinator.scheduling.costs.weights import BALANCED
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.scheduler import Scheduler
from coordinator.scheduling.snapshot import FOLLOWED_AT_ONCE, LATE_S
from tests.scheduling.clusters import Cluster

BRIEF_MS = 100


def stuck(*, seconds: float = 10.0, queued: int = 2) -> Cluster:
    """An agent that has been given brief tasks, of which the first goes on and on."""
    cluster = Cluster()
    cluster.join("a", credit=max(100, queued + 1))
    names = [f"t{at}" for at in range(queued + 1)]
    cluster.submit({name: [] for name in names}, expected_ms=dict.fromkeys(names, BRIEF_MS))
    cluster.give("a", *names)
    cluster.begin("a", names[0])
    cluster.now_ms += round(seconds * 1_000)
    return cluster


def decide(cluster: Cluster) -> list[tuple[int, int, str]]:
    """The moves: key, the attempt that is withdrawn, the agent that gets the next one."""
    decision = Scheduler(cluster.snapshot, BALANCED, PlanLimits()).decide(cluster.now_s)
    moves = [move for one in decision.before if isinstance(one, Recall) for move in one.moves]
    return [(move.choice.key, move.attempt, move.choice.agent) for move in moves]


def carry_out(cluster: Cluster) -> None:
    decision = Scheduler(cluster.snapshot, BALANCED, PlanLimits()).decide(cluster.now_s)
    cluster.apply(*decision.before)


def test_the_last_in_a_queue_goes_to_an_agent_that_is_idle() -> None:
    cluster = stuck()
    assert decide(cluster) == []
    cluster.join("b")
    last = cluster.task("t2")
    assert decide(cluster) == [(last.key, 1, "b")]
    carry_out(cluster)
    assert [(one.agent, one.outcome) for one in last.attempts] == [
        ("a", AttemptOutcome.RESCHEDULED),
        ("b", AttemptOutcome.LIVE),
    ]
    assert decide(cluster) == []


def test_each_idle_agent_gets_one_and_what_has_begun_stays() -> None:
    cluster = stuck(queued=3)
    for name in ("b", "c", "d", "e"):
        cluster.join(name)
    for _ in range(5):
        carry_out(cluster)
    assert cluster.task("t0").live[0].agent == "a"
    assert sorted(cluster.task(f"t{at}").live[0].agent for at in (1, 2, 3)) == ["b", "c", "d"]


@pytest.mark.parametrize("case", ["soon", "cannot", "full", "slow"])
def test_nothing_moves_that_would_not_end_much_sooner(case: str) -> None:
    cluster = stuck(seconds=0.05 if case == "soon" else 10.0)
    types = ("other",) if case == "cannot" else ()
    cluster.join(
        "b", credit=0 if case == "full" else 9, task_types=types, speed=0.001 if case == "slow" else 1.0
    )
    assert decide(cluster) == []


def test_what_was_to_be_brief_is_followed_once_it_lasts() -> None:
    cluster = stuck(seconds=LATE_S / 2)
    first, second = cluster.task("t0"), cluster.task("t1")
    scheduler = Scheduler(cluster.snapshot, BALANCED, PlanLimits())
    scheduler.decide(cluster.now_s)
    running = cluster.snapshot.running
    assert not running.holds(first.key)
    assert scheduler.looks_at_what_runs
    cluster.now_ms += round(LATE_S * 1_000)
    scheduler.decide(cluster.now_s)
    began, waits = running.get(first.key, 1), running.get(second.key, 1)
    assert began is not None
    assert began.began_s is not None
    assert waits is not None
    assert waits.began_s is None


def test_where_thousands_are_late_each_look_takes_up_some_of_them() -> None:
    many = FOLLOWED_AT_ONCE + 10
    cluster = stuck(seconds=2 * LATE_S, queued=many - 1)
    scheduler = Scheduler(cluster.snapshot, BALANCED, PlanLimits())
    for followed in (FOLLOWED_AT_ONCE, many, many):
        scheduler.decide(cluster.now_s)
        keys = [cluster.task(f"t{at}").key for at in range(many)]
        assert [cluster.snapshot.running.holds(key) for key in keys] == [at < followed for at in range(many)]


def test_what_has_ended_is_not_followed_and_time_may_go_back() -> None:
    cluster = stuck(seconds=0.0)
    cluster.complete("a", "t0")
    cluster.now_ms -= 3_600_000
    Scheduler(cluster.snapshot, BALANCED, PlanLimits()).decide(cluster.now_s)
    assert not cluster.snapshot.running.holds(cluster.task("t1").key) or cluster.snapshot.follows
    assert not cluster.snapshot.running.holds(cluster.task("t0").key)


def test_nothing_is_looked_for_where_nothing_is_held() -> None:
    cluster = Cluster()
    cluster.join("a")
    scheduler = Scheduler(cluster.snapshot, BALANCED, PlanLimits())
    cluster.submit({"x": []}, TaskProfile("t"), expected_ms={"x": BRIEF_MS})
    assert not scheduler.looks_at_what_runs
    cluster.give("a", "x")
    assert scheduler.looks_at_what_runs
    cluster.report("a", cluster.task("x"), seconds=0.1)
    cluster.now_ms += 5_000
    scheduler.decide(cluster.now_s)
    assert not scheduler.looks_at_what_runs
