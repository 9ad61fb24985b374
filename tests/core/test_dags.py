"""DAGs: submission, failure policies, durable cancel, sweeps in steps, staged submission, purge (B6, C2, C7,
F2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordinator.core import commands as c
from coordinator.core import transaction
from coordinator.core.appliers import dags
from coordinator.core.limits import SWEEP_STEP
from coordinator.core.model import (
    STATES,
    AttemptOutcome,
    Dag,
    DagHeader,
    DagRecord,
    DagState,
    FailurePolicy,
    TaskBlock,
    TaskExtras,
    TaskProfile,
)
from coordinator.core.outcome import DagChanged, DagEvent, Done, Refusal, Submitted, TaskEvent

if TYPE_CHECKING:
    from tests.core.conftest import Driver

_DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


def test_a_dag_runs_in_the_order_of_its_edges(node: Driver) -> None:
    """B6: a task is READY exactly when the last of its predecessors has completed."""
    node.join("w")
    outcome = node.submit("d", _DIAMOND)
    assert outcome.replies == [Submitted("d", 1, 4, node.index)]
    assert node.states("d") == {"a": "READY", "b": "PENDING", "c": "PENDING", "d": "PENDING"}
    node.complete("w", "d", "a", "b")
    assert node.states("d") == {"a": "COMPLETED", "b": "COMPLETED", "c": "READY", "d": "PENDING"}
    node.complete("w", "d", "c", "d")
    assert node.dag_state("d") == "COMPLETED"
    assert node.outcomes[-1].effects.gone == [1]
    assert DagEvent("d", DagState.COMPLETED) in node.outcomes[-1].events
    assert node.state.dags == {}


def test_dags_that_are_alike_share_what_says_so(node: Driver) -> None:
    """However many there are, it takes its memory once."""
    for dag_id in ("d", "e"):
        node.submit(dag_id, {"a": []})
    first, second = (node.state.dag(dag_id) for dag_id in ("d", "e"))
    assert first.tasks[0].profile is second.tasks[0].profile
    assert first.record.profiles[0] is second.record.profiles[0]


def test_an_id_is_taken_until_its_dag_is_purged(node: Driver) -> None:
    """C2: unfinished or finished; a DAG without an id is refused too."""
    node.join("w")
    again = node.submission("d", {"a": []})
    node.submit("d", {"a": []})
    assert node.refused(again) == "ALREADY_EXISTS"
    node.complete("w", "d", "a")
    assert node.refused(again) == "ALREADY_EXISTS"
    node.do(c.PurgeDags(["d"]))
    assert isinstance(node.do(again), Submitted)
    assert node.refused(node.submission("", {"a": []})) == "INVALID_REQUEST"


@pytest.mark.parametrize(
    "block",
    [
        TaskBlock(0, [], [], [], [], []),
        TaskBlock(0, ["a", "a"], [0, 0], [(), ()], [b"", b""], [0, 0]),
        TaskBlock(0, ["a"], [1], [()], [b""], [0]),
        TaskBlock(0, ["a"], [-1], [()], [b""], [0]),
        TaskBlock(0, ["a"], [0], [(0,)], [b""], [0]),
        TaskBlock(0, ["a", "b"], [0, 0], [(1,), ()], [b"", b""], [0, 0]),
        TaskBlock(0, ["a"], [0], [(-1,)], [b""], [0]),
        TaskBlock(0, ["a"], [0], [()], [b""], []),
        TaskBlock(1, ["a"], [0], [()], [b""], [0]),
        TaskBlock(0, ["a"], [0], [()], [b""], [0], {1: TaskExtras()}),
        TaskBlock(0, ["a"], [0], [()], [b""], [0], {-1: TaskExtras()}),
    ],
    ids=[
        "empty",
        "duplicate id",
        "unknown profile",
        "negative profile",
        "on itself",
        "cycle",
        "negative",
        "columns",
        "first",
        "extras-beyond",
        "extras-before",
    ],
)
def test_a_malformed_block_is_refused_and_leaves_nothing(node: Driver, block: TaskBlock) -> None:
    """C2: checked again in the machine, whoever proposed it."""
    before = dict(node.store.rows)
    for command in (
        c.SubmitDag("", DagHeader("d"), [node.profile()], block),
        c.StageDag("", DagHeader("d"), [node.profile()], block, True),
    ):
        reply = node.do(command)
        assert isinstance(reply, Refusal)
        assert reply.reason in ("INVALID_REQUEST", "WRONG_STATE")
    assert node.state.dags == {}
    assert {row for row in node.store.rows if row not in before} <= {("meta", b"machine")}


# --- failure policies ---------------------------------------------------------------------------------------


def test_continue_cancels_what_depends_on_the_failed_task_and_goes_on(node: Driver) -> None:
    """F2: with a reason that names the culprit; the DAG fails once all have ended."""
    node.join("w")
    node.submit("d", {"a": [], "b": ["a"], "c": ["b"], "x": [], "y": ["x"]})
    node.fail("w", "d", "a")
    assert node.states("d") == {
        "a": "FAILED",
        "b": "CANCELLED",
        "c": "CANCELLED",
        "x": "READY",
        "y": "PENDING",
    }
    assert node.task("d", "b").reason == "depends on a, which is FAILED"
    assert node.task("d", "c").reason == "depends on b, which is CANCELLED"
    node.complete("w", "d", "x", "y")
    assert node.dag_state("d") == "FAILED"


def test_fail_fast_stops_everything(node: Driver) -> None:
    """F2: running tasks are told to stop; the DAG's reason names the task."""
    node.join("w")
    node.submit("d", {"a": [], "b": ["a"], "x": [], "y": ["x"]}, failure_policy=FailurePolicy.FAIL_FAST)
    node.start("w", "d", "x")
    node.fail("w", "d", "a")
    assert node.outcomes[-1].effects.halt == [("w", 1 << 24 | 2, 1, "task a failed: boom")]
    assert node.states("d") == {"a": "FAILED", "b": "CANCELLED", "x": "CANCELLED", "y": "CANCELLED"}
    assert node.store.dag(1).record.reason == "task a failed: boom"
    assert node.dag_state("d") == "FAILED"


def test_a_cancelled_task_makes_a_cancelled_dag_unless_one_failed(node: Driver) -> None:
    """B6: the state of the DAG follows from its tasks."""
    node.join("w")
    node.submit("d", {"a": [], "b": []})
    node.do(c.CancelTask("", "d", "a"))
    node.complete("w", "d", "b")
    assert node.dag_state("d") == "CANCELLED"
    node.submit("e", {"a": [], "b": []})
    node.do(c.CancelTask("", "e", "a"))
    node.fail("w", "e", "b")
    assert node.dag_state("e") == "FAILED"


# --- cancel -------------------------------------------------------------------------------------------------


def test_a_cancelled_dag_halts_what_runs_and_refuses_what_comes_late(node: Driver) -> None:
    """B6, F3: the agent's slots stay taken until it says that it has stopped."""
    node.join("w", credit=2)
    node.submit("d", {"a": [], "b": [], "c": ["a"]})
    node.submit("e", {"z": []})
    node.start("w", "d", "a", "b")
    late = node.said("w", "d", "a", data=b"late")
    outcome = node.apply(c.CancelDag("", "d", "not needed"))
    assert outcome.replies == [DagChanged(DagState.CANCELLED)]
    assert [one[:2] for one in outcome.effects.halt] == [("w", 1 << 24), ("w", 1 << 24 | 1)]
    assert set(node.states("d").values()) == {"CANCELLED"}
    assert node.task("d", "c").reason == "not needed"
    assert node.assign("w", "e", "z") == Done(0)
    freed = node.apply(late)
    assert freed.replies == [Done(0)]
    assert freed.effects.acked == [("w", 1 << 24, 1)]
    assert not node.task("d", "a").has_result
    assert node.assign("w", "e", "z") == Done(1)


def test_cancel_is_idempotent_and_does_not_undo_an_end(node: Driver) -> None:
    """B6."""
    node.join("w")
    node.submit("d", {"a": []})
    assert node.do(c.CancelDag("", "d")) == node.do(c.CancelDag("", "d")) == DagChanged(DagState.CANCELLED)
    node.submit("e", {"a": []})
    node.complete("w", "e", "a")
    assert node.refused(c.CancelDag("", "e")) == "WRONG_STATE"
    assert node.refused(c.CancelDag("", "nothing")) == "NOT_FOUND"


def test_a_long_sweep_goes_on_in_later_entries_and_ends_the_dag(node: Driver) -> None:
    """B6: from the cancel on nothing of the DAG is placed, although most of it is still READY."""
    node.verify = False
    node.join("w")
    tasks = 2 * SWEEP_STEP + 1
    node.submit("d", {str(at): [] for at in range(tasks)})
    last = node.choice("w", "d", str(tasks - 1))
    outcome = node.apply(c.CancelDag("", "d"))
    assert outcome.replies == [DagChanged(DagState.RUNNING)]
    assert node.apply(c.Assign([last])).replies == [Done(0)]
    assert node.outcomes[-1].effects.ready == []
    steps = 0
    while outcome.effects.sweep:
        assert sum(isinstance(event, TaskEvent) for event in outcome.events) == SWEEP_STEP
        outcome = node.apply(c.SweepDag(outcome.effects.sweep[0]))
        steps += 1
    assert steps == 2
    assert node.dag_state("d") == "CANCELLED"
    assert node.do(c.SweepDag(1)) == Done(0)


def test_a_sweep_meets_failures_that_come_while_it_goes_on(
    node: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F2: a task that fails behind the sweep sends it back."""
    monkeypatch.setattr(transaction, "SWEEP_STEP", 2)
    node.join("w")
    node.submit("d", {"a": [], "b": [], "c": ["b"], "e": ["a"], "f": ["e"], "g": ["f"]})
    node.assign("w", "d", "b")
    node.fail("w", "d", "a")
    assert node.state.dags[1].record.sweep_from == 5
    node.do(node.said("w", "d", "b", retryable=False, outcome=AttemptOutcome.FAILED))
    assert node.states("d")["c"] == "CANCELLED"
    while node.outcomes[-1].effects.sweep:
        assert node.states("d")["g"] == "PENDING"
        node.do(c.SweepDag(1))
    assert node.dag_state("d") == "FAILED"


# --- staged -------------------------------------------------------------------------------------------------


def stage(
    node: Driver, first: int, graph: dict[str, list[str]], before: str = "", last: bool = False
) -> c.StageDag:
    """A part of the DAG "d"; `before` are the one-letter ids of the parts before."""
    profiles = [node.profile(timeout_ms=1_000 + first)]
    block = node.block(graph, first, list(before))
    return c.StageDag("", DagHeader("d"), profiles, block, last)


def test_a_staged_dag_is_released_by_its_last_part(node: Driver) -> None:
    """C7: until then nothing of it may be placed."""
    node.join("w")
    parts = [
        stage(node, 0, {"a": [], "b": []}),
        stage(node, 2, {"c": ["a"]}, "ab"),
        stage(node, 3, {"d": ["c", "b"], "e": []}, "abc", last=True),
    ]
    for part in parts[:2]:
        outcome = node.apply(part)
        assert isinstance(outcome.replies[0], Submitted)
        assert outcome.effects.ready == []
        assert node.assign("w", "d", "a") == Done(0)
    outcome = node.apply(parts[2])
    assert outcome.effects.ready == [node.key("d", one) for one in "abe"]
    node.complete("w", "d", *"abcde")
    assert node.dag_state("d") == "COMPLETED"


def test_what_parts_bring_is_not_looked_at_again_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """C7: a large DAG may have a profile for each of its tasks."""
    looked: list[TaskProfile] = []

    def noting(profile: TaskProfile) -> TaskProfile:
        looked.append(profile)
        return profile

    monkeypatch.setattr(dags, "shared", noting)
    dag = Dag(DagRecord(1, DagHeader("d"), [], DagState.STAGING, 0), [], [0] * STATES)
    for at in range(6):
        dag.record.profiles.append(TaskProfile("t", timeout_ms=1_000 + at))
        dags.append_tasks(dag, TaskBlock(at, [f"t{at}"], [at], [()], [b""], [0]))
    assert [task.profile.timeout_ms - 1_000 for task in dag.tasks] == [0, 1, 2, 3, 4, 5]
    assert len(looked) == 1


def test_each_part_brings_its_own_profiles(node: Driver) -> None:
    """C7: positions are those in the DAG's whole list."""
    node.do(stage(node, 0, {"a": []}))
    part = stage(node, 1, {"b": []}, "a", last=True)
    part.block.profiles = [1]
    node.do(part)
    assert [task.profile.timeout_ms for task in node.state.dags[1].tasks] == [1_000, 1_001]
    beyond = stage(node, 0, {"a": []})
    beyond.header = DagHeader("e")
    node.do(beyond)
    part = stage(node, 1, {"b": []}, "a")
    part.header, part.block.profiles = DagHeader("e"), [2]
    assert node.refused(part) == "INVALID_REQUEST"


def test_parts_out_of_order_are_refused(node: Driver) -> None:
    """C7: the refusal names the expected place, and the parts before stand."""
    assert node.refused(stage(node, 2, {"c": []}, "ab")) == "WRONG_STATE"
    node.do(stage(node, 0, {"a": [], "b": []}))
    assert node.refused(stage(node, 0, {"a": []})) == "ALREADY_EXISTS"
    assert node.refused(stage(node, 3, {"d": []}, "abc")) == "WRONG_STATE"
    assert node.refused(stage(node, 1, {"b": []}, "a")) == "WRONG_STATE"
    assert node.refused(stage(node, 2, {"b": []}, "ax")) == "DUPLICATE_TASK_ID"
    assert isinstance(node.do(stage(node, 2, {"c": ["b"]}, "ab", last=True)), Submitted)
    assert node.refused(stage(node, 3, {"d": []}, "abc")) == "WRONG_STATE"
    assert node.states("d") == {"a": "READY", "b": "READY", "c": "PENDING"}


@pytest.mark.parametrize("command", [c.DropStaged("d", "broken off"), c.CancelDag("", "d", "broken off")])
def test_a_broken_off_submission_can_be_removed(node: Driver, command: c.DropStaged | c.CancelDag) -> None:
    """C7: it ends as CANCELLED; a released one cannot be dropped."""
    node.do(stage(node, 0, {"a": [], "b": ["a"]}))
    node.do(command)
    assert node.dag_state("d") == "CANCELLED"
    assert set(node.states("d").values()) == {"CANCELLED"}
    assert node.task("d", "a").reason == "broken off"
    node.submit("e", {"a": []})
    assert node.refused(c.DropStaged("e", "")) == "NOT_FOUND"
    assert node.refused(c.DropStaged("d", "")) == "NOT_FOUND"


def test_a_part_that_depends_on_a_cancelled_task_is_cancelled(node: Driver) -> None:
    """C7: a task of a staged DAG may be cancelled before its dependants have arrived."""
    node.join("w")
    node.do(stage(node, 0, {"a": [], "b": []}))
    node.do(c.CancelTask("", "d", "a"))
    node.do(stage(node, 2, {"c": ["a"], "e": ["b"]}, "ab"))
    node.do(stage(node, 4, {"f": ["c"]}, "abce", last=True))
    assert node.states("d") == {
        "a": "CANCELLED",
        "b": "READY",
        "c": "CANCELLED",
        "e": "PENDING",
        "f": "CANCELLED",
    }
    node.complete("w", "d", "b", "e")
    assert node.dag_state("d") == "CANCELLED"


def test_a_staged_dag_whose_every_task_is_cancelled_ends_when_it_is_released(node: Driver) -> None:
    """C7: not before, since more may come."""
    node.do(stage(node, 0, {"a": []}))
    node.do(c.CancelTask("", "d", "a"))
    assert node.dag_state("d") == "STAGING"
    node.do(stage(node, 1, {"b": ["a"]}, "a", last=True))
    assert node.dag_state("d") == "CANCELLED"


# --- purge --------------------------------------------------------------------------------------------------


def test_purge_removes_everything_of_a_finished_dag_and_nothing_else(node: Driver) -> None:
    """B6: results and checkpoints too; an unfinished DAG is not touched."""
    node.join("w")
    for dag_id in ("d", "e", "f"):
        node.submit(dag_id, {"a": [], "b": ["a"]})
        node.start("w", dag_id, "a")
        node.do(node.said("w", dag_id, "a", c.ReportKind.CHECKPOINT, data=b"half"))
        node.do(node.said("w", dag_id, "a", data=b"whole"))
    for dag_id in ("d", "e"):
        node.complete("w", dag_id, "b")
    kept = {number: node.store.of_dag(number) for number in (1, 3)}
    assert node.store.of_dag(2)
    assert node.do(c.PurgeDags(["e", "f", "nothing", "e"])) == Done(1)
    assert node.store.of_dag(2) == []
    assert {number: node.store.of_dag(number) for number in (1, 3)} == kept
    assert list(node.state.finished) == ["d"]


def test_a_dag_that_ends_and_is_purged_in_one_entry_leaves_nothing(node: Driver) -> None:
    """B6: the order of writes is that of the commands."""
    node.join("w")
    node.submit("d", {"a": []})
    node.assign("w", "d", "a")
    node.apply(node.said("w", "d", "a", data=b"x"), c.PurgeDags(["d"]))
    assert node.store.of_dag(1) == []
    assert node.state.finished == {}
