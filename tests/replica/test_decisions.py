"""What a leader decides can be asked for (E6, E10), and whatever its clock does, decisions go on and nothing
is placed twice."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from coordinator.api.decisions import page_of
from coordinator.api.explained import explanation_to_proto
from coordinator.core.commands import (
    Assign,
    AttemptReport,
    Command,
    OpenSession,
    Report,
    ReportKind,
    SubmitDag,
)
from coordinator.core.model import (
    AgentSpec,
    AttemptOutcome,
    DagHeader,
    TaskBlock,
    TaskFamily,
    TaskProfile,
    TaskState,
)
from coordinator.core.outcome import Done
from coordinator.replica.placement import Placement
from coordinator.scheduling.decision_log import Adapted, Moved, RoundMade
from coordinator.scheduling.settings import SchedulingSettings
from quorumflow_proto.v1 import operator_pb2 as pb

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START_MS = 1_700_000_000_000


class World:
    """A leader's placement on a real state machine; its proposals are carried out when the test says so."""

    def __init__(self, log, applier, **scheduling) -> None:
        self.log, self.applier = log, applier
        self.clock_ms = START_MS
        self.entry_ms = START_MS
        self.proposed: list[tuple[Command, asyncio.Future]] = []
        self.given: list[tuple[int, int]] = []
        self.placement = Placement(
            lambda: applier.state,
            self._submit,
            lambda: self.clock_ms,
            look_ahead_ms=20,
            opened_after=0,
            scheduling=SchedulingSettings(**scheduling),
        )

    def _submit(self, command: Command) -> asyncio.Future:
        answer = asyncio.get_running_loop().create_future()
        self.proposed.append((command, answer))
        return answer

    def apply(self, *commands: Command) -> None:
        """One entry; replicated time never goes back."""
        self.entry_ms = max(self.entry_ms, self.clock_ms)
        self.applier.apply([self.log.add(*commands, at_ms=self.entry_ms)])

    def agent(self, agent_id: str, slots: int = 1, **fields) -> None:
        self.apply(OpenSession(AgentSpec(agent_id, "i", slots, slots + 4, **fields), []))
        self.placement.add_agents([agent_id])

    def submit(self, dag_id: str, tasks: int, family: TaskFamily = TaskFamily.UNSPECIFIED) -> None:
        names = [f"t{at}" for at in range(tasks)]
        block = TaskBlock(0, names, [0] * tasks, [()] * tasks, [b""] * tasks, [5_000] * tasks)
        profile = TaskProfile("noop", family)
        self.apply(SubmitDag(f"r-{dag_id}", DagHeader(dag_id), [profile], block))
        self.placement.add_ready([task.key for task in self.applier.state.dag(dag_id).tasks])

    async def carry_out(self) -> int:
        """Let it decide, and apply what it proposes; returns the number of choices that were carried out."""
        await asyncio.sleep(0)
        made, self.proposed = self.proposed, []
        carried_out = 0
        for command, answer in made:
            before = Counter(
                (task.key, one.number)
                for dag in self.applier.state.dags.values()
                for task in dag.tasks
                for one in task.attempts
            )
            self.apply(command)
            if isinstance(command, Assign):
                self.given += [(choice.key, choice.attempt) for choice in command.choices]
                new = [
                    (task.key, one.number)
                    for dag in self.applier.state.dags.values()
                    for task in dag.tasks
                    for one in task.attempts
                    if (task.key, one.number) not in before
                ]
                carried_out += len(new)
                answer.set_result(Done(len(new)))
            await asyncio.sleep(0)
        return carried_out

    def live(self) -> list[tuple[int, str]]:
        return [
            (task.key, one.agent)
            for dag in self.applier.state.dags.values()
            for task in dag.tasks
            for one in task.live
        ]

    def end_all(self) -> None:
        """Every attempt that is live completes."""
        for dag in list(self.applier.state.dags.values()):
            for task in list(dag.tasks):
                for one in task.live:
                    epoch = self.applier.state.agents[one.agent].record.epoch
                    done = AttemptReport(
                        task.key, one.number, ReportKind.ENDED, outcome=AttemptOutcome.COMPLETED
                    )
                    self.apply(Report(one.agent, epoch, [done]))
                    self.placement._mirror.snapshot.release(one.agent, task.key, one.number, completed=True)
        self.placement.add_agents(list(self.applier.state.agents))


@pytest.mark.parametrize("policy", ["balanced", "fast", "least-loaded", "power-of-two", "fifo"])
@pytest.mark.parametrize("jump_ms", [-HOUR_MS, DAY_MS, -10 * 365 * DAY_MS])
async def test_when_the_clock_jumps_decisions_go_on_and_nothing_is_placed_twice(
    log, make_applier, policy: str, jump_ms: int
) -> None:
    world = World(log, make_applier("a"), policy=policy)
    for at in range(3):
        world.agent(f"a{at}")
    world.submit("one", 9)
    placed = await world.carry_out()
    assert placed >= 3
    world.clock_ms += jump_ms
    for _ in range(9):
        world.end_all()
        placed += await world.carry_out()
        world.clock_ms += 1_000
    assert placed == 9
    assert len(set(world.given)) == len(world.given) == 9
    dag = world.applier.state.finished.get("one")
    assert dag is not None, "all tasks have completed"


async def test_rounds_are_in_the_log_with_what_they_did(log, make_applier) -> None:
    world = World(log, make_applier("a"), policy="balanced")
    world.agent("a0")
    world.agent("a1")
    world.submit("one", 5)
    assert await world.carry_out() == 2
    first, *_ = world.placement.decisions.after(0, 10)
    assert isinstance(first.what, RoundMade)
    assert (first.number, first.at_ms) == (1, START_MS)
    made = first.what
    assert (made.waiting, made.placed, made.batch, made.policy) == (5, 2, 2_000, "balanced")
    assert 0 < made.kept <= 3
    assert made.unplaced == ({"next_round": 3 - made.kept} if made.kept < 3 else {})
    assert made.duration_us > 0


async def test_what_is_asked_for_comes_at_once_or_when_it_happens(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    decisions = world.placement.decisions
    empty = await page_of(decisions, pb.ListDecisionsRequest(), 7, 10)
    assert (empty.term, empty.last, list(empty.decisions)) == (7, 0, [])
    asked = asyncio.create_task(page_of(decisions, pb.ListDecisionsRequest(wait_ms=10_000), 7, 10))
    await asyncio.sleep(0)
    assert not asked.done()
    world.agent("a0")
    world.submit("one", 1)
    await world.carry_out()
    (view,) = (await asked).decisions
    assert (view.WhichOneof("what"), view.round.placed) == ("round", 1)
    again = await page_of(decisions, pb.ListDecisionsRequest(term=7, after=1), 7, 10)
    assert list(again.decisions) == []
    other_term = await page_of(decisions, pb.ListDecisionsRequest(term=6, after=1), 7, 10)
    assert [one.number for one in other_term.decisions] == [1]


async def test_a_second_attempt_is_an_entry_of_its_own(log, make_applier) -> None:
    world = World(log, make_applier("a"), policy="fast")
    world.agent("slow")
    world.submit("one", 1, TaskFamily.COMPUTE)
    await world.carry_out()
    (task,) = world.applier.state.dag("one").tasks
    world.agent("quick", speed=20.0)
    await world.carry_out()
    world.clock_ms += 60_000
    world.placement._look_again()
    await world.carry_out()
    moves = [one.what for one in world.placement.decisions.after(0, 99) if isinstance(one.what, Moved)]
    assert [(one.what, one.dag_id, one.task_id, one.attempt, one.agent) for one in moves] == [
        ("rival", "one", "t0", 2, "quick")
    ]
    assert len(task.live) == 2


@pytest.mark.parametrize(("per_s", "recorded"), [(20, True), (0, False)])
async def test_why_an_agent_has_a_task_is_told(log, make_applier, per_s: int, recorded: bool) -> None:
    world = World(log, make_applier("a"), policy="balanced", explained_per_s=per_s)
    world.agent("a0", speed=4.0)
    world.agent("a1")
    world.submit("one", 1)
    await world.carry_out()
    world.clock_ms += 3_000
    dag = world.applier.state.dag("one")
    (task,) = dag.tasks
    assert task.state is TaskState.ASSIGNED
    told = explanation_to_proto(dag, task, None, world.placement.assignments(task), world.clock_ms)
    (view,) = told.assignments
    assert (view.agent_id, view.attempt, view.recorded, view.policy) == ("a0", 1, recorded, "balanced")
    assert view.at_ms == START_MS + (0 if recorded else 3_000)
    assert [one.agent_id for one in view.candidates] == ["a0", "a1"]
    run = {term.name: term for term in view.candidates[0].terms}["run"]
    assert run.product == pytest.approx(run.value * run.weight) == pytest.approx(5 / 4, rel=0.1)
    assert view.candidates[1].lost.startswith("costs ")
    assert view.actual_s == 0, "it has not begun"
    epoch = world.applier.state.agents["a0"].record.epoch
    world.apply(Report("a0", epoch, [AttemptReport(task.key, 1, ReportKind.STARTED)]))
    told = explanation_to_proto(dag, task, None, world.placement.assignments(task), world.clock_ms + 2_500)
    assert told.assignments[0].actual_s == 2.5


async def test_a_place_that_is_kept_is_told_with_the_costs(log, make_applier) -> None:
    world = World(log, make_applier("a"), policy="fast")
    world.agent("quick", speed=50.0)
    world.submit("one", 1)
    await world.carry_out()
    world.agent("slow", speed=0.5)
    world.submit("two", 1)
    await world.carry_out()
    (task,) = world.applier.state.dag("two").tasks
    assert task.state is TaskState.READY
    (one,) = world.placement.assignments(task)
    assert (one.agent, one.attempt, one.recorded) == ("quick", 1, False)
    assert [candidate.agent for candidate in one.candidates] == ["quick", "slow"]
    assert "quick" in world.placement.explain(task).summary
    assert one.candidates[1].lost.endswith("by its run")


async def test_what_is_impossible_says_since_when(log, make_applier) -> None:
    world = World(log, make_applier("a"))
    world.agent("a0", task_types=("other",))
    world.submit("one", 1)
    await world.carry_out()
    dag = world.applier.state.dag("one")
    (task,) = dag.tasks
    told = explanation_to_proto(dag, task, world.placement.explain(task))
    assert told.impossible_since_ms == task.ready_ms == START_MS
    assert [one.agent_id for one in told.near_misses] == ["a0"]
    assert list(told.unblocked_by) == ["1 x type: no handler for the type 'noop'"]
    assert [(one.name, one.agents, dict(one.refused)) for one in told.groups] == [("", 1, {"type": 1})]


async def test_rounds_that_last_too_long_become_smaller_unless_that_is_no_use(log, make_applier) -> None:
    """By this timer all rounds last equally long."""
    world = World(log, make_applier("a"), policy="fifo", round_ms=1, least_batch=50, most_batch=400)
    ticks = iter(range(10_000))
    world.placement._timer = lambda: next(ticks) * 0.1
    world.agent("a0", slots=10_000)
    world.submit("one", 6_000)
    while await world.carry_out():
        pass
    entries = [one.what for one in world.placement.decisions.after(0, 999)]
    changes = [one for one in entries if isinstance(one, Adapted)]
    assert [(one.parameter, one.before, one.after) for one in changes] == [
        ("batch", 400, 200),
        ("batch", 200, 400),
    ]
    assert (
        changes[0].because == "rounds of 400 choices took 100.0 ms, 100 % of it for the choices; wanted: 1 ms"
    )
    sizes = [one.placed for one in entries if isinstance(one, RoundMade)]
    assert sizes[:11] == [400] * 5 + [200] * 5 + [400]
