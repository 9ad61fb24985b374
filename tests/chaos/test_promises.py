"""The checkers of drills find what they are there for: each is shown a history that is good but for one
thing (A1, A4, F3, F4, I4)."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent_sdk import AttemptStatus, DagStatus, NodeStatus, TaskStatus
from chaos.checking import promises
from chaos.checking.promises import Check, Evidence
from chaos.effects import Effects, read_effects


def attempt(number: int, agent: str, outcome: str = "COMPLETED") -> AttemptStatus:
    return AttemptStatus(number, agent, outcome, assigned_ms=1, started_ms=2, ended_ms=3, reason="")


def task(task_id: str, *attempts: AttemptStatus) -> TaskStatus:
    return TaskStatus(
        dag_id="d",
        id=task_id,
        index=0,
        type="sleep",
        state="COMPLETED",
        attempts=attempts,
        depends_on=(),
        progress=1.0,
        ready_ms=1,
        ended_ms=3,
        not_before_ms=0,
        reason="",
        parent_id="",
        has_result=False,
    )


def dag(state: str = "COMPLETED", **tasks: int) -> DagStatus:
    return DagStatus("d", "", "default", state, tasks, 1, 2, "", {}, {}, revision=9)


def node(node_id: str, applied: int = 9, digest: str = "aa") -> NodeStatus:
    return NodeStatus(node_id, "follower", "", "", applied, applied, digest, False, "")


X, Y = ("d", "x"), ("d", "y")
GOOD: dict[str, Any] = {
    "acknowledged": {"d": 2},
    "dags": {"d": dag(COMPLETED=2)},
    # y was lost with a2, and ran again on a1.
    "tasks": [task("x", attempt(1, "a1")), task("y", attempt(1, "a2", "LOST"), attempt(2, "a1"))],
    "nodes": [node("n1"), node("n2"), node("n3")],
    "endings": Counter({X: 1, Y: 1}),
    "lost_agents": frozenset({"a2"}),
    "watch_problem": "",
    "effects": Effects({X: {(1, "a1")}, Y: {(1, "a2"), (2, "a1")}}, {X: {(1, "a1")}, Y: {(2, "a1")}}),
}


def check_all(**spoiled: Any) -> dict[str, Check]:
    """The verdicts on the good history with some of its fields spoiled, by promise."""
    return {check.promise: check for check in promises.check_all(Evidence(**{**GOOD, **spoiled}))}


def test_a_good_history_passes_and_its_repetitions_are_counted() -> None:
    checks = check_all()
    assert all(check.held for check in checks.values())
    assert len(checks) == 5
    found = checks["no running task was restarted"].found
    assert found == "1 begun again after a lost agent, 0 given to another before they began"


COMPLETED = "every acknowledged task is COMPLETED"
EFFECT = "no task's effect is missing"
ONCE = "every result is recorded exactly once"
RESTART = "no running task was restarted"
SAME = "all nodes hold the same state"


@pytest.mark.parametrize(
    ("promise", "spoiled", "found"),
    [
        (COMPLETED, {"acknowledged": {"d": 2, "gone": 1}}, "missing: gone"),
        (COMPLETED, {"acknowledged": {"d": 3}}, "not completed: d COMPLETED"),
        (COMPLETED, {"dags": {"d": dag("RUNNING", COMPLETED=1, RUNNING=1)}}, "not completed: d RUNNING"),
        (COMPLETED, {"dags": {"d": dag("FAILED", COMPLETED=1, FAILED=1)}}, "not completed: d FAILED"),
        (EFFECT, {"effects": Effects({}, {Y: {(2, "a1")}})}, "missing: d/x"),
        # It was done, but by another attempt than the recorded one.
        (EFFECT, {"effects": Effects({}, {X: {(2, "a1")}, Y: {(2, "a1")}})}, "missing: d/x"),
        (EFFECT, {"tasks": [task("x", attempt(1, "a1", "LIVE"))]}, "missing: d/x"),
        (ONCE, {"endings": Counter({X: 2, Y: 1})}, "not once: d/x"),
        (ONCE, {"endings": Counter({X: 1})}, "not once: d/y"),
        (ONCE, {"tasks": [task("x", attempt(1, "a1"), attempt(2, "a2"))]}, "not once: d/x"),
        (ONCE, {"watch_problem": "no leader"}, "no leader"),
        (ONCE, {"watch_gaps": 1, "endings": Counter({X: 2, Y: 0})}, "not once: d/x"),
        (RESTART, {"lost_agents": frozenset()}, "restarted: d/y"),
        (SAME, {"nodes": [node("n1"), node("n2", digest="bb")]}, "n1 at 9: aa, n2 at 9: bb"),
        (SAME, {"nodes": [node("n1"), node("n2", applied=8)]}, "n1 at 9: aa, n2 at 8: aa"),
    ],
)  # fmt: skip
def test_a_spoiled_history_is_found_out(promise: str, spoiled: dict[str, Any], found: str) -> None:
    check = check_all(**spoiled)[promise]
    assert (check.held, check.found) == (False, found)


def test_a_result_whose_event_was_missed_with_all_nodes_is_not_called_lost() -> None:
    check = check_all(watch_gaps=2, endings=Counter({X: 1}))[ONCE]
    assert (check.held, check.found) == (True, "2 results, events missed 2 times")


def test_an_agent_that_came_back_as_another_process_before_it_was_missed_was_lost_too() -> None:
    effects = GOOD["effects"]._replace(reborn=frozenset({"a2"}))
    assert check_all(lost_agents=frozenset(), effects=effects)[RESTART].held
    effects = GOOD["effects"]._replace(reborn=frozenset({"a1"}))
    assert not check_all(lost_agents=frozenset(), effects=effects)[RESTART].held


def test_the_processes_of_agents_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    lines = [("a1", 1, "start"), ("a1", 1, "end"), ("a2", 2, "start"), ("a2", 3, "start")]
    with file.open("w") as out:
        for agent, pid, event in lines:
            effect = {"dag": "d", "task": "x", "attempt": 1, "agent": agent, "pid": pid, "event": event}
            out.write(json.dumps(effect) + "\n")
    assert read_effects([file]).reborn == {"a2"}


def test_what_an_agent_was_killed_at_writing_did_not_happen(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    effect = {"dag": "d", "task": "x", "attempt": 1, "agent": "a1", "pid": 1, "event": "start"}
    cut_off = json.dumps(effect | {"event": "end"})[:-3]
    file.write_text(f"\n{json.dumps(effect)}\n{cut_off}\n{json.dumps(effect | {'attempt': 2})}")
    effects = read_effects([file])
    assert effects.begun == {X: {(1, "a1"), (2, "a1")}}
    assert not effects.ended


def test_a_task_that_was_given_to_another_before_it_began_is_no_restart() -> None:
    effects = Effects({X: {(1, "a1")}, Y: {(2, "a1")}}, GOOD["effects"].ended)
    check = check_all(lost_agents=frozenset(), effects=effects)[RESTART]
    assert check.held
    assert check.found == "0 begun again after a lost agent, 1 given to another before they began"


@pytest.mark.parametrize(
    ("first", "begun_ms", "held"),
    [
        ("SUPERSEDED", 2, True),
        ("PREEMPTED", 2, True),
        ("RESCHEDULED", 0, True),
        ("RESCHEDULED", 2, False),
        ("TIMED_OUT", 2, False),
    ],
)
def test_a_rival_and_what_was_taken_away_are_no_restart(first: str, begun_ms: int, *, held: bool) -> None:
    """F2, F5, E8: but a recall of what was known to have begun is one."""
    before = dataclasses.replace(attempt(1, "a2", first), started_ms=begun_ms)
    tasks = [task("x", attempt(1, "a1")), task("y", before, attempt(2, "a1"))]
    checks = check_all(lost_agents=frozenset(), tasks=tasks)
    assert checks[RESTART].held is held
    assert all(check.held for promise, check in checks.items() if promise != RESTART)


def test_of_many_broken_tasks_the_first_are_named_and_the_rest_counted() -> None:
    tasks = [task(f"t{number}", attempt(1, "a1")) for number in range(8)]
    assert check_all(tasks=tasks)[EFFECT].found == "missing: d/t0, d/t1, d/t2, d/t3, d/t4 and 3 more"


def test_nodes_diverge_where_they_differ_at_the_same_entry() -> None:
    moving = [node("n1", 7, "aa"), node("n2", 8, "bb"), node("n1", 8, "bb"), node("n2", 9, "cc")]
    assert promises.diverged(moving) is None
    assert promises.diverged([*moving, node("n1", 9, "dd")]) == 9


def test_one_duration_above_the_limit_breaks_the_promise() -> None:
    assert promises.in_time("it answers", [3, 10, 7], 10) == (
        "it answers within 10 ms each time",
        True,
        "10 ms at the worst",
    )
    assert not promises.in_time("it answers", [3, 11, 7], 10).held


def test_effects_are_read_from_all_files(tmp_path: Path) -> None:
    for agent, number in (("a1", 2), ("a2", 1)):
        lines = [
            {"dag": "d", "task": "y", "attempt": number, "agent": agent, "pid": 1, "event": event}
            for event in (("start", "end") if agent == "a1" else ("start",))
        ]
        (tmp_path / agent).write_text("".join(json.dumps(line) + "\n" for line in lines))
    effects = read_effects(tmp_path.iterdir())
    assert effects.begun == {Y: {(1, "a2"), (2, "a1")}}
    assert effects.ended == {Y: {(2, "a1")}}
