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


class Disk:
    """Work that takes as long as it is told to, on a clock of its own; notes which thread does it."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.takes_s = 0.0001
        self.elsewhere = 0
        self.error: Exception | None = None
        self._loop_thread = threading.get_ident()

    def sync(self) -> None:
        self.clock += self.takes_s
        self.elsewhere += threading.get_ident() != self._loop_thread
        if self.error is not None:
            raise self.error

    async def by(self, worker: ThreadWorker) -> Exception | None:
        """After a while, sync as the log does; returns what the thread has met."""
        self.clock += 1
        if worker.run_if_brief(self.sync):
            return None
        over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        worker.run(self.sync, over.set_result)
        return await over


async def test_work_is_done_at_once_as_soon_as_it_is_known_to_be_brief() -> None:
    disk = Disk()
    worker = ThreadWorker("sync", 0.001, now=lambda: disk.clock)
    for _ in range(30):
        assert await disk.by(worker) is None
    assert 0 < disk.elsewhere < 10
    disk.takes_s, disk.elsewhere = 0.1, 0
    await disk.by(worker)
    assert disk.elsewhere == 0
    disk.takes_s = 0.0001
    for _ in range(20):
        await disk.by(worker)
    assert disk.elsewhere == 20
    for _ in range(40):
        await disk.by(worker)
    assert disk.elsewhere < 60
    await worker.close()


async def test_the_event_loop_is_left_alone_for_twice_as_long_as_it_waited() -> None:
    disk = Disk()
    worker = ThreadWorker("sync", 0.001, now=lambda: disk.clock)
    while not worker.run_if_brief(disk.sync):
        await disk.by(worker)
    assert not worker.run_if_brief(disk.sync)
    disk.clock += disk.takes_s
    assert not worker.run_if_brief(disk.sync)
    disk.clock += 1.01 * disk.takes_s
    assert worker.run_if_brief(disk.sync)
    await worker.close()


async def test_a_slow_disk_is_always_left_to_the_thread() -> None:
    disk = Disk()
    disk.takes_s = 0.0015
    worker = ThreadWorker("sync", 0.001, now=lambda: disk.clock)
    for _ in range(30):
        await disk.by(worker)
    assert disk.elsewhere == 30
    await worker.close()


async def test_without_a_limit_nothing_is_brief() -> None:
    disk = Disk()
    disk.takes_s = 0.0
    worker = ThreadWorker("flush", now=lambda: disk.clock)
    for _ in range(10):
        await disk.by(worker)
    assert disk.elsewhere == 10
    await worker.close()


async def test_nothing_overtakes_what_is_under_way() -> None:
    disk = Disk()
    worker = ThreadWorker("sync", 0.001, now=lambda: disk.clock)
    while not worker.run_if_brief(disk.sync):
        await disk.by(worker)
    over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    held = threading.Event()
    worker.run(lambda: arrives(held), over.set_result)
    assert not worker.run_if_brief(disk.sync)
    held.set()
    assert await over is None
    disk.clock += 1
    assert worker.run_if_brief(disk.sync)
    await worker.close()


async def test_what_work_raises_reaches_whoever_asked_for_it() -> None:
    disk = Disk()
    worker = ThreadWorker("sync", 0.001, now=lambda: disk.clock)
    disk.error = StorageFault("the disk is gone")
    assert await disk.by(worker) is disk.error
    disk.error = None
    while not worker.run_if_brief(disk.sync):
        await disk.by(worker)
    disk.error = StorageFault("the disk is gone")
    disk.clock += 1
    with pytest.raises(StorageFault):
        worker.run_if_brief(disk.sync)
    await worker.close()


def arrives(event: threading.Event) -> None:
    """Wait for the event, which must come."""
    assert event.wait(10)
