"""Defects in what the leader does by itself: none is silent, none stops what does not depend on it, and one
that leaves a leader half alive ends its term (H2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from coordinator.consensus.raft import RaftConsensus
from coordinator.core.commands import KvPut, RecordLoads, WriteId
from coordinator.core.outcome import Effects, KvStored
from coordinator.defects import CALLBACK, Defects
from coordinator.errors import OutcomeUnknown, StorageFault
from coordinator.forecast.bank import Bank
from coordinator.replica import placement as placing
from coordinator.replica.forecasting import Forecasting
from coordinator.replica.leader import Leader
from coordinator.replica.placement import Placement
from coordinator.replica.timers import Timers
from coordinator.scheduling.scheduler import Scheduler
from tests.replica.nodes import Nodes
from tests.replica.terms import LOAD, StillClock, Term


def errors(logged: list[dict]) -> list[str]:
    """The work of each line at the level of errors that carries its traceback."""
    return [line["work"] for line in logged if line["log_level"] == "error" and line["exc_info"]]


async def test_loads_are_recorded_although_forecasts_fail(term: Term, monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise ValueError("could not broadcast")

    monkeypatch.setattr(Bank, "observe", fails)
    with capture_logs() as logged:
        for turns in (1, 2, 3):
            term.reports_load()
            await term.until(lambda: term.defects.counts["forecasts"] >= turns)  # noqa: B023 - awaited here
    recorded = [one for one in term.proposals.made if isinstance(one, RecordLoads)]
    assert [one.loads for one in recorded[:3]] == [{"r1": LOAD}] * 3
    assert errors(logged)[:3] == ["forecasts"] * 3
    assert (term.node_defects.counts["forecasts"] >= 3, term.lost) == (True, 0)


@pytest.mark.parametrize(
    ("owner", "method", "work"),
    [(Placement, "set_loads", "overload"), (Leader, "_outlived", "retention"), (Leader, "propose", "loads")],
)
async def test_no_part_of_keeping_house_stops_another(
    term: Term, monkeypatch, owner: type, method: str, work: str
) -> None:
    def fails(*_: object) -> None:
        raise ValueError(method)

    steps: list[object] = []
    monkeypatch.setattr(owner, method, fails)
    monkeypatch.setattr(Forecasting, "observe", lambda self, loads: steps.append(loads))
    term.reports_load()
    await term.until(lambda: term.defects.counts[work] > 0)
    seen = len(steps)
    await term.until(lambda: len(steps) > seen)
    assert term.lost == 0


async def test_a_round_that_fails_is_made_again_after_a_pause(term: Term, monkeypatch) -> None:
    decide, calls = Scheduler.decide, []

    def fails_twice(self: Scheduler, *given: object) -> object:
        calls.append(asyncio.get_running_loop().time())
        if len(calls) <= 2:
            raise ValueError("no decision")
        return decide(self, *given)

    monkeypatch.setattr(placing, "_AFTER_DEFECT_S", 0.05)
    monkeypatch.setattr(Scheduler, "decide", fails_twice)
    with capture_logs() as logged:
        await term.leader.rebuild()
        await term.until(lambda: bool(term.proposals.made))
        for _ in range(9):
            term.placement.add_ready([])
            await asyncio.sleep(0)
    assert errors(logged) == ["placement"] * 2
    assert min(later - earlier for earlier, later in pairwise(calls[:3])) >= 0.05
    assert term.lost == 0


async def test_rounds_that_fail_for_good_end_the_term(term: Term, monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise ValueError("no decision")

    monkeypatch.setattr(placing, "_AFTER_DEFECT_S", 0.001)
    monkeypatch.setattr(Scheduler, "decide", fails)
    await term.leader.rebuild()
    await term.until(lambda: term.lost > 0)
    assert (term.lost, term.defects.counts["placement"]) == (1, 10)


async def test_what_would_be_lost_with_the_leader_ends_its_term(term: Term, monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise ValueError("half done")

    monkeypatch.setattr(Placement, "note", fails)
    with capture_logs() as logged:
        term.leader.on_effects(Effects())
    assert (term.lost, errors(logged)) == (1, ["effects"])

    timers = Timers(StillClock(), fails, lambda key, attempt: True, term.defects)
    timers.wake_at(1_000, 7)
    await term.until(lambda: term.lost == 2)
    assert term.defects.counts["timers"] == 1
    timers.stop()


async def test_a_cancelled_turn_is_no_defect() -> None:
    defects = Defects()
    begun = asyncio.Event()

    async def work() -> None:
        while True:
            with defects.turn("work"):
                begun.set()
                await asyncio.Event().wait()

    task = defects.within(lambda: pytest.fail("lost")).begin("work", work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not defects.counts


async def test_what_a_node_must_stop_for_is_no_defect() -> None:
    """A loop of the leader may be the first to read what has not been stored: a disk that is full then was
    counted as a defect in that loop, beside the stop."""
    fault = StorageFault("no space left on device")
    stopped, lost = list[object](), list[str]()
    node = Defects()
    node.stop = stopped.append
    term = node.within(lambda: lost.append("the term"))

    async def fails() -> None:
        raise fault

    with term.turn("past_load") as turn:
        raise fault
    assert (turn.failed, stopped, lost) == (True, [fault], [])
    with term.vital("placement"):
        raise fault
    await asyncio.wait({term.begin("timers", fails())})
    await asyncio.sleep(0)
    assert (stopped, lost) == ([fault] * 3, ["the term"] * 2)
    assert not node.counts


async def test_a_node_stops_for_a_fault_that_a_loop_of_its_leader_meets(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 1)
    await nodes.start()
    try:
        node = nodes.nodes[await nodes.led()]
        with node.defects.within(lambda: None).turn("past_load"):
            raise StorageFault("no space left on device")
        with pytest.raises(StorageFault, match="no space left"):
            await asyncio.wait_for(asyncio.shield(node.failed), timeout=10)
        assert not node.defects.counts
    finally:
        await nodes.stop()


async def test_what_no_code_takes_is_logged_and_counted() -> None:
    defects, loop = Defects(), asyncio.get_running_loop()
    told: list[str] = []
    defects.told = lambda work, error: told.append(f"{work}: {error!r}")
    loop.set_exception_handler(defects.unhandled)
    with capture_logs() as logged:
        loop.call_soon(lambda: 1 // 0)
        await asyncio.sleep(0.001)
    loop.set_exception_handler(None)
    assert errors(logged) == [CALLBACK]
    assert told == ["callback: ZeroDivisionError('integer division or modulo by zero')"]


@pytest.fixture
async def make_nodes(tmp_path: Path) -> AsyncIterator[Callable[[int], Nodes]]:
    made: list[Nodes] = []

    def make(size: int) -> Nodes:
        made.append(Nodes(tmp_path, size))
        return made[-1]

    yield make
    for nodes in made:
        await nodes.stop()


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("step", ["__init__", "rebuild"])
async def test_a_take_over_that_fails_gives_up_leadership(
    make_nodes: Callable[[int], Nodes], monkeypatch, size: int, step: str
) -> None:
    """To another node where there is one; alone it leads a later term."""
    failed: list[str] = []
    whole = getattr(Leader, step)

    def fails_once(self: Leader, *given: object, **named: object) -> object:
        if not failed:
            failed.append(step)
            raise ValueError("half a leader")
        return whole(self, *given, **named)

    monkeypatch.setattr(Leader, step, fails_once)
    nodes = make_nodes(size)
    await nodes.start()
    with capture_logs() as logged:
        await nodes.until(lambda: bool(failed) and bool(counted(nodes)), "the first has failed")
        (first,) = counted(nodes)
        assert nodes.leader is None
        term = nodes.nodes[first].consensus.status().term
        leader = await nodes.led(*([first] if size > 1 else []))
    assert nodes.nodes[leader].consensus.status().term > term
    assert errors(logged) == ["take_over"]
    put = KvPut(WriteId(), "key", b"value", None)
    assert isinstance(await nodes.nodes[leader].propose(put, KvStored), KvStored)


@pytest.mark.parametrize("size", [1, 3])
async def test_a_leader_that_cannot_propose_gives_up_leadership(
    make_nodes: Callable[[int], Nodes], monkeypatch, size: int
) -> None:
    """Whoever waits is told at once, and another leader takes what this one could not."""
    nodes = make_nodes(size)
    await nodes.start()
    first = await nodes.led()
    term = nodes.nodes[first].consensus.status().term

    def fails(*_: object) -> None:
        raise ValueError("no entry")

    with capture_logs() as logged:
        with monkeypatch.context() as patch:
            patch.setattr(RaftConsensus, "propose", fails)
            given = await nodes.nodes[first].submit(KvPut(WriteId(), "key", b"lost", None))
            with pytest.raises(OutcomeUnknown, match="no entry"):
                await given
        assert nodes.leader is None
        leader = await nodes.led(*([first] if size > 1 else []))
    assert nodes.nodes[leader].consensus.status().term > term
    assert errors(logged) == ["proposing"]
    assert counted(nodes, "proposing") == [first]
    put = KvPut(WriteId(), "key", b"value", None)
    assert isinstance(await nodes.nodes[leader].propose(put, KvStored), KvStored)


def counted(nodes: Nodes, work: str = "take_over") -> list[str]:
    """Nodes with a defect in this work."""
    return [me for me, node in nodes.nodes.items() if node.defects.counts[work]]
