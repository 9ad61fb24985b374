"""Two attempts of a task at once, attempts that are recalled and preempted (E4, E8, F2, F3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordinator.core import commands as c
from coordinator.core.answers import ResultRecord
from coordinator.core.limits import ATTEMPTS_KEPT, LOST_ATTEMPTS
from coordinator.core.model import AttemptOutcome, TaskState
from coordinator.core.outcome import Done, Refusal, SessionOpened, Table, TaskChanged, TaskEvent

if TYPE_CHECKING:
    from tests.core.conftest import Driver

START = c.ReportKind.STARTED
FAILED = AttemptOutcome.FAILED


@pytest.fixture
def pair(node: Driver) -> Driver:
    """Task "a" of the DAG "d" runs on "v" as attempt 1 and waits on "w" as attempt 2; "u" is free, and "b"
    waits for "a"."""
    for agent in "uvw":
        node.join(agent)
    node.submit("d", {"a": [], "b": ["a"]}, node.profile(max_attempts=2, timeout_ms=1_000))
    node.start("v", "d", "a")
    assert node.do(rival(node, "w")) == Done(1)
    return node


def rival(node: Driver, agent: str) -> c.Assign:
    """Another attempt of "a", on this agent."""
    return c.Assign([node.choice(agent, "d", "a", rival=True)])


def said(
    node: Driver, agent: str, attempt: int, kind: c.ReportKind = c.ReportKind.ENDED, **fields: Any
) -> Any:
    """What the agent says of its attempt of "a"."""
    return node.said(agent, "d", "a", kind, attempt=attempt, **fields)


def live(node: Driver) -> list[tuple[int, str]]:
    """Who holds "a"."""
    return [(attempt.number, attempt.agent) for attempt in node.task("d", "a").live]


def outcomes(node: Driver) -> list[str]:
    """How the attempts of "a" ended."""
    return [attempt.outcome.name for attempt in node.task("d", "a").attempts]


# --- rivals -------------------------------------------------------------------------------------------------


def test_a_rival_begins_beside_the_attempt_that_runs(pair: Driver) -> None:
    """F2: with a fence, a start and a timeout of its own; the state of the task stays."""
    key = pair.key("d", "a")
    given = pair.outcomes[-1]
    assert (given.effects.dispatch, given.events) == ([("w", key, 2)], [])
    assert live(pair) == [(1, "v"), (2, "w")]
    assert pair.states("d") == {"a": "RUNNING", "b": "PENDING"}
    pair.now_ms += 400
    begun = pair.apply(said(pair, "w", 2, START))
    assert begun.effects.expire_at == [(pair.now_ms + 1_000, key, 2)]
    pair.now_ms += 600
    assert pair.do(c.ExpireAttempts([(key, 1), (key, 2)])) == Done(1)
    assert outcomes(pair) == ["TIMED_OUT", "LIVE"]
    pair.now_ms += 400
    assert pair.do(c.ExpireAttempts([(key, 2)])) == Done(1)
    assert (outcomes(pair), pair.task("d", "a").failures) == (["TIMED_OUT", "TIMED_OUT"], 1)
    assert pair.states("d")["a"] == "READY"


@pytest.mark.parametrize(("first", "agent", "other"), [(1, "v", "w"), (2, "w", "v")])
def test_the_first_to_complete_wins_and_the_other_is_told_to_stop(
    pair: Driver, first: int, agent: str, other: str
) -> None:
    """F2, F3: one result; the other's comes too late, is acknowledged, and no failure of its agent."""
    key = pair.key("d", "a")
    won = pair.apply(said(pair, agent, first, data=b"won"))
    assert won.effects.halt == [(other, key, 3 - first, f"attempt {first} on {agent} completed first")]
    ends = [event for event in won.events if isinstance(event, TaskEvent) and event.task_id == "a"]
    assert (ends[-1].state, ends[-1].attempt, ends[-1].agent) == (TaskState.COMPLETED, first, agent)
    assert sorted(outcomes(pair)) == ["COMPLETED", "SUPERSEDED"]
    assert pair.states("d") == {"a": "COMPLETED", "b": "READY"}
    late = pair.apply(said(pair, other, 3 - first, data=b"late"))
    assert (late.replies, late.effects.acked) == ([Done(0)], [(other, key, 3 - first)])
    assert pair.store.get(Table.RESULT, key.to_bytes(8, "big"), ResultRecord).data == b"won"
    stats = {name: (one.stats.completed, one.stats.failed) for name, one in pair.state.agents.items()}
    assert stats == {"u": (0, 0), agent: (1, 0), other: (0, 0)}
    assert not pair.state.agents[other].record.stopping


@pytest.mark.parametrize("retryable", [True, False])
def test_one_that_fails_leaves_the_task_to_the_other(pair: Driver, *, retryable: bool) -> None:
    """F2: no retry, and nothing of the retry policy is used up; RUNNING is a task that an attempt runs of."""
    failed = pair.apply(said(pair, "v", 1, outcome=FAILED, text="boom", retryable=retryable))
    assert (failed.effects.ready, failed.effects.wake_at) == ([], [])
    assert failed.events == [TaskEvent("d", "a", TaskState.ASSIGNED, 2, "w", "boom")]
    assert (live(pair), pair.task("d", "a").failures) == ([(2, "w")], 0)
    assert pair.state.agents["v"].stats.failed == 1
    pair.do(said(pair, "w", 2))
    assert outcomes(pair) == ["FAILED", "COMPLETED"]


def test_one_that_fails_before_the_other_changes_nothing_of_what_runs(pair: Driver) -> None:
    """F2: neither by rejection nor by failure; the last one to fail counts."""
    pair.do(said(pair, "w", 2, outcome=AttemptOutcome.REJECTED))
    assert (pair.states("d")["a"], live(pair)) == ("RUNNING", [(1, "v")])
    pair.do(rival(pair, "u"))
    pair.do(said(pair, "u", 3, outcome=FAILED))
    assert (pair.states("d")["a"], pair.task("d", "a").failures) == ("RUNNING", 0)
    pair.do(said(pair, "v", 1, outcome=FAILED))
    assert (pair.states("d")["a"], pair.task("d", "a").failures) == ("READY", 1)
    pair.fail("v", "d", "a")
    assert pair.states("d") == {"a": "FAILED", "b": "CANCELLED"}


def test_there_are_so_many_at_most_and_never_on_one_agent(
    pair: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F2, F3: and no rival without the flag, or for what waits or has ended."""
    monkeypatch.setattr("coordinator.core.appliers.tasks.LIVE_ATTEMPTS", 2)
    key = pair.key("d", "a")
    epoch = pair.epoch("u")
    assert pair.do(rival(pair, "u")) == Done(0)
    pair.do(said(pair, "w", 2, outcome=AttemptOutcome.REJECTED))
    refused = [
        c.Choice(key, 3, "u", epoch),
        c.Choice(key, 4, "u", epoch, True),
        c.Choice(key, 2, "u", epoch, True),
        c.Choice(key, 3, "v", pair.epoch("v"), True),
        c.Choice(key, 3, "u", epoch - 1, True),
        pair.choice("u", "d", "b", rival=True),
    ]
    outcome = pair.apply(c.Assign(refused))
    assert (outcome.replies, outcome.effects.ready) == ([Done(0)], [])
    pair.do(said(pair, "v", 1))
    assert pair.do(c.Assign([pair.choice("u", "d", "b", rival=True)])) == Done(0)
    assert pair.do(c.Assign([c.Choice(key, 3, "u", epoch, True)])) == Done(0)


def test_a_rival_needs_the_same_room_as_any_attempt(node: Driver) -> None:
    """E2: credit, resources, no drain."""
    node.join("v", milli_cores=2)
    node.submit("d", {"a": []}, node.profile(milli_cores=2))
    node.start("v", "d", "a")
    node.join("w", milli_cores=1)
    assert node.do(rival(node, "w")) == Done(0)
    node.join("w", milli_cores=2, credit=0)
    assert node.do(rival(node, "w")) == Done(0)
    node.join("w", milli_cores=2)
    node.do(c.DrainAgent("", "w"))
    assert node.do(rival(node, "w")) == Done(0)
    node.do(c.DrainAgent("", "w", undo=True))
    assert node.do(rival(node, "w")) == Done(1)
    node.do(said(node, "w", 2))
    assert [agent.taken[0] for agent in node.state.agents.values()] == [2, 0], "v still is at it"
    node.do(c.LoseAgents([("v", node.epoch("v"))], "silent"))
    assert node.state.agents["v"].taken[0] == 0


def test_a_cancel_stops_both(pair: Driver) -> None:
    """B6."""
    key = pair.key("d", "a")
    outcome = pair.apply(c.CancelDag("", "d", "enough"))
    assert outcome.effects.halt == [("v", key, 1, "enough"), ("w", key, 2, "enough")]
    assert (pair.dag_state("d"), outcomes(pair)) == ("CANCELLED", ["CANCELLED", "CANCELLED"])


def test_a_reschedule_takes_both_back(pair: Driver) -> None:
    """B6: one step to READY."""
    key = pair.key("d", "a")
    outcome = pair.apply(c.RescheduleTask("", "d", "a", "why"))
    assert outcome.replies == [TaskChanged(TaskState.READY)]
    assert [event.state for event in outcome.events if isinstance(event, TaskEvent)] == [TaskState.READY]
    assert outcome.effects.halt == [("v", key, 1, "why"), ("w", key, 2, "why")]
    assert outcomes(pair) == ["RESCHEDULED", "RESCHEDULED"]


def test_a_lost_agent_takes_its_own_attempt_alone(pair: Driver) -> None:
    """D7, F2: and both lose it when both are lost."""
    pair.do(c.LoseAgents([("v", pair.epoch("v"))], "silent"))
    assert (pair.states("d")["a"], live(pair)) == ("ASSIGNED", [(2, "w")])
    pair.do(c.LoseAgents([("w", pair.epoch("w"))], "silent"))
    assert (pair.states("d")["a"], outcomes(pair)) == ("READY", ["LOST", "LOST"])


def test_sessions_are_reconciled_for_each_of_them(pair: Driver) -> None:
    """F4: each keeps its own, bound to its own session, and cannot have the other's."""
    key = pair.key("d", "a")
    assert pair.join("v", held=[(key, 1), (key, 2)]) == SessionOpened(pair.epoch("v"), [(key, 2)], False)
    assert pair.join("w", held=[(key, 2)]) == SessionOpened(pair.epoch("w"), [], False)
    assert [one.epoch for one in pair.task("d", "a").live] == [pair.epoch("v"), pair.epoch("w")]
    pair.join("v")
    assert (live(pair), outcomes(pair)) == ([(2, "w")], ["LOST", "LIVE"])


def test_progress_is_that_of_whoever_is_ahead_and_checkpoints_come_from_both(pair: Driver) -> None:
    """B6."""
    pair.do(said(pair, "v", 1, c.ReportKind.PROGRESS, progress=0.5))
    pair.do(said(pair, "w", 2, START))
    pair.do(said(pair, "w", 2, c.ReportKind.PROGRESS, progress=0.1))
    assert pair.task("d", "a").progress == 0.5
    pair.do(said(pair, "w", 2, c.ReportKind.PROGRESS, progress=0.7))
    assert pair.task("d", "a").progress == 0.7
    for agent, attempt in (("v", 1), ("w", 2)):
        pair.do(said(pair, agent, attempt, c.ReportKind.CHECKPOINT, data=agent.encode()))
        assert pair.store.rows[Table.CHECKPOINT, pair.key("d", "a").to_bytes(8, "big")] == agent.encode()
    pair.do(said(pair, "w", 2, outcome=FAILED))
    pair.do(said(pair, "v", 1, c.ReportKind.PROGRESS, progress=0.6))
    assert pair.task("d", "a").progress == 0.6


def test_either_may_add_tasks_and_nobody_else(pair: Driver) -> None:
    """B7, F3."""
    key = pair.key("d", "a")

    def spawn(agent: str, attempt: int, name: str) -> object:
        new = [c.NewTask(name, pair.profile())]
        return pair.do(c.SpawnTasks("", agent, pair.epoch(agent), key, attempt, new))

    assert (spawn("v", 1, "x"), spawn("w", 2, "y")) == (Done(1), Done(1))
    assert isinstance(spawn("w", 1, "z"), Refusal)
    pair.do(said(pair, "v", 1))
    assert isinstance(spawn("w", 2, "z"), Refusal)


def test_an_attempt_that_outlives_many_rivals_is_remembered(pair: Driver) -> None:
    """F3: others make room; it may still complete, and rivals that are lost do not fail the task."""
    for number in range(2, ATTEMPTS_KEPT + 3):
        pair.do(c.LoseAgents([("w", pair.epoch("w"))], "silent"))
        pair.join("w")
        assert pair.do(rival(pair, "w")) == Done(1)
        numbers = [attempt.number for attempt in pair.task("d", "a").attempts]
        assert (numbers[0], numbers[-1]) == (1, number + 1)
        assert len(numbers) <= ATTEMPTS_KEPT
    assert pair.states("d")["a"] == "RUNNING"
    pair.do(said(pair, "v", 1))
    assert (outcomes(pair)[0], outcomes(pair)[-1]) == ("COMPLETED", "SUPERSEDED")


# --- recall -------------------------------------------------------------------------------------------------


@pytest.fixture
def queued(node: Driver) -> Driver:
    """Task "a" waits on "v", "w" is free."""
    node.join("v")
    node.join("w")
    node.submit("d", {"a": []})
    node.assign("v", "d", "a")
    return node


def test_a_recall_moves_what_has_not_begun_in_one_entry(queued: Driver) -> None:
    """F5: the old agent is told to stop, its end is acknowledged, and its late words count for nothing."""
    key = queued.key("d", "a")
    ready_ms = queued.task("d", "a").ready_ms
    queued.now_ms += 50
    outcome = queued.apply(c.Recall([c.Move(1, queued.choice("w", "d", "a"))], "w is idle"))
    assert outcome.replies == [Done(1)]
    assert (outcome.effects.halt, outcome.effects.dispatch) == ([("v", key, 1, "w is idle")], [("w", key, 2)])
    assert (outcome.effects.ready, queued.task("d", "a").ready_ms) == ([], ready_ms)
    assert outcome.events == [TaskEvent("d", "a", TaskState.ASSIGNED, 2, "w", "")]
    first = queued.task("d", "a").attempts[0]
    assert (first.outcome, first.reason) == (AttemptOutcome.RESCHEDULED, "w is idle")
    assert queued.do(said(queued, "v", 1, START)) == Done(0)
    assert queued.apply(said(queued, "v", 1)).effects.acked == [("v", key, 1)]
    assert (queued.states("d"), live(queued)) == ({"a": "ASSIGNED"}, [(2, "w")])
    assert not queued.state.agents["v"].record.stopping


def test_what_has_begun_or_cannot_be_given_stays(queued: Driver) -> None:
    """F3, F4: nothing that runs is stopped, and nothing is taken that cannot be given."""
    key, epoch = queued.key("d", "a"), queued.epoch("w")
    refused = [
        c.Move(2, c.Choice(key, 2, "w", epoch)),
        c.Move(1, c.Choice(key, 3, "w", epoch)),
        c.Move(1, c.Choice(key, 2, "w", epoch - 1)),
        c.Move(1, c.Choice(key, 2, "nobody", epoch)),
        c.Move(1, c.Choice(key, 2, "v", queued.epoch("v"))),
        c.Move(1, c.Choice(key + 1, 2, "w", epoch)),
    ]
    assert queued.do(c.Recall(refused, "why")) == Done(0)
    queued.do(c.DrainAgent("", "w"))
    good = c.Recall([c.Move(1, c.Choice(key, 2, "w", epoch))], "why")
    assert queued.do(good) == Done(0)
    queued.do(c.DrainAgent("", "w", undo=True))
    queued.do(said(queued, "v", 1, START))
    assert queued.do(good) == Done(0)
    assert (outcomes(queued), queued.states("d")) == (["LIVE"], {"a": "RUNNING"})
    queued.do(said(queued, "v", 1))
    assert queued.do(good) == Done(0)


def test_moves_are_no_losses(queued: Driver) -> None:
    """F2: however often."""
    for turn in range(2 * LOST_ATTEMPTS):
        target = "wv"[turn % 2]
        number = queued.task("d", "a").attempt
        queued.do(said(queued, target, number - 1, outcome=AttemptOutcome.CANCELLED))
        assert queued.do(c.Recall([c.Move(number, queued.choice(target, "d", "a"))], "why")) == Done(1)
    assert set(outcomes(queued)) == {"RESCHEDULED", "LIVE"}
    assert (queued.states("d"), queued.task("d", "a").failures) == ({"a": "ASSIGNED"}, 0)


def test_the_one_of_two_that_waits_can_be_recalled(pair: Driver) -> None:
    """F5: the other goes on."""
    assert pair.do(c.Recall([c.Move(1, pair.choice("u", "d", "a"))], "why")) == Done(0)
    assert pair.do(c.Recall([c.Move(2, pair.choice("v", "d", "a"))], "why")) == Done(0)
    assert pair.do(c.Recall([c.Move(2, pair.choice("u", "d", "a"))], "why")) == Done(1)
    assert (live(pair), pair.states("d")["a"]) == ([(1, "v"), (3, "u")], "RUNNING")


# --- preemption ---------------------------------------------------------------------------------------------


def test_a_preempted_task_is_ready_again_and_has_not_failed(node: Driver) -> None:
    """E4, E8: however often; its agent is told to stop."""
    node.join("v", credit=100)
    node.submit("d", {"a": []}, node.profile(preemptible=True))
    for number in range(1, 2 * LOST_ATTEMPTS):
        node.start("v", "d", "a")
        key = node.key("d", "a")
        outcome = node.apply(c.Preempt([(key, number), (key, number + 1), (key + 1, 1)], "urgent work"))
        assert outcome.replies == [Done(1)]
        assert (outcome.effects.halt, outcome.effects.ready) == ([("v", key, number, "urgent work")], [key])
        assert (node.states("d")["a"], node.task("d", "a").failures) == ("READY", 0)
    assert set(outcomes(node)) == {"PREEMPTED"}
    assert node.state.agents["v"].stats.failed == 0


def test_of_what_is_not_preemptible_an_attempt_goes_on(pair: Driver) -> None:
    """E8: whichever is asked for first goes, and the last one stays."""
    key = pair.key("d", "a")
    assert pair.do(c.Preempt([(key, 1), (key, 2)], "urgent work")) == Done(1)
    assert (live(pair), pair.states("d")["a"]) == ([(2, "w")], "ASSIGNED")
    assert pair.do(c.Preempt([(key, 2)], "urgent work")) == Done(0)


def test_losses_of_rivals_do_not_turn_a_preemption_into_a_failure(node: Driver) -> None:
    """E8, F2."""
    node.join("v")
    node.submit("d", {"a": []}, node.profile(preemptible=True))
    node.start("v", "d", "a")
    for _ in range(LOST_ATTEMPTS):
        node.join("w")
        node.do(rival(node, "w"))
        node.do(c.LoseAgents([("w", node.epoch("w"))], "silent"))
    node.do(c.Preempt([(node.key("d", "a"), 1)], "urgent work"))
    assert node.states("d")["a"] == "READY"


# --- both ---------------------------------------------------------------------------------------------------


def test_nothing_begins_for_a_dag_that_is_being_ended(node: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """B6: also before the sweep has come to the task."""
    monkeypatch.setattr("coordinator.core.transaction.SWEEP_STEP", 1)
    for agent in "vw":
        node.join(agent)
    node.submit("d", {"x": [], "a": []})
    node.assign("v", "d", "a")
    node.do(c.CancelDag("", "d", "enough"))
    assert node.states("d") == {"x": "CANCELLED", "a": "ASSIGNED"}
    assert node.do(rival(node, "w")) == Done(0)
    assert node.do(c.Recall([c.Move(1, node.choice("w", "d", "a"))], "why")) == Done(0)
    node.do(c.SweepDag(1))
    assert node.dag_state("d") == "CANCELLED"
