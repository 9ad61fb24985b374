"""A leader that begins: it goes on with all that there is, and is never silent for long (E1, F3)."""

from __future__ import annotations

import asyncio

from coordinator.core.commands import Assign, Choice
from coordinator.replica import leader as leading
from tests.replica.terms import Term


async def test_others_have_their_turns_while_a_new_leader_looks_at_its_agents(
    log, term: Term, monkeypatch
) -> None:
    """With many, and with one that holds much."""
    names = [f"w{at}" for at in range(6)]
    term.applier.apply([log.agent(name) for name in names])
    held = [task.key for task in term.applier.state.dag("one").tasks]
    epoch = term.applier.state.agents["w0"].record.epoch
    term.applier.apply([log.add(Assign([Choice(key, 1, "w0", epoch) for key in held]))])
    looked: list[list[str]] = []
    monkeypatch.setattr(leading, "_REBUILD_SLICE", 2)
    monkeypatch.setattr(term.placement, "add_agents", lambda some: looked.append(list(some)))
    rebuilding = asyncio.create_task(term.leader.rebuild())
    turns = set[int]()
    while not rebuilding.done():
        turns.add(len(looked))
        await asyncio.sleep(0)
    assert looked == [["r1", "w0"], ["w1", "w2"], ["w3", "w4"], ["w5"]]
    assert turns >= {1, 2, 3}


async def test_a_leader_says_whether_ends_are_due(term: Term) -> None:
    """Its proposer asks; see `scheduling.tasks.due`."""
    term.placement.add_agents(["r1"])
    (task,) = term.applier.state.dag("one").tasks
    assert not term.proposals.ends_are_due()
    term.placement._snapshot.hold("r1", task.key, 1, task.profile, 1, now_s=1.0)
    assert term.proposals.ends_are_due()
    term.placement._snapshot.release("r1", task.key, 1)
    assert not term.proposals.ends_are_due()
