"""What callers of one node's consensus are told when leadership is lost at an awkward moment (A3). The node
is on a bench, its driver ticks when told."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
import uvloop
from pysyncobj.node import Node

from coordinator.consensus.raft import RaftConsensus
from coordinator.errors import OutcomeUnknown, StorageFault, WrongState
from tests.consensus.lab import Bench, add, append, commit_by, empty, leading


class Driven(RaftConsensus):
    """The driver of a bench's node."""

    def __init__(self, bench: Bench) -> None:
        self._me = "b"
        self._node = bench.node
        self._settings = bench.settings
        self._now = lambda: bench.clock
        self._timer = None
        self._timer_s = math.inf
        self._running = True
        self._handing_over = False
        self._role_waiters = []

    def tick(self) -> None:
        """As the event loop does."""
        self._tick_asked = True
        self._tick()


def settled() -> Bench:
    """A leader that may change the membership."""
    bench = leading()
    commit_by(bench, "a", "c")
    return bench


async def test_a_change_is_not_acknowledged_for_another_leaders_entry_in_its_place() -> None:
    bench = settled()
    driven = Driven(bench)
    last = bench.node.journal.last
    changing = asyncio.create_task(driven.change_membership(add("x")))
    await asyncio.sleep(0)
    assert bench.node.journal.last_index == last.index + 1
    term = last.term + 1
    bench.hear("a", append(term, (last.index, last.term), empty(term), commit=last.index + 1))
    assert bench.node.commit_index == last.index + 1
    driven._role_changed()
    with pytest.raises(OutcomeUnknown, match="before the change was committed"):
        await changing


async def test_a_change_is_acknowledged_when_it_is_committed() -> None:
    bench = settled()
    driven = Driven(bench)
    changing = asyncio.create_task(driven.change_membership(add("x")))
    await asyncio.sleep(0)
    driven._role_changed()
    await asyncio.sleep(0)
    assert not changing.done()
    commit_by(bench, "a")
    driven._role_changed()
    assert (await changing).get("x") is not None


@pytest.mark.parametrize("lost", ["its target", "this node"])
async def test_who_waits_for_a_transfer_hears_at_once_that_it_cannot_come_about(lost: str) -> None:
    bench = settled()
    driven = Driven(bench)
    handing = asyncio.create_task(driven.transfer_leadership("c"))
    await asyncio.sleep(0)
    if lost == "its target":
        bench.transport._onNodeDisconnected(Node("c"))
        driven.tick()
    else:
        bench.node.fail(StorageFault("the disk is gone"))
        driven._role_changed()
    told = "c was lost before it took over" if lost == "its target" else "b has stopped before c took over"
    with pytest.raises(WrongState, match=told):
        await handing


def test_no_tick_comes_before_its_deadline_on_the_loop_that_nodes_run_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That loop counts in milliseconds: a tick that came early would ask for the next one at once."""

    async def early_by() -> float:
        bench = settled()
        driven = Driven(bench)
        driven._now = time.monotonic
        earliest = -math.inf
        for tenths in range(20):
            deadline = time.monotonic() + 0.003 + tenths / 10_000
            ticked: asyncio.Future[float] = asyncio.get_running_loop().create_future()
            monkeypatch.setattr(bench.node, "next_deadline", lambda deadline=deadline: deadline)
            monkeypatch.setattr(driven, "_wake", lambda ticked=ticked: ticked.set_result(time.monotonic()))
            driven._set_timer()
            earliest = max(earliest, deadline - await ticked)
        return earliest

    assert uvloop.run(early_by()) <= 0
