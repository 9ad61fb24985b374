"""What placement measures changes its parameters, and who asks for its decisions sees why (E6)."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.api.decisions import page_of
from coordinator.core.commands import Assign, AttemptReport, Command, Report, ReportKind, SubmitDag
from coordinator.core.model import (
    INDEX_BITS,
    AttemptOutcome,
    DagHeader,
    Priority,
    TaskBlock,
    TaskFamily,
    TaskProfile,
)
from coordinator.scheduling.adaptation.patience import RACES
from quorumflow_proto.v1 import operator_pb2 as pb
from tests.replica.test_decisions import World


class Leading(World):
    """Its placement is told what entries have changed. A round lasts for `round_s` by its own timer."""

    def __init__(self, log, applier, **scheduling) -> None:
        super().__init__(log, applier, **scheduling)
        applier.on_outcome = lambda index, term, outcome: self.placement.note(outcome.effects)
        self.timer_s = 0.0
        self.round_s = 0.0
        self.proposes = asyncio.Event()
        self.placement._timer = self._tick

    def _submit(self, command: Command) -> asyncio.Future:
        self.proposes.set()
        return super()._submit(command)

    def _tick(self) -> float:
        self.timer_s += self.round_s
        return self.timer_s

    def one(self, dag_id: str, priority: Priority = Priority.MEDIUM) -> None:
        """A DAG of one task."""
        block = TaskBlock(0, ["t0"], [0], [()], [b""], [5_000])
        profile = TaskProfile("noop", TaskFamily.COMPUTE, priority=priority)
        self.apply(SubmitDag(f"r-{dag_id}", DagHeader(dag_id), [profile], block))

    def reports(self, dag_id: str, number: int, kind: ReportKind, outcome: AttemptOutcome) -> None:
        (task,) = self.applier.state.dag(dag_id).tasks
        attempt = next(one for one in task.attempts if one.number == number)
        epoch = self.applier.state.agents[attempt.agent].record.epoch
        report = AttemptReport(task.key, number, kind, outcome, duration_us=5_000_000)
        self.apply(Report(attempt.agent, epoch, [report]))

    async def adaptations(self, parameter: str) -> list[pb.Adaptation]:
        """As they are told to whoever asks."""
        page = await page_of(self.placement.decisions, pb.ListDecisionsRequest(), 1, 1_000)
        found = [one.adaptation for one in page.decisions if one.WhichOneof("what") == "adaptation"]
        return [one for one in found if one.parameter == parameter]

    def assigned(self) -> list[str]:
        """The DAGs whose tasks were proposed for agents since the last call."""
        made, self.proposed = self.proposed, []
        dags = self.applier.state.dags
        return [
            dags[choice.key >> INDEX_BITS].record.header.dag_id
            for command, _ in made
            if isinstance(command, Assign)
            for choice in command.choices
        ]


async def test_second_attempts_that_mostly_win_begin_sooner(log, make_applier) -> None:
    world = Leading(log, make_applier("a"), policy="balanced")
    world.agent("a0")
    world.agent("a1")
    for at in range(RACES):
        dag = f"d{at}"
        world.one(dag)
        assert await world.carry_out() == 1
        world.reports(dag, 1, ReportKind.STARTED, AttemptOutcome.LIVE)
        world.clock_ms += 60_000
        world.placement._look_again()
        assert await world.carry_out() == 1, "a second attempt"
        world.reports(dag, 2, ReportKind.STARTED, AttemptOutcome.LIVE)
        world.clock_ms += 5_000
        assert await world.adaptations("patience") == []
        agents = [one.agent for one in world.applier.state.dag(dag).tasks[0].attempts]
        key = world.applier.state.dag(dag).tasks[0].key
        world.reports(dag, 2, ReportKind.ENDED, AttemptOutcome.COMPLETED)
        epoch = world.applier.state.agents[agents[0]].record.epoch
        stopped = AttemptReport(key, 1, ReportKind.ENDED, AttemptOutcome.CANCELLED)
        world.apply(Report(agents[0], epoch, [stopped]))
    world.placement._look_again()
    (adaptation,) = await world.adaptations("patience")
    assert (adaptation.before, adaptation.after) == (1.5, pytest.approx(1.2))
    assert adaptation.because.startswith("of 16 tasks with several attempts 16 were ended by a later one")


async def test_rounds_that_take_much_of_the_time_are_put_together_but_what_is_urgent_goes_at_once(
    log, make_applier
) -> None:
    world = Leading(log, make_applier("a"), policy="balanced", most_interval_ms=5)
    world.agent("a0", slots=100)
    world.round_s = 0.1
    for at in range(9):
        world.one(f"d{at}")
        assert await world.carry_out() == 1
    found = await world.adaptations("interval_ms")
    assert [(one.before, one.after) for one in found] == [(0, 1), (1, 2), (2, 4), (4, 5)]
    assert found[0].because.startswith("rounds of 1.0 choices took ")

    world.round_s = 0.0
    world.proposes.clear()
    world.one("first")
    world.one("second")
    await asyncio.sleep(0)
    assert world.assigned() == [], "they wait for each other"
    async with asyncio.timeout(20):
        await world.proposes.wait()
    assert world.assigned() == ["first", "second"]

    world.one("third")
    await asyncio.sleep(0)
    assert world.assigned() == []
    world.one("urgent", Priority.URGENT)
    await asyncio.sleep(0)
    assert sorted(world.assigned()) == ["third", "urgent"]
    assert world.placement._gathering is None


async def test_where_no_pause_is_allowed_there_is_none(log, make_applier) -> None:
    world = Leading(log, make_applier("a"), policy="balanced", most_interval_ms=0)
    world.agent("a0", slots=100)
    world.round_s = 0.1
    for at in range(9):
        world.one(f"d{at}")
        assert await world.carry_out() == 1
    assert await world.adaptations("interval_ms") == []
