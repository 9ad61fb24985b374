"""The snapshot that follows the state entry by entry is the one that a new leader makes from the state alone,
whatever happens (E8, F3)."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from coordinator.core import commands as c
from coordinator.core.model import AttemptOutcome, DagState, TaskProfile, TaskState
from coordinator.core.outcome import Outcome
from coordinator.scheduling.mirror import Mirror
from coordinator.scheduling.snapshot import Snapshot
from tests.core.conftest import Driver
from tests.core.test_random_commands import Chaos
from tests.scheduling.clusters import Cluster, Followed, foreseen


def portrait(followed: Followed, snapshot: Snapshot) -> dict[str, object]:
    """What the snapshot says, by names instead of rows; of the waiting, those that may still be placed."""
    agents = snapshot.agents
    parts: dict[str, object] = {
        f"agent {agent_id}": (
            agents.specs[row],
            agents.epochs.item(row),
            agents.refusing[row],
            agents.accepting.item(row),
            agents.free[row].tolist(),
            agents.held.item(row),
            set(agents.held_attempts[row]),
        )
        for agent_id, row in agents.rows.items()
    }
    parts["running"] = {
        at: (agents.ids[live.row], live.profile.requirements.resources)
        for at, live in snapshot.running.items()
    }
    parts["began"] = {
        at: live.began_s
        for at, live in snapshot.running.items()
        if (task := followed.state.task(at[0])) is not None and task.live_attempt(at[1]) is not None
    }
    parts["shared"] = {key: len(live) for key, live in snapshot.running.shared().items()}
    waiting = {}
    for dag in followed.state.dags.values():
        for task in dag.tasks:
            found = snapshot.waiting.get(task.key)
            if found is not None and followed.mirror.placeable(task):
                profile, one = found
                waiting[task.key] = (profile, one.attempt, one.previous, one.hint, one.ready_ms)
    parts["waiting"] = waiting
    known = {dag.record.number for dag in followed.state.dags.values()}
    parts["foreseen"] = {task.key for task in snapshot.foreseen.tasks() if task.key >> 24 in known}
    return parts


def check(followed: Followed, now_ms: int) -> None:
    mine, rebuilt = followed.snapshot, followed.rebuild(now_ms)
    kept, made = portrait(followed, mine), portrait(followed, rebuilt)
    differ = {name: (kept.get(name), made.get(name)) for name in kept.keys() | made.keys()}
    assert {name: pair for name, pair in differ.items() if pair[0] != pair[1]} == {}
    state = followed.state
    placeable = {
        task.key for dag in state.dags.values() for task in dag.tasks if followed.mirror.placeable(task)
    }
    assert {key for key in placeable if key in mine.waiting} == placeable
    for agent_id, agent in state.agents.items():
        row = mine.agents.rows[agent_id]
        assert set(mine.agents.held_attempts[row]) == set(agent.held.items()) | agent.record.stopping.keys()
    assert np.isfinite(mine.agents.held_s).all()
    assert (mine.agents.held_s >= -1e-6).all()
    assert len(mine.running) == sum(len(held) for held in mine.agents.held_attempts)


class FollowedChaos(Chaos):
    """Random commands, each followed by the mirror."""

    def __init__(self, node: Driver) -> None:
        super().__init__(node)
        # None is brief: which are depends on what was learned, and a new leader has learned nothing.
        self.followed = Followed(node.state, brief_s=0.0)
        # Agents measure durations; what they say they lasted is drawn from all numbers.
        apply = node.apply

        def follow(*commands: c.Command, at_ms: int | None = None) -> Outcome:
            outcome = apply(*commands, at_ms=at_ms)
            self.followed.follow(outcome.effects, node.now_ms)
            check(self.followed, node.now_ms)
            return outcome

        node.apply = follow  # type: ignore[method-assign]


def test_it_follows_whatever_happens() -> None:
    class Fresh(FollowedChaos):
        def __init__(self) -> None:
            super().__init__(Driver(verify=False))

    examples = max(8, settings().max_examples // 6)
    run_state_machine_as_test(Fresh, settings=settings(max_examples=examples, stateful_step_count=40))


# --- by example ---------------------------------------------------------------------------------------------


def held(cluster: Cluster) -> set[tuple[int, int]]:
    return {at for at, _ in cluster.snapshot.running.items()}


def test_a_report_of_what_another_agent_has_changes_nothing() -> None:
    cluster = Cluster()
    cluster.join("a")
    cluster.join("b")
    cluster.submit({"x": []})
    cluster.begin("a", "x")
    cluster.report("b", cluster.task("x"), outcome=AttemptOutcome.FAILED)
    assert held(cluster) == {(cluster.task("x").key, 1)}
    check(cluster, cluster.now_ms)


def test_what_runs_since_when_outlives_the_leader() -> None:
    cluster = Cluster()
    cluster.join("a")
    cluster.submit({"x": []})
    cluster.begin("a", "x")
    began = [live.began_s for _, live in cluster.snapshot.running.items()]
    assert began == [cluster.now_s]
    cluster.now_ms += 5_000
    rebuilt = cluster.rebuild(cluster.now_ms).running
    assert [live.began_s for _, live in rebuilt.items()] == began


def test_a_successor_stays_foreseen_when_one_of_two_attempts_before_it_completes() -> None:
    cluster = Cluster()
    for name in ("a", "b", "e"):
        cluster.join(name)
    cluster.submit({"x": [], "y": [], "z": ["x", "y"]})
    cluster.begin("a", "x")
    cluster.begin("b", "y")
    cluster.give("e", "x", rival=True)
    key = cluster.task("z").key
    assert {task.key for task in cluster.snapshot.foreseen.tasks()} == {key}
    cluster.report("a", cluster.task("x"), attempt=1)
    assert {task.key for task in cluster.snapshot.foreseen.tasks()} == {key}
    cluster.report("e", cluster.task("x"), attempt=2, outcome=AttemptOutcome.CANCELLED)
    assert {task.key for task in cluster.snapshot.foreseen.tasks()} == {key}
    cluster.report("b", cluster.task("y"))
    assert not cluster.snapshot.foreseen.tasks()
    assert cluster.task("z").state is TaskState.READY


def test_nothing_is_left_of_a_dag_that_has_ended() -> None:
    cluster = Cluster()
    cluster.join("a")
    for number in range(5):
        dag_id = f"d{number}"
        cluster.submit({"x": [], "y": ["x"]}, dag_id=dag_id)
        task = cluster.task("x", dag_id)
        cluster.begin("a", "x", dag_id=dag_id)
        cluster.apply(c.CancelDag("", dag_id))
        cluster.report("a", task, outcome=AttemptOutcome.CANCELLED)
    assert not cluster.state.dags
    snapshot = cluster.snapshot
    assert not held(cluster)
    assert not len(snapshot.graphs)
    assert not snapshot.foreseen.tasks()
    assert not snapshot.foreseen._dags


def test_a_brief_attempt_counts_for_its_agent_alone() -> None:
    """It will have ended before anything could be made of how long it takes."""
    cluster = Cluster()
    cluster.join("a")
    cluster.submit({"x": []}, expected_ms={"x": 50})
    cluster.begin("a", "x")
    agents = cluster.snapshot.agents
    assert held(cluster) == set()
    assert list(agents.held_attempts[0]) == [(cluster.task("x").key, 1)]
    assert agents.held_s.item(0) == pytest.approx(0.05, rel=0.1)


def test_agents_that_are_not_back_since_the_leader_changed_take_nothing() -> None:
    cluster = Cluster()
    cluster.join("a")
    epoch = cluster.state.agents["a"].record.epoch
    snapshot = Snapshot()
    Mirror(lambda: cluster.state, snapshot, opened_after=epoch).sync_agent("a", 0.0)
    assert snapshot.agents.refusing[0] == "not back since the leader changed"
    assert not snapshot.agents.accepting[0]
    Mirror(lambda: cluster.state, snapshot, opened_after=epoch - 1).sync_agent("a", 0.0)
    assert snapshot.agents.accepting[0]


@pytest.mark.parametrize(
    ("command", "refusing"),
    [
        (c.DrainAgent("", "a"), "draining"),
        (c.CloseSession("a", 1, False), "disconnected"),
        (c.CloseSession("a", 1, True), "stopped"),
        (c.LoseAgents([("a", 1)], "silent"), "lost"),
    ],
)
def test_why_an_agent_takes_nothing_new(command: c.Command, refusing: str) -> None:
    cluster = Cluster()
    cluster.join("a")
    epoch = cluster.state.agents["a"].record.epoch
    if isinstance(command, c.CloseSession):
        command = msgspec.structs.replace(command, epoch=epoch)
    elif isinstance(command, c.LoseAgents):
        command = c.LoseAgents([("a", epoch)], "silent")
    if isinstance(command, c.LoseAgents):
        cluster.apply(c.CloseSession("a", epoch, False))
    cluster.apply(command)
    assert cluster.snapshot.agents.refusing == [refusing]
    check(cluster, cluster.now_ms)


def test_a_choice_that_is_on_its_way_stays_counted_and_one_that_is_refused_is_not() -> None:
    cluster = Cluster()
    cluster.join("a", slots=2)
    cluster.submit({"x": []})
    key = cluster.task("x").key
    cluster.mirror.proposed.add(("a", key, 1))
    cluster.mirror.hold("a", key, 1, cluster.now_s)
    cluster.mirror.sync_agent("a", cluster.now_s)
    assert held(cluster) == {(key, 1)}
    cluster.mirror.take_back("a", key, 1)
    assert not held(cluster)
    cluster.mirror.hold("a", key, 1, cluster.now_s)
    cluster.give("a", "x")
    cluster.mirror.take_back("a", key, 1)
    assert held(cluster) == {(key, 1)}, "it was carried out after all"


def test_ends_teach_what_tasks_take() -> None:
    cluster = Cluster()
    cluster.join("a")
    cluster.submit({f"t{at}": [] for at in range(30)}, TaskProfile("t"))
    for at in range(29):
        cluster.complete("a", f"t{at}", seconds=30.0)
    cluster.snapshot.estimates.renew()
    task = cluster.task("t29")
    assert cluster.snapshot.duration_s(task) == pytest.approx(30.0, rel=0.2)
    assert cluster.state.dags[task.key >> 24].record.state is DagState.RUNNING


def test_the_naive_lookup_of_what_is_foreseen_agrees() -> None:
    cluster = Cluster()
    cluster.join("a", slots=3)
    cluster.submit({"x": [], "y": [], "z": ["x", "y"], "w": ["x"]})
    cluster.give("a", "x")
    mine = {task.key for task in cluster.snapshot.foreseen.tasks()}
    assert mine == foreseen(cluster.snapshot, cluster.state) == {cluster.task("w").key}


def test_the_end_of_an_attempt_that_was_not_given_yet_takes_nothing_away() -> None:
    cluster = Cluster()
    cluster.join("a")
    cluster.submit({"x": []})
    task = cluster.task("x")
    early = c.AttemptReport(task.key, 1, c.ReportKind.ENDED, outcome=AttemptOutcome.REJECTED)
    given = c.Assign([cluster.choice("a", task)])
    cluster.apply(c.Report("a", cluster.epoch("a"), [early]), given)
    assert (task.key, 1) in held(cluster)


def test_a_second_attempt_of_what_has_completed_lets_nothing_be_foreseen() -> None:
    cluster = Cluster()
    for name in ("a", "b"):
        cluster.join(name)
    dag = cluster.submit({"x": [], "y": [], "z": []})
    cluster.begin("a", "x", "z")
    cluster.give("b", "x", rival=True)
    cluster.report("a", cluster.task("x"))
    added = [c.NewTask("w", TaskProfile("t"), ("x", "y"))]
    spawner = cluster.task("z")
    cluster.apply(c.SpawnTasks("", "a", cluster.epoch("a"), spawner.key, 1, added))
    assert dag.find("w") is not None
    assert cluster.snapshot.foreseen.tasks() == []
