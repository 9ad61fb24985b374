"""When the log is synced, and by whom: at once while the disk is quick, else by a thread; and nothing is
acknowledged before. Answers A1, A5."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordinator.consensus.messages import AppendEntries, AppendReply
from coordinator.consensus.worker import ThreadWorker
from coordinator.errors import StorageFault
from tests.consensus.lab import NOTHING, Bench, append, command, leading, voters
from tests.consensus.memory import ListReplica, MemoryEngine

# On one node.


def test_on_a_quick_disk_a_follower_acknowledges_in_the_tick_after_the_entry() -> None:
    bench = Bench()
    bench.syncer.brief = True
    bench.transport._onMessageReceived(bench.node._node("a"), append(1, (1, 0), command(1, b"x")))
    assert not bench.transport.take()
    bench.node.doTick()
    assert bench.transport.take() == [("a", AppendReply(1, 1, 2, NOTHING))]
    assert (bench.node.journal.durable_index, bench.engine.unsynced) == (2, 0)


def test_an_acknowledgement_does_not_wait_until_what_is_committed_is_applied() -> None:
    bench = Bench()
    bench.syncer.brief = True
    bench.hear("a", append(1, (1, 0), command(1, b"x")))
    (answer,) = bench.hear("a", append(1, (2, 1), command(1, b"y"), commit=2, seq=2))
    assert answer == ("a", AppendReply(1, 2, 3, NOTHING))
    assert bench.replica.commands == [b"x"]


def test_a_leader_sends_before_it_syncs() -> None:
    bench = leading()
    bench.syncer.brief = True
    bench.node.propose(b"x")
    bench.engine.fault = StorageFault("the disk is gone")
    bench.node.doTick()
    sent = [(to, one.entries) for to, one in bench.transport.take() if isinstance(one, AppendEntries)]
    assert sent == [("a", [command(1, b"x")])]
    assert bench.node.stopped


def test_a_cluster_of_one_commits_and_applies_in_the_tick_after_the_proposal() -> None:
    bench = Bench()
    bench.peers, bench.founders = (), voters("b")
    bench.engine = MemoryEngine(list(bench.engine._live))
    bench.start(ListReplica())
    bench.settle()
    bench.syncer.brief = True
    bench.node.propose(b"x")
    bench.wakes = 0
    bench.node.doTick()
    assert bench.replica.commands == [b"x"]
    assert bench.wakes == 1


def test_entries_that_come_close_together_are_left_to_the_thread() -> None:
    bench = Bench()
    bench.syncer.brief = True
    bench.transport._onMessageReceived(
        bench.node._node("a"), append(1, (1, 0), command(1, b"x"), command(1, b"y"))
    )
    bench.node.doTick()
    assert not bench.transport.take()
    assert len(bench.syncer) == 1


def test_a_sync_that_fails_at_once_stops_the_node_and_nothing_is_acknowledged() -> None:
    bench = Bench()
    bench.syncer.brief = True
    bench.transport._onMessageReceived(bench.node._node("a"), append(1, (1, 0), command(1, b"x")))
    bench.engine.fault = StorageFault("the disk is gone")
    assert not bench.settle()
    assert bench.node.stopped
    assert bench.replica.fatal == [bench.engine.fault]


def test_a_slow_sync_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    for index, takes_s in enumerate((0.099, 0.666)):
        bench.transport._onMessageReceived(
            bench.node._node("a"), append(1, (1 + index, index), command(1, b"x"), seq=1 + index)
        )
        bench.node.doTick()
        bench.clock += takes_s
        bench.syncer.finish()
    assert (bench.node.counters["syncs"], bench.node.counters["slow_syncs"]) == (2, 1)
    (warning,) = [
        record.getMessage() for record in caplog.records if "sync of the log" in record.getMessage()
    ]
    assert "0.666 s" in warning


# The worker.

PATIENT_S = 60.0
"""So long that nobody gives up, and everything is brief, however busy the machine is."""


class Disk:
    """Work that takes as long as it is told to, on a clock of its own."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.takes_s = 1.0
        self.error: Exception | None = None

    def sync(self) -> None:
        self.clock += self.takes_s
        if self.error is not None:
            raise self.error

    async def by(self, worker: ThreadWorker, *, after_s: float = 1e6) -> bool:
        """After a while, sync as the log does; returns whether the event loop has waited."""
        self.clock += after_s
        over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        if worker.run_and_wait(self.sync, over.set_result):
            return True
        error = await over
        if error is not None:
            raise error
        return False

    async def known_as_brief_by(self, worker: ThreadWorker) -> None:
        """Until the loop waits for it."""
        while not await self.by(worker):
            pass


async def test_work_is_waited_for_as_soon_as_it_is_known_to_be_brief() -> None:
    disk = Disk()
    worker = ThreadWorker("sync", PATIENT_S, now=lambda: disk.clock)
    waited = [await disk.by(worker) for _ in range(30)]
    assert waited == sorted(waited)
    assert 0 < waited.index(True) < 10
    disk.takes_s = 100 * PATIENT_S
    assert await disk.by(worker)
    disk.takes_s = 1.0
    assert not any([await disk.by(worker) for _ in range(18)])
    assert any([await disk.by(worker) for _ in range(40)])
    await worker.close()


async def test_the_event_loop_is_left_alone_for_twice_as_long_as_it_waited() -> None:
    disk = Disk()
    worker = ThreadWorker("sync", PATIENT_S, now=lambda: disk.clock)
    await disk.known_as_brief_by(worker)
    assert not await disk.by(worker, after_s=0.0)
    assert not await disk.by(worker, after_s=0.9)
    assert await disk.by(worker, after_s=0.1)
    await worker.close()


async def test_a_slow_disk_is_never_waited_for() -> None:
    disk = Disk()
    disk.takes_s = 1.5 * PATIENT_S
    worker = ThreadWorker("sync", PATIENT_S, now=lambda: disk.clock)
    assert not any([await disk.by(worker) for _ in range(30)])
    await worker.close()


async def test_without_a_limit_nothing_is_brief() -> None:
    disk = Disk()
    disk.takes_s = 0.0
    worker = ThreadWorker("flush", now=lambda: disk.clock)
    assert not any([await disk.by(worker) for _ in range(10)])
    await worker.close()


async def test_a_disk_that_hangs_does_not_hold_the_event_loop() -> None:
    """A leader goes on to lead by the other nodes' disks."""
    disk = Disk()
    disk.takes_s = 0.0
    worker = ThreadWorker("sync", 0.001, now=lambda: disk.clock)
    await disk.known_as_brief_by(worker)
    held = threading.Event()
    over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    assert not worker.run_and_wait(lambda: arrives(held), over.set_result)
    assert not over.done()
    held.set()
    assert await over is None
    await worker.close()


async def test_every_end_is_told_once_however_close_it_is_to_the_end_of_patience() -> None:
    worker = ThreadWorker("sync", 2e-5, now=lambda: 0.0)
    worker.run(lambda: None, lambda _: None)
    waited, told = 0, []
    for number in range(2_000):
        waited += worker.run_and_wait(lambda: None, lambda _, number=number: told.append(number))
        await asyncio.sleep(0)
    await worker.close()
    await asyncio.sleep(0)
    assert waited + len(set(told)) == waited + len(told) == 2_000


async def test_nothing_overtakes_what_is_under_way() -> None:
    disk = Disk()
    worker = ThreadWorker("sync", PATIENT_S, now=lambda: disk.clock)
    await disk.known_as_brief_by(worker)
    held = threading.Event()
    done: list[str] = []
    worker.run(lambda: done.append("first") if held.wait(10) else None, lambda _: done.append("told"))
    over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    disk.clock += 3
    assert not worker.run_and_wait(lambda: done.append("second"), over.set_result)
    held.set()
    assert await over is None
    assert done[0] == "first"
    assert set(done) == {"first", "second", "told"}
    assert await disk.by(worker)
    await worker.close()


async def test_what_work_raises_reaches_whoever_asked_for_it() -> None:
    disk = Disk()
    worker = ThreadWorker("sync", PATIENT_S, now=lambda: disk.clock)
    disk.error = StorageFault("the disk is gone")
    with pytest.raises(StorageFault):
        await disk.by(worker)
    disk.error = None
    await disk.known_as_brief_by(worker)
    disk.error = StorageFault("the disk is gone")
    disk.clock += 3
    with pytest.raises(StorageFault):
        worker.run_and_wait(disk.sync, never)
    await worker.close()


async def test_a_worker_that_had_nothing_to_do_closes() -> None:
    await ThreadWorker("sync").close()


def arrives(event: threading.Event) -> None:
    """Wait for the event, which must come."""
    assert event.wait(10)


def never(_: Exception | None) -> None:
    """Must not be called."""
    raise AssertionError
