"""Agents that come, change and go on virtual time: what is done is what was submitted, never too much at
once, and the same again."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from bench.placement.fleet import Fate, Fleet, Ran
from bench.placement.leader import Stalled
from bench.placement.studies.streams import task
from coordinator.core.model import (
    AgentSpec,
    AttemptOutcome,
    DagHeader,
    DataItem,
    Requirements,
    RetryPolicy,
    Task,
)
from coordinator.dag.draft import DagDraft, TaskDraft
from coordinator.errors import InvalidRequest
from coordinator.scheduling.costs.policies import policy
from coordinator.scheduling.costs.weights import BALANCED, Policy

DONE = AttemptOutcome.COMPLETED
ONCE = Policy("once", BALANCED.weights, rivals=1)


def agent(name: str, slots: int = 1, **more: object) -> AgentSpec:
    return AgentSpec(name, "test", slots, 2 * slots, **more)  # type: ignore[arg-type]


def dag(name: str, *tasks: TaskDraft) -> DagDraft:
    return DagDraft(DagHeader(name), list(tasks))


def ends(fleet: Fleet) -> list[tuple[str, str, float]]:
    return [(one.task_id, one.agent, one.ended_s) for one in fleet.ran if one.outcome is DONE]


def test_tasks_take_their_work_over_the_speed_of_their_agent() -> None:
    fleet = Fleet([agent("fast", speed=2.0)], ONCE)
    fleet.submit(dag("d", task("a", 4.0), task("b", 2.0, depends_on=("a",))), 1.0)
    fleet.run()
    assert ends(fleet) == [("a", "fast", 3.0), ("b", "fast", 4.0)]
    assert (fleet.submitted_s, fleet.finished_s) == ({"d": 1.0}, {"d": 4.0})


@pytest.mark.parametrize("name", ["balanced", "least-loaded", "round-robin"])
def test_no_slot_runs_two_at_once_and_a_run_comes_out_the_same_again(name: str) -> None:
    def once() -> list[Ran]:
        fleet = Fleet([agent("one"), agent("two", 2)], policy(name), load_every_s=1.0)
        for at in range(6):
            fleet.submit(dag(f"d{at}", task("a", 1.5), task("b", 0.1), task("c", 2.0)), 0.7 * at)
        fleet.run()
        return fleet.ran

    ran = once()
    assert ran == once()
    assert {(one.dag_id, one.task_id) for one in ran if one.outcome is DONE} == {
        (f"d{at}", name) for at, name in itertools.product(range(6), "abc")
    }
    for name, slots in (("one", 1), ("two", 2)):
        changes = [
            (moment, change)
            for one in ran
            if one.agent == name
            for moment, change in ((one.began_s, 1), (one.ended_s, -1))
        ]
        assert max(itertools.accumulate(change for _, change in sorted(changes))) <= slots


def test_what_an_agent_held_when_it_failed_is_done_by_another_after_the_grace() -> None:
    fleet = Fleet([agent("one"), agent("two")], ONCE)
    fleet.submit(dag("d", task("a", 5.0), task("b", 5.0)))
    fleet.at(2.0, lambda: fleet.fail("one", 1.0))
    fleet.run()
    (lost,) = [one for one in fleet.ran if one.outcome is AttemptOutcome.LOST]
    assert (lost.agent, lost.ended_s) == ("one", 2.0)
    assert sorted(end for _, _, end in ends(fleet)) == [5.0, 10.0]
    assert all(name == "two" for _, name, _ in ends(fleet))


def test_an_agent_that_drains_or_lacks_a_skill_gets_nothing_until_it_says_otherwise() -> None:
    fleet = Fleet([agent("one"), agent("two", capabilities=(("lift", 1),))], ONCE)
    needs = Requirements(capabilities=(("lift", 2),))
    fleet.submit(dag("d", task("a", 1.0, requirements=needs)))
    fleet.drain("two")
    fleet.at(1.0, lambda: fleet.change(agent("two", capabilities=(("lift", 2),))))
    fleet.at(3.0, lambda: fleet.drain("two", undo=True))
    fleet.run()
    assert ends(fleet) == [("a", "two", 4.0)]


def test_inputs_are_moved_unless_they_are_there() -> None:
    fleet = Fleet([agent("one", data=("here",)), agent("two", zone="z")], ONCE, bandwidth=1e6)
    here, there = (DataItem(f"item-{place}", 2_000_000, (place,)) for place in ("here", "far"))
    fleet.submit(dag("d", task("a", 1.0, inputs=(here,)), task("b", 1.0, inputs=(there,))))
    fleet.run()
    assert [(one.task_id, one.agent, one.moved, one.began_s) for one in fleet.ran] == [
        ("a", "one", 0, 0.0),
        ("b", "two", 2_000_000, 2.0),
    ]


def test_a_failure_is_tried_again_after_its_delay() -> None:
    def fate(of: Task, spec: AgentSpec, now_s: float) -> Fate:
        return Fate(1.0, AttemptOutcome.FAILED if now_s < 2 else DONE)

    fleet = Fleet([agent("one")], ONCE, fates=fate)
    fleet.submit(dag("d", task("a", 1.0, retry=RetryPolicy(3, delay_ms=1_500))))
    fleet.run()
    assert [(one.number, one.outcome) for one in fleet.ran] == [(1, AttemptOutcome.FAILED), (2, DONE)]
    assert fleet.now_s == pytest.approx(3.5)


def test_a_task_may_add_tasks_to_its_dag() -> None:
    def adds(of: Task) -> list[TaskDraft]:
        return [task("b", 1.0), task("c", 1.0, depends_on=("b",))] if of.id == "a" else []

    told: list[str] = []
    fleet = Fleet([agent("one")], ONCE, adds=adds, ended=lambda one: told.append(one.task_id))
    fleet.submit(dag("d", task("a", 1.0)))
    fleet.run()
    assert told == ["a", "b", "c"]
    assert fleet.finished_s == {"d": 3.0}


def test_decisions_are_made_no_more_often_than_asked_for() -> None:
    fleet = Fleet([agent("one", 2)], ONCE, round_s=1.0)
    fleet.submit(dag("d", task("a", 0.5), task("b", 0.5, depends_on=("a",))))
    fleet.run()
    assert fleet.now_s == pytest.approx(1.5)


def test_what_cannot_be_is_said() -> None:
    fleet = Fleet([agent("one")], ONCE)
    with pytest.raises(InvalidRequest):
        fleet.submit(DagDraft(DagHeader("d"), []))
    fleet.submit(dag("d", task("a", 1.0, requirements=Requirements(capabilities=(("lift", 1),)))))
    with pytest.raises(Stalled, match="1 tasks wait"):
        fleet.run()
    with pytest.raises(RuntimeError):
        fleet.drain("nobody")


def test_a_run_stops_when_it_is_asked_to() -> None:
    fleet = Fleet([agent("one")], ONCE)
    fleet.submit(dag("d", task("a", 5.0), task("b", 1.0, depends_on=("a",))))
    fleet.run(2.0)
    assert (fleet.now_s, fleet.holds("one"), fleet.ran) == (2.0, 1, [])
    fleet.change(replace(agent("one"), speed=2.0))
    fleet.run()
    assert fleet.now_s == pytest.approx(5.5)
