"""The placement loop after a change of leader: an agent gets work from the new leader once it has opened a
session with it, not before, so that nothing is assigned in vain. Answers F4."""

from __future__ import annotations

import asyncio

from coordinator.core.commands import Assign, Command
from coordinator.core.outcome import Effects, Reply
from coordinator.replica.placement import Placement


class Proposals:
    """Takes proposals, and leaves them without an answer."""

    def __init__(self) -> None:
        self.made: list[Command] = []

    def submit(self, command: Command) -> asyncio.Future[Reply]:
        self.made.append(command)
        return asyncio.get_running_loop().create_future()


async def test_an_agent_is_given_work_only_once_it_has_come_to_the_new_leader(log, make_applier):
    applier = make_applier("a")
    applier.apply([log.agent("r1"), log.chain("one", 1)])
    proposals = Proposals()
    placement = Placement(
        lambda: applier.state,
        proposals.submit,
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
