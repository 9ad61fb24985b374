"""Attempts: retries, timeouts, fencing, races between an end and whatever supersedes it (B4, B5, B6, F2,
F3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordinator.core import commands as c
from coordinator.core.answers import ResultRecord
from coordinator.core.limits import ATTEMPTS_KEPT, LOST_ATTEMPTS
from coordinator.core.model import AttemptOutcome, Backoff, TaskState
from coordinator.core.outcome import Done, Refusal, Table, TaskChanged, TaskEvent

if TYPE_CHECKING:
    from tests.core.conftest import Driver

START = c.ReportKind.STARTED


def outcomes(node: Driver, dag_id: str, task_id: str) -> list[str]:
    """How the attempts of the task ended."""
    return [attempt.outcome.name for attempt in node.task(dag_id, task_id).attempts]


def test_a_task_goes_through_its_life_and_every_step_is_told(node: Driver) -> None:
    """B5, B6: READY, ASSIGNED, RUNNING, COMPLETED with times and agent; the result is kept."""
    node.join("w")
    assert node.submit("d", {"a": [], "b": ["a"]}).effects.ready == [node.key("d", "a")]
    key = node.key("d", "a")
    given = node.apply(c.Assign([node.choice("w", "d", "a")]))
    assert given.effects.dispatch == [("w", key, 1)]
    node.now_ms += 5
    begun = node.apply(node.said("w", "d", "a", START))
    assert begun.effects.expire_at == [(node.now_ms + 300_000, key, 1)]
    node.now_ms += 7
    ended = node.apply(node.said("w", "d", "a", data=b"result", duration_us=7_000))
    assert ended.effects.ready == [node.key("d", "b")]
    assert ended.effects.acked == [("w", key, 1)]
    assert ended.effects.ended == [(key, 1, "w", 7_000)]
    assert ended.events == [
        TaskEvent("d", "a", TaskState.COMPLETED, 1, "w", ""),
        TaskEvent("d", "b", TaskState.READY, 0, "", ""),
    ]
    (attempt,) = node.task("d", "a").attempts
    at = node.now_ms
    assert (attempt.assigned_ms, attempt.started_ms, attempt.ended_ms) == (at - 12, at - 7, at)
    assert node.store.get(Table.RESULT, key.to_bytes(8, "big"), ResultRecord).data == b"result"
    node.complete("w", "d", "b")
    assert node.dag_state("d") == "COMPLETED"
    assert node.state.agents["w"].stats.completed == 2


def test_an_attempt_that_is_told_of_by_its_end_alone_has_a_start_and_no_timeout(node: Driver) -> None:
    """B6: what has ended needs no watch."""
    node.join("w")
    node.submit("d", {"a": []})
    node.apply(c.Assign([node.choice("w", "d", "a")]))
    node.now_ms += 12
    ended = node.apply(node.said("w", "d", "a", duration_us=7_000))
    assert ended.effects.expire_at == []
    assert [event.state.name for event in ended.events[:2]] == ["RUNNING", "COMPLETED"]
    (attempt,) = node.task("d", "a").attempts
    assert (attempt.started_ms, attempt.ended_ms) == (node.now_ms - 7, node.now_ms)


def test_the_first_tasks_of_a_dag_are_assigned_in_its_own_entry_and_of_no_other_dag(node: Driver) -> None:
    """A1, E4: by their index, since nobody knew the number of the DAG; one that was there before, or that is
    refused, has nothing assigned by that."""
    node.join("w", credit=9)

    def roots(submission: str, *indices: int) -> c.AssignRoots:
        return c.AssignRoots(submission, [c.Choice(at, 1, "w", node.epoch("w")) for at in indices])

    made = node.apply(
        node.submission("d", {"a": [], "b": [], "c": ["a"]}, request_id="r"), roots("r", 0, 2, -1, 9)
    )
    assert made.replies[1] == Done(1)
    assert made.effects.dispatch == [("w", node.key("d", "a"), 1)]
    states = {one: node.task("d", one).state.name for one in "abc"}
    assert states == {"a": "ASSIGNED", "b": "READY", "c": "PENDING"}
    assert node.do(roots("r", 1)) == Done(0)
    again = node.apply(node.submission("d", {"a": []}, request_id="other"), roots("other", 1))
    assert isinstance(again.replies[0], Refusal)
    assert again.replies[1] == Done(0)
    assert node.task("d", "b").state is TaskState.READY


def test_an_end_without_a_start_counts_from_its_duration(node: Driver) -> None:
    """B5: a short task reports its end alone; it was RUNNING all the same."""
    node.join("w")
    node.submit("d", {"a": [], "b": []})
    node.assign("w", "d", "a")
    node.now_ms += 50
    outcome = node.apply(node.said("w", "d", "a", duration_us=20_000))
    assert [one.state.name for one in outcome.events] == ["RUNNING", "COMPLETED"]
    assert node.task("d", "a").attempts[-1].started_ms == node.now_ms - 20


@pytest.mark.parametrize("duration_us", [-(2**63), 2**64 - 1])
def test_an_absurd_duration_stays_within_the_attempt(node: Driver, duration_us: int) -> None:
    """B5: an agent's clock cannot put the start before the assignment or after the end."""
    node.join("w")
    node.submit("d", {"a": [], "b": []})
    node.assign("w", "d", "a")
    node.now_ms += 50
    node.apply(node.said("w", "d", "a", duration_us=duration_us))
    (attempt,) = node.task("d", "a").attempts
    assert attempt.assigned_ms <= attempt.started_ms <= attempt.ended_ms


# --- retries ------------------------------------------------------------------------------------------------


def test_a_failed_attempt_is_repeated_after_its_delay(node: Driver) -> None:
    """B4, F2: exponential; never early, and once for each wake."""
    node.join("w")
    policy = node.profile(max_attempts=4, backoff=Backoff.EXPONENTIAL, delay_ms=100, max_delay_ms=60_000)
    node.submit("d", {"a": []}, policy)
    key = node.key("d", "a")
    for delay in (100, 200, 400):
        node.fail("w", "d", "a")
        assert node.outcomes[-1].effects.wake_at == [(node.now_ms + delay, key)]
        assert node.states("d") == {"a": "PENDING"}
        node.now_ms += delay - 1
        assert node.do(c.WakeTasks([key])) == Done(0)
        assert node.outcomes[-1].effects.wake_at == [(node.now_ms + 1, key)]
        node.now_ms += 1
        assert node.do(c.WakeTasks([key, key])) == Done(1)
        assert node.outcomes[-1].effects.ready == [key]
    node.fail("w", "d", "a", "the last")
    assert node.states("d") == {"a": "FAILED"}
    assert node.task("d", "a").reason == "the last"
    assert node.dag_state("d") == "FAILED"
    assert node.state.agents["w"].stats.failed == 4


def test_what_cannot_succeed_is_not_repeated(node: Driver) -> None:
    """F2: an error that the handler declares final."""
    node.join("w")
    node.submit("d", {"a": []}, node.profile(max_attempts=5))
    node.fail("w", "d", "a", retryable=False)
    assert outcomes(node, "d", "a") == ["FAILED"]
    assert node.states("d") == {"a": "FAILED"}


def test_a_clock_that_stands_at_zero_still_tells_ended_from_not_yet(node: Driver) -> None:
    """B5: a time of 0 means not yet, so no entry has it."""
    node.now_ms = 0
    node.join("w")
    node.submit("d", {"a": [], "b": []})
    node.complete("w", "d", "a")
    task = node.task("d", "a")
    assert (task.ready_ms, task.ended_ms, task.attempts[0].started_ms) == (1, 1, 1)


@pytest.mark.parametrize("max_attempts", [-5, 0, 1])
def test_at_least_one_attempt_is_made(node: Driver, max_attempts: int) -> None:
    """B4."""
    node.join("w")
    node.submit("d", {"a": []}, node.profile(max_attempts=max_attempts))
    node.fail("w", "d", "a")
    assert outcomes(node, "d", "a") == ["FAILED"]


def test_a_negative_delay_is_none(node: Driver) -> None:
    """B4: the task must not wait for ever."""
    node.join("w")
    node.submit("d", {"a": []}, node.profile(max_attempts=2, delay_ms=-(2**63)))
    node.fail("w", "d", "a")
    assert node.states("d") == {"a": "READY"}


def test_a_task_that_loses_its_agents_again_and_again_fails(node: Driver) -> None:
    """F2: LOST and REJECTED attempts use up nothing of the policy, and have a bound of their own."""
    node.join("w")
    node.submit("d", {"a": []}, node.profile(max_attempts=1))
    for turn in range(LOST_ATTEMPTS):
        assert node.states("d") == {"a": "READY"}
        node.assign("w", "d", "a")
        if turn % 2:
            node.do(node.said("w", "d", "a", outcome=AttemptOutcome.REJECTED))
        else:
            node.join("w")
    assert node.states("d") == {"a": "FAILED"}
    assert set(outcomes(node, "d", "a")) == {"LOST", "REJECTED"}
    assert f"{LOST_ATTEMPTS} attempts" in node.task("d", "a").reason
    assert node.task("d", "a").failures == 0


def test_the_record_of_attempts_is_bounded(node: Driver) -> None:
    """B5: the oldest go first, and the numbers go on."""
    node.join("w", credit=100)
    node.submit("d", {"a": []}, node.profile(max_attempts=100))
    for _ in range(ATTEMPTS_KEPT + 5):
        node.fail("w", "d", "a")
    attempts = node.task("d", "a").attempts
    assert [one.number for one in attempts] == list(range(6, ATTEMPTS_KEPT + 6))


# --- timeouts -----------------------------------------------------------------------------------------------


def test_a_timeout_ends_the_attempt_that_really_ran_too_long(node: Driver) -> None:
    """B4, F2: from its start, not from its assignment; the agent is told to stop and its slot stays taken."""
    node.join("w")
    node.submit("d", {"a": []}, node.profile(timeout_ms=1_000, max_attempts=2))
    key = node.key("d", "a")
    node.assign("w", "d", "a")
    node.now_ms += 5_000
    assert node.do(c.ExpireAttempts([(key, 1)])) == Done(0)
    node.do(node.said("w", "d", "a", START))
    node.now_ms += 999
    assert node.do(c.ExpireAttempts([(key, 1)])) == Done(0)
    assert node.outcomes[-1].effects.expire_at == [(node.now_ms + 1, key, 1)]
    node.now_ms += 1
    outcome = node.apply(c.ExpireAttempts([(key, 2), (key, 1), (key, 1), (key + 7, 1)]))
    assert outcome.replies == [Done(1)]
    assert [one[:3] for one in outcome.effects.halt] == [("w", key, 1)]
    assert outcomes(node, "d", "a") == ["TIMED_OUT"]
    assert node.states("d") == {"a": "READY"}
    assert list(node.state.agents["w"].record.stopping) == [(key, 1)]


def test_an_expiry_that_comes_after_the_end_changes_nothing(node: Driver) -> None:
    """B4: nor does one that names an attempt before the present one."""
    node.join("w")
    node.submit("d", {"a": [], "b": []}, node.profile(timeout_ms=10, max_attempts=3))
    node.start("w", "d", "a", "b")
    node.do(node.said("w", "d", "a"))
    node.do(node.said("w", "d", "b", outcome=AttemptOutcome.FAILED))
    node.start("w", "d", "b")
    node.now_ms += 60_000
    assert node.do(c.ExpireAttempts([(node.key("d", "a"), 1), (node.key("d", "b"), 1)])) == Done(0)
    assert node.states("d") == {"a": "COMPLETED", "b": "RUNNING"}


# --- fencing ------------------------------------------------------------------------------------------------


def test_the_end_of_a_superseded_attempt_is_refused_and_acknowledged(node: Driver) -> None:
    """F3: by its number, however it ended; the new attempt is what counts."""
    node.join("w")
    node.submit("d", {"a": [], "b": ["a"]}, node.profile(timeout_ms=10, max_attempts=3))
    key = node.key("d", "a")
    node.start("w", "d", "a")
    node.now_ms += 10
    node.do(c.ExpireAttempts([(key, 1)]))
    node.assign("w", "d", "a")
    late = node.apply(node.said("w", "d", "a", attempt=1, data=b"stale"))
    assert late.replies == [Done(0)]
    assert late.effects.acked == [("w", key, 1)]
    assert node.states("d") == {"a": "ASSIGNED", "b": "PENDING"}
    assert node.state.agents["w"].record.stopping == {}
    node.do(node.said("w", "d", "a", data=b"good"))
    assert node.apply(node.said("w", "d", "a", data=b"again")).replies == [Done(0)]
    assert node.store.get(Table.RESULT, key.to_bytes(8, "big"), ResultRecord).data == b"good"
    assert outcomes(node, "d", "a") == ["TIMED_OUT", "COMPLETED"]


def test_a_report_of_a_superseded_session_is_refused_whole(node: Driver) -> None:
    """F3: by its epoch."""
    node.join("w")
    node.submit("d", {"a": [], "b": []})
    node.start("w", "d", "a")
    old = node.said("w", "d", "a")
    node.join("w", held=[(node.key("d", "a"), 1)])
    outcome = node.apply(old)
    assert isinstance(outcome.replies[0], Refusal)
    assert outcome.replies[0].reason == "STALE_FENCE"
    assert outcome.effects.acked == []
    assert node.states("d") == {"a": "RUNNING", "b": "READY"}
    assert node.refused(c.Report("nobody", 1, [])) == "STALE_FENCE"


def test_an_agent_cannot_end_what_another_holds(node: Driver) -> None:
    """F3: the end is acknowledged, so that it is forgotten, and changes nothing."""
    node.join("w")
    node.join("x")
    node.submit("d", {"a": []})
    node.start("w", "d", "a")
    outcome = node.apply(node.said("x", "d", "a", data=b"stolen"))
    assert outcome.replies == [Done(0)]
    assert outcome.effects.acked == [("x", node.key("d", "a"), 1)]
    assert node.states("d") == {"a": "RUNNING"}


def test_progress_and_checkpoints_are_kept(node: Driver) -> None:
    """B6: a fraction, of each attempt anew; what is none is ignored."""
    node.join("w")
    node.submit("d", {"a": []})
    node.start("w", "d", "a")
    for said in (0.25, float("nan"), -1.0, 1.5):
        node.do(node.said("w", "d", "a", c.ReportKind.PROGRESS, progress=said))
        assert node.task("d", "a").progress == 0.25
    node.do(node.said("w", "d", "a", c.ReportKind.CHECKPOINT, data=b"half"))
    assert node.task("d", "a").has_checkpoint
    assert node.store.rows[Table.CHECKPOINT, node.key("d", "a").to_bytes(8, "big")] == b"half"
    node.do(c.RescheduleTask("", "d", "a"))
    node.assign("w", "d", "a")
    assert (node.task("d", "a").progress, node.task("d", "a").has_checkpoint) == (0.0, True)


# --- cancel and reschedule ----------------------------------------------------------------------------------


def test_completion_before_cancel_stands(node: Driver) -> None:
    """B6, F3: the first to be recorded wins."""
    node.join("w")
    node.submit("d", {"a": [], "b": []})
    node.start("w", "d", "a")
    outcome = node.apply(node.said("w", "d", "a"), c.CancelTask("", "d", "a"))
    assert isinstance(outcome.replies[1], Refusal)
    assert outcome.replies[1].reason == "WRONG_STATE"
    assert node.states("d")["a"] == "COMPLETED"


def test_cancel_before_completion_stands(node: Driver) -> None:
    """B6, F3: the late completion is refused and acknowledged, and frees the slot."""
    node.join("w")
    node.submit("d", {"a": [], "b": [], "c": ["a"]})
    node.start("w", "d", "a")
    outcome = node.apply(c.CancelTask("", "d", "a", "no more"), node.said("w", "d", "a", data=b"late"))
    assert outcome.replies == [TaskChanged(node.task("d", "a").state), Done(0)]
    assert [one[:3] for one in outcome.effects.halt] == [("w", node.key("d", "a"), 1)]
    assert outcome.effects.acked == [("w", node.key("d", "a"), 1)]
    assert node.states("d") == {"a": "CANCELLED", "b": "READY", "c": "CANCELLED"}
    assert not node.task("d", "a").has_result
    assert node.state.agents["w"].record.stopping == {}
    assert node.do(c.CancelTask("", "d", "a")) == TaskChanged(node.task("d", "a").state)


def test_a_rescheduled_task_leaves_its_agent_and_uses_up_nothing(node: Driver) -> None:
    """B6: the next attempt may go anywhere."""
    node.join("w")
    node.join("x")
    node.submit("d", {"a": []})
    node.start("w", "d", "a")
    outcome = node.apply(c.RescheduleTask("", "d", "a", "slow"))
    assert [one[:3] for one in outcome.effects.halt] == [("w", node.key("d", "a"), 1)]
    assert node.states("d") == {"a": "READY"}
    node.assign("x", "d", "a")
    assert node.do(node.said("w", "d", "a", attempt=1)) == Done(0)
    node.do(node.said("x", "d", "a"))
    assert node.dag_state("d") == "COMPLETED"
    assert outcomes(node, "d", "a") == ["RESCHEDULED", "COMPLETED"]


def test_reschedule_ends_the_wait_for_another_attempt(node: Driver) -> None:
    """B6: and what waits for other tasks, or has ended, is refused."""
    node.join("w")
    node.submit("d", {"a": [], "b": ["a"]}, node.profile(max_attempts=2, delay_ms=60_000))
    node.fail("w", "d", "a")
    assert node.states("d")["a"] == "PENDING"
    node.do(c.RescheduleTask("", "d", "a"))
    assert node.states("d")["a"] == "READY"
    assert node.do(c.RescheduleTask("", "d", "a")) == TaskChanged(node.task("d", "a").state)
    assert node.refused(c.RescheduleTask("", "d", "b")) == "WRONG_STATE"
    node.complete("w", "d", "a")
    assert node.refused(c.RescheduleTask("", "d", "a")) == "WRONG_STATE"


@pytest.mark.parametrize("command", [c.CancelTask, c.RescheduleTask])
def test_what_is_not_there_is_not_found(
    node: Driver, command: type[c.CancelTask] | type[c.RescheduleTask]
) -> None:
    """B6: and a DAG that has ended is told apart from one that never was."""
    node.join("w")
    node.submit("d", {"a": []})
    assert node.refused(command("", "nothing", "a")) == "NOT_FOUND"
    assert node.refused(command("", "d", "nothing")) == "NOT_FOUND"
    node.complete("w", "d", "a")
    assert node.refused(command("", "d", "a")) == "WRONG_STATE"


def test_a_long_reason_is_cut(node: Driver) -> None:
    """B6: an error message has a bound."""
    node.join("w")
    node.submit("d", {"a": []})
    node.fail("w", "d", "a", "x" * 100_000)
    task = node.task("d", "a")
    assert len(task.reason) == len(task.attempts[0].reason) == 2_000
