"""Room for urgent tasks (E4, E8): who is ended, that it is worth it, and that it does not go on for ever."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.core import commands as c
from coordinator.core.model import (
    Priority,
    Requirements,
    Resources,
    TaskFamily,
    TaskProfile,
    TaskState,
)
from coordinator.core.namespaces import Quotas
from coordinator.scheduling.costs.policies import policy
from coordinator.scheduling.learning.estimates import Kind
from coordinator.scheduling.moves.preemption import ENDED_AT_ONCE, MOST_PREEMPTED, STUCK_S, URGENCY
from coordinator.scheduling.plans.solver import PlanLimits
from coordinator.scheduling.scheduler import Scheduler
from tests.scheduling.clusters import START_MS, Cluster

POLICIES = ("balanced", "least-loaded")
STATED = Kind("t", "", TaskFamily.UNSPECIFIED, True)
HOUR_MS = 3_600_000
NOW_MS = START_MS + 10 * HOUR_MS


def work(priority: Priority = Priority.MEDIUM, *, may: bool = True, cores: int = 0) -> TaskProfile:
    needed = Requirements(Resources(1_000 * cores))
    return TaskProfile("t", requirements=needed, priority=priority, preemptible=may)


URGENT = work(Priority.URGENT, may=False)


class Urgency(Cluster):
    """Attempts that run, and urgent tasks that come."""

    def __init__(self, name: str = "balanced") -> None:
        super().__init__()
        self.scheduler = Scheduler(self.snapshot, policy(name), PlanLimits())

    def run(
        self, agent: str, task_id: str, profile: TaskProfile, *, since_s: float = 5.0, left_s: float = 3_600.0
    ) -> None:
        """At `NOW_MS`, the agent has been at this for a while, and it will last so much longer. Who began
        first is told of first."""
        self.now_ms = NOW_MS - round(since_s * 1_000)
        expected = {task_id: round((since_s + left_s) * 1_000)}
        self.submit({task_id: ()}, profile, dag_id=task_id, expected_ms=expected)
        self.begin(agent, task_id, dag_id=task_id)
        self.now_ms = NOW_MS

    def urge(self, task_id: str, profile: TaskProfile = URGENT, **fields: Any) -> None:
        self.submit({task_id: ()}, profile, dag_id=task_id, expected_ms={task_id: 1_000}, **fields)

    def learn(self, agent: str) -> None:
        """What clients state of tasks on this agent is right."""
        for at in range(300):
            self.snapshot.estimates.observe(STATED, at, agent, 9.0, 9_000)

    def ended(self) -> list[str]:
        """What is ended for somebody in the next decision, which is carried out."""
        decision = self.scheduler.decide(self.now_s)
        choices = [one for one in decision.choices if not one.rival]
        evicted = [one for one in decision.before if isinstance(one, c.Preempt) and not choices]
        self.apply(*evicted, c.Assign(choices))
        keys = [key for one in evicted for key, _ in one.attempts]
        tasks = [self.state.task(key) for key in keys]
        return sorted(task.id for task in tasks if task is not None)

    def stop_all(self) -> None:
        """Agents are rid of what was taken from them."""
        for name, agent in self.state.agents.items():
            for key, number in list(agent.record.stopping):
                one = c.AttemptReport(key, number, c.ReportKind.ENDED, outcome=c.AttemptOutcome.CANCELLED)
                self.apply(c.Report(name, self.epoch(name), [one]))

    def where(self, task_id: str) -> str:
        task = self.task(task_id, task_id)
        return task.live[0].agent if task.live else task.state.name


@pytest.mark.parametrize("name", POLICIES)
def test_an_urgent_task_takes_the_place_of_the_one_that_loses_least(name: str) -> None:
    """The one that gave way has not failed, waits again, and ends later."""
    cluster = Urgency(name)
    for agent in "abc":
        cluster.join(agent)
    for agent, since_s in (("a", 300.0), ("c", 90.0), ("b", 20.0)):
        cluster.run(agent, f"on-{agent}", work(), since_s=since_s)
    cluster.urge("now")
    assert cluster.ended() == ["on-b"]
    task = cluster.task("on-b", "on-b")
    assert (task.state, task.failures, task.attempts[0].outcome.name) == (TaskState.READY, 0, "PREEMPTED")
    assert task.attempts[0].reason == "to make room for the urgent task now/now"
    cluster.stop_all()
    assert cluster.ended() == []
    assert (cluster.where("now"), cluster.where("on-b")) == ("b", "READY")
    cluster.report("b", cluster.task("now", "now"))
    cluster.ended()
    assert cluster.where("on-b") == "b"
    cluster.report("b", cluster.task("on-b", "on-b"))
    assert cluster.state.dag("on-b") is None


@pytest.mark.parametrize(
    ("profile", "since_s", "left_s", "gives_way"),
    [
        (work(), 5.0, 3_600.0, True),
        (work(may=False), 5.0, 3_600.0, False),
        (work(Priority.URGENT), 5.0, 3_600.0, False),
        (work(Priority.HIGH), 5.0, 3_600.0, True),
        (work(), 3_000.0, 10.0, False),
        (work(Priority.LOW), 60.0, 30.0, True),
        (work(Priority.HIGH), 600.0, 30.0, False),
    ],
)
def test_nobody_gives_way_who_may_not_or_loses_more_than_is_gained(
    profile: TaskProfile, since_s: float, left_s: float, gives_way: bool
) -> None:
    cluster = Urgency()
    cluster.join("a")
    cluster.learn("a")
    cluster.run("a", "runs", profile, since_s=since_s, left_s=left_s)
    cluster.urge("now")
    assert cluster.ended() == (["runs"] if gives_way else [])


def test_who_has_waited_long_gets_room_whatever_was_expected() -> None:
    """What runs was to end at any moment, and does not."""
    cluster = Urgency()
    cluster.join("a")
    cluster.learn("a")
    cluster.run("a", "runs", work(), since_s=400.0, left_s=1.0)
    cluster.urge("now")
    assert cluster.ended() == []
    cluster.now_ms += 1_000 * round(2 * 400 / (URGENCY - 2) + 30)
    assert cluster.ended() == ["runs"]


def test_a_lower_priority_gives_way_first() -> None:
    cluster = Urgency()
    for agent in "abc":
        cluster.join(agent)
    for agent, priority in (("a", Priority.HIGH), ("b", Priority.LOW), ("c", Priority.MEDIUM)):
        cluster.run(agent, f"on-{agent}", work(priority))
    for at, gives_way in enumerate(("on-b", "on-c", "on-a")):
        cluster.urge(f"now{at}")
        assert cluster.ended() == [gives_way]


def test_an_agent_that_is_free_is_taken_instead() -> None:
    cluster = Urgency()
    cluster.join("a")
    cluster.join("b")
    cluster.run("a", "runs", work())
    cluster.urge("now")
    assert cluster.ended() == []
    assert cluster.where("now") == "b"


def test_as_many_give_way_as_it_takes_on_one_agent() -> None:
    """Resources count, not slots alone; who would give nothing that lacks stays."""
    cluster = Urgency()
    cluster.join("a", 10, resources=Resources(4_000))
    for at, cores in enumerate((1, 2, 1)):
        cluster.run("a", f"r{at}", work(cores=cores), since_s=12.0 - at)
    cluster.run("a", "none", work(), since_s=1.0)
    cluster.urge("now", work(Priority.URGENT, may=False, cores=3))
    assert cluster.ended() == ["r1", "r2"]
    assert cluster.ended() == []
    cluster.stop_all()
    cluster.ended()
    assert cluster.where("now") == "a"


def test_nothing_more_is_ended_while_room_is_being_made() -> None:
    """Until the agent has stopped what it held, and for a bounded time if it never does."""
    cluster = Urgency()
    for agent in "ab":
        cluster.join(agent)
    for agent in "ab":
        cluster.run(agent, f"on-{agent}", work())
    cluster.urge("now")
    assert len(cluster.ended()) == 1
    for _ in range(5):
        cluster.now_ms += 2_000
        assert cluster.ended() == []
    cluster.now_ms += round(STUCK_S * 1_000)
    assert len(cluster.ended()) == 1


def test_a_decision_that_was_not_carried_out_is_taken_again() -> None:
    """The queue was full, or the leader changed its mind about nothing."""
    cluster = Urgency()
    cluster.join("a")
    cluster.run("a", "runs", work())
    cluster.urge("now")
    assert cluster.scheduler.decide(cluster.now_s).before
    assert cluster.ended() == []
    cluster.now_ms += 1_500
    assert cluster.ended() == ["runs"]


def test_nobody_gives_way_to_a_task_whose_dag_has_ended() -> None:
    """It stays among what waits until it is chosen, which is never while nobody has room."""
    cluster = Urgency()
    cluster.join("a")
    cluster.run("a", "on-a", work())
    cluster.urge("now")
    (key,) = [task.key for task in cluster.state.dag("now").tasks]
    cluster.apply(c.CancelDag("", "now"))
    assert cluster.state.dag("now") is None
    assert key in cluster.snapshot.waiting
    assert cluster.ended() == []


def test_no_task_gives_way_more_than_a_few_times() -> None:
    cluster = Urgency()
    cluster.join("a")
    cluster.submit({"runs": ()}, work(), dag_id="runs", expected_ms={"runs": HOUR_MS})
    for turn in range(MOST_PREEMPTED + 1):
        cluster.begin("a", "runs", dag_id="runs")
        cluster.now_ms += 1_000
        cluster.urge(f"now{turn}")
        gave_way = cluster.ended()
        assert gave_way == (["runs"] if turn < MOST_PREEMPTED else [])
        if gave_way:
            cluster.stop_all()
            cluster.ended()
            assert cluster.where(f"now{turn}") == "a"
            cluster.report("a", cluster.task(f"now{turn}", f"now{turn}"))


def test_one_decision_ends_a_bounded_number() -> None:
    cluster = Urgency()
    for at in range(3 * ENDED_AT_ONCE):
        cluster.join(f"a{at}")
    for at in range(3 * ENDED_AT_ONCE):
        cluster.run(f"a{at}", f"on{at}", work())
    for at in range(3 * ENDED_AT_ONCE):
        cluster.urge(f"now{at}")
    first = cluster.ended()
    second = cluster.ended()
    assert (len(first), len(second)) == (ENDED_AT_ONCE, ENDED_AT_ONCE)
    assert not set(first) & set(second)


def test_nobody_gives_way_to_a_namespace_that_has_all_that_it_may() -> None:
    cluster = Urgency()
    cluster.apply(c.SetNamespace("", "shop", quotas=Quotas(attempts=0)))
    cluster.join("a")
    cluster.run("a", "runs", work())
    cluster.urge("now", namespace="shop")
    assert cluster.ended() == []
    cluster.apply(c.SetNamespace("", "shop", lifted=("attempts",)))
    assert cluster.ended() == ["runs"]
