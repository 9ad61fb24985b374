"""The placement loop after a change of leader: an agent gets work from the new leader once it has opened a
session with it, not before, so that nothing is assigned in vain. Answers F4. And an agent that is overloaded
gets none until it has recovered, also when it was another leader that heard of its load (D4). What waits for
a reservation to end is looked at when it does (E9)."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from coordinator.core.commands import Assign, Command, RecordLoads, SetReservation, SubmitDag
from coordinator.core.model import (
    AgentLoad,
    AgentState,
    DagHeader,
    Priority,
    Task,
    TaskBlock,
    TaskFamily,
    TaskProfile,
)
from coordinator.core.outcome import Effects, Reply
from coordinator.core.reservations import ReservationRecord
from coordinator.replica.placement import Placement
from coordinator.scheduling.load.measured import ExpectedLoads
from coordinator.scheduling.load.overload import LoadView
from coordinator.scheduling.load.settings import LoadSettings


class Proposals:
    """Takes proposals, and leaves them without an answer."""

    def __init__(self) -> None:
        self.made: list[Command] = []
        self.any = asyncio.Event()

    def submit(self, command: Command) -> asyncio.Future[Reply]:
        self.made.append(command)
        self.any.set()
        return asyncio.get_running_loop().create_future()


async def test_an_agent_is_given_work_only_once_it_has_come_to_the_new_leader(log, make_applier):
    applier = make_applier("a")
    applier.apply([log.agent("r1"), log.chain("one", 1)])
    proposals = Proposals()
    placement = Placement(
        lambda: applier.state,
        proposals.submit,
        lambda: 1_000,
        look_ahead_ms=20,
        opened_after=applier.state.machine.sequence,
    )
    (task,) = applier.state.dag("one").tasks
    placement.add_agents(["r1"])
    placement.add_ready([task.key])
    await asyncio.sleep(0)
    assert proposals.made == []
    refusal = placement.explain(task).refusals[0]
    assert (refusal.example, refusal.detail) == ("r1", "not back since the leader changed")
    applier.apply([log.agent("r1")])
    placement.note(Effects(sessions=["r1"]))
    await asyncio.sleep(0)
    (assign,) = proposals.made
    assert isinstance(assign, Assign)
    assert [(choice.agent, choice.key) for choice in assign.choices] == [("r1", task.key)]


WITHOUT_MEMORY = AgentLoad(cpu=0.2, memory=0.99)


@pytest.mark.parametrize("priority", [Priority.MEDIUM, Priority.URGENT])
async def test_an_overloaded_agent_gets_nothing_until_it_has_recovered(log, make_applier, priority):
    applier, proposals = make_applier("a"), Proposals()
    block = TaskBlock(0, ["t"], [0], [()], [b""], [0])
    applier.apply(
        [
            log.agent("r1"),
            log.add(SubmitDag("", DagHeader("one"), [TaskProfile("noop", priority=priority)], block)),
            log.add(RecordLoads({"r1": WITHOUT_MEMORY})),
        ]
    )
    placement = Placement(
        lambda: applier.state,
        proposals.submit,
        lambda: 1_000,
        look_ahead_ms=20,
        opened_after=0,
        load=LoadSettings(max_share=1.0),
    )
    (task,) = applier.state.dag("one").tasks
    placement.add_agents(["r1"])
    placement.add_ready([task.key])
    await asyncio.sleep(0)
    assert proposals.made == []
    refusal = placement.explain(task).refusals[0]
    assert (refusal.reason, refusal.example) == ("accepting", "r1")
    assert refusal.detail == "overloaded: load 0.99 of 0.95, until it is below 0.85"
    for load in (0.97, 0.9):
        placement.set_loads({"r1": AgentLoad(memory=load)})
        assert placement.explain(task).refusals[0].detail.startswith(f"overloaded: load {load:.2f}")
    await asyncio.sleep(0)
    assert proposals.made == []
    placement.set_loads({"r1": AgentLoad(memory=0.5)})
    await asyncio.sleep(0)
    (assign,) = proposals.made
    assert [choice.agent for choice in assign.choices] == ["r1"]


async def test_an_agent_that_has_gone_leaves_no_load_behind(log, make_applier):
    applier, proposals = make_applier("a"), Proposals()
    applier.apply([log.agent("r1")])
    placement = Placement(
        lambda: applier.state,
        proposals.submit,
        lambda: 1_000,
        look_ahead_ms=20,
        opened_after=0,
        load=LoadSettings(max_share=1.0),
    )
    placement.add_agents(["r1"])
    placement.set_loads({"r1": WITHOUT_MEMORY, "nobody": WITHOUT_MEMORY})
    assert placement.load_of("r1").overloaded
    applier.state.agents["r1"].record.state = AgentState.LOST
    placement.note(Effects(sessions=["r1"]))
    assert placement.load_of("r1") == placement.load_of("nobody") == LoadView()


async def test_what_waits_for_a_reservation_to_end_is_looked_at_when_it_does(log, make_applier):
    """Nothing else happens meanwhile: no entry, no report, nothing that runs."""
    applier, proposals, loop = make_applier("a"), Proposals(), asyncio.get_running_loop()
    begun_s = loop.time()
    kept = ReservationRecord("sale", "shop", end_ms=100_050, agents=("r1",))
    applier.apply([log.agent("r1"), log.chain("one", 1), log.add(SetReservation("", kept))])
    placement = Placement(
        lambda: applier.state,
        proposals.submit,
        lambda: 100_000 + round((loop.time() - begun_s) * 1_000),
        look_ahead_ms=20,
        opened_after=0,
    )
    (task,) = applier.state.dag("one").tasks
    placement.add_agents(["r1"])
    placement.add_ready([task.key])
    await asyncio.sleep(0)
    assert proposals.made == []
    assert placement.explain(task).refusals[0].reason == "reserved"
    await asyncio.wait_for(proposals.any.wait(), 30)
    assert placement.now_ms() >= kept.end_ms
    assert [choice.agent for choice in proposals.made[0].choices] == ["r1"]
    placement.stop()


def one_task(log, make_applier, proposals: Proposals, **settings) -> tuple[Placement, Task]:
    """Two agents, of which `busy` measures a CPU in use and `full` memory, and a task of two minutes."""
    applier = make_applier("a")
    block = TaskBlock(0, ["t"], [0], [()], [b""], [120_000])
    profile = TaskProfile("noop", TaskFamily.COMPUTE)
    submit = SubmitDag("", DagHeader("one"), [profile], block)
    applier.apply([log.agent("busy"), log.agent("full"), log.add(submit)])
    placement = Placement(
        lambda: applier.state, proposals.submit, lambda: 1_000, look_ahead_ms=20, opened_after=0, **settings
    )
    placement.add_agents(["busy", "full"])
    placement.set_loads({"busy": AgentLoad(cpu=0.5), "full": AgentLoad(memory=0.8)})
    return placement, applier.state.dag("one").tasks[0]


@pytest.mark.parametrize(("weights", "agent"), [("", "full"), ("memory=1", "busy")])
async def test_tasks_are_placed_by_the_weights_of_their_family_unless_an_operator_says_otherwise(
    log, make_applier, weights, agent
):
    proposals = Proposals()
    placement, task = one_task(log, make_applier, proposals, load=LoadSettings(weights=weights))
    placement.add_ready([task.key])
    await asyncio.sleep(0)
    (assign,) = proposals.made
    assert [choice.agent for choice in assign.choices] == [agent]


async def test_a_task_that_lasts_is_placed_by_what_is_expected(log, make_applier):
    proposals = Proposals()
    placement, task = one_task(log, make_applier, proposals)
    nobody = np.full((1, 1), np.nan)
    placement.expect(ExpectedLoads((60.0,), ("full",), np.ones((1, 1)), nobody))
    placement.add_ready([task.key])
    await asyncio.sleep(0)
    (assign,) = proposals.made
    assert [choice.agent for choice in assign.choices] == ["busy"]
    why = placement.decisions.assignment(task.key, 1)
    parts = {one.agent: {part.name: part.value for part in one.parts} for one in why.candidates}
    assert parts["busy"]["forecast"] == 0.0
    assert parts["full"]["forecast"] > 0.0
