"""A running attempt adds tasks to its own DAG (B7, F3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordinator.core import commands as c
from coordinator.core.model import DagHeader, TaskExtras, TaskProfile
from coordinator.core.outcome import Done, Refusal, Submitted

if TYPE_CHECKING:
    from tests.core.conftest import Driver


@pytest.fixture
def parent(node: Driver) -> Driver:
    """The agent "w" runs "p" of the DAG "d"; "q" waits for it, "r" is READY."""
    node.join("w")
    node.submit("d", {"p": [], "q": ["p"], "r": []})
    node.start("w", "d", "p")
    return node


def spawn(node: Driver, *tasks: c.NewTask, request_id: str = "", parent: str = "p") -> c.SpawnTasks:
    """The parent's last attempt adds these tasks."""
    task = node.task("d", parent)
    return c.SpawnTasks(request_id, "w", node.epoch("w"), task.key, task.attempt, list(tasks))


def new(name: str, *depends_on: str, profile: TaskProfile | None = None) -> c.NewTask:
    """A task to add."""
    return c.NewTask(name, profile or TaskProfile("noop"), depends_on)


def test_added_tasks_run_as_their_dependencies_say(parent: Driver) -> None:
    """B7: on completed, on running, on new ones, on none; the DAG waits for them."""
    parent.complete("w", "d", "r")
    tasks = [new("s", "r"), new("t"), new("u", "p", "t"), new("v", "q", "q")]
    outcome = parent.apply(spawn(parent, *tasks))
    assert outcome.replies == [Done(4)]
    assert outcome.effects.ready == [parent.key("d", "s"), parent.key("d", "t")]
    expected = {"p": "RUNNING", "q": "PENDING", "r": "COMPLETED"}
    assert parent.states("d") == {**expected, "s": "READY", "t": "READY", "u": "PENDING", "v": "PENDING"}
    parent.do(parent.said("w", "d", "p"))
    parent.complete("w", "d", "s", "t", "u", "q")
    assert parent.dag_state("d") == "RUNNING"
    parent.complete("w", "d", "v")
    assert parent.dag_state("d") == "COMPLETED"


def test_what_depends_on_a_failed_task_is_cancelled_at_once(parent: Driver) -> None:
    """B7, F2."""
    parent.fail("w", "d", "r")
    parent.do(spawn(parent, new("s", "r"), new("t", "s"), new("u")))
    states = parent.states("d")
    assert (states["s"], states["t"], states["u"]) == ("CANCELLED", "CANCELLED", "READY")
    assert parent.task("d", "s").reason == "depends on r, which is FAILED"


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ([new("p")], "DUPLICATE_TASK_ID"),
        ([new("s"), new("s")], "DUPLICATE_TASK_ID"),
        ([new("s", "nothing")], "UNKNOWN_DEPENDENCY"),
        ([new("s", "s")], "UNKNOWN_DEPENDENCY"),
        ([new("s", "t"), new("t")], "UNKNOWN_DEPENDENCY"),
        ([], "LIMIT_EXCEEDED"),
    ],
)
def test_a_wrong_list_is_refused_whole(parent: Driver, tasks: list[c.NewTask], reason: str) -> None:
    """B7, C2: nothing of it is added, not even its profiles."""
    other = TaskProfile("other")
    changed = [c.NewTask(one.id, other, one.depends_on) for one in tasks]
    assert parent.refused(spawn(parent, *changed)) == reason
    assert len(parent.state.dags[1].tasks) == 3
    assert len(parent.state.dags[1].record.profiles) == 1


def test_a_superseded_parent_adds_nothing(parent: Driver) -> None:
    """F3: by attempt, by session, by agent, by end."""
    good = spawn(parent, new("s"))
    for agent, epoch, attempt in [("v", good.epoch, 1), ("w", good.epoch + 1, 1), ("w", good.epoch, 2)]:
        stale = c.SpawnTasks("", agent, epoch, good.parent, attempt, good.tasks)
        assert parent.refused(stale) == "STALE_FENCE"
    parent.do(c.RescheduleTask("", "d", "p"))
    assert parent.refused(good) == "STALE_FENCE"
    parent.complete("w", "d", "p")
    assert parent.refused(good) == "STALE_FENCE"


def test_a_retry_of_the_request_adds_nothing_more(parent: Driver) -> None:
    """B4, B7: even when the parent has ended meanwhile."""
    request = spawn(parent, new("s"), request_id="r1")
    assert parent.do(request) == Done(1)
    parent.do(parent.said("w", "d", "p"))
    assert parent.do(request) == Done(1)
    assert len(parent.state.dags[1].tasks) == 4


def test_a_dag_that_is_being_ended_takes_no_more(parent: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """B6, B7: cancel is durable, though the sweep has not reached the parent."""
    monkeypatch.setattr("coordinator.core.transaction.SWEEP_STEP", 1)
    parent.submit("e", {"x": [], "p": []})
    parent.start("w", "e", "p")
    parent.do(c.CancelDag("", "e"))
    task = parent.task("e", "p")
    request = c.SpawnTasks("", "w", parent.epoch("w"), task.key, 1, [new("s")])
    assert parent.refused(request) == "WRONG_STATE"


def test_profiles_are_shared_even_where_the_dag_lists_one_twice(node: Driver) -> None:
    """B7: each added task has the profile that it asked for."""
    node.join("w")
    twice = [node.profile(), node.profile()]
    node.do(c.SubmitDag("", DagHeader("d"), twice, node.block({"p": []})))
    node.start("w", "d", "p")
    wanted = [TaskProfile("x"), TaskProfile("noop"), TaskProfile("y"), TaskProfile("x")]
    names = [f"s{at}" for at in range(len(wanted))]
    tasks = [new(name, profile=profile) for name, profile in zip(names, wanted, strict=True)]
    node.do(spawn(node, *tasks))
    assert [node.task("d", name).profile for name in names] == wanted
    assert node.state.dags[1].record.profiles == [*twice, TaskProfile("x"), TaskProfile("y")]


def test_a_command_that_two_nodes_share_stays_as_it_was(parent: Driver) -> None:
    """B7: nodes in one process may apply the very same objects."""
    command = parent.submission("e", {"p": []})
    assert isinstance(parent.do(command), Submitted)
    parent.start("w", "e", "p")
    task = parent.task("e", "p")
    extras = TaskExtras(labels=(("k", "v"),))
    added = c.NewTask("s", TaskProfile("x"), extras=extras)
    assert parent.do(c.SpawnTasks("", "w", parent.epoch("w"), task.key, 1, [added])) == Done(1)
    assert len(command.profiles) == 1
    assert not isinstance(parent.outcomes[-1].replies[0], Refusal)
