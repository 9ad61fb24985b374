"""The power fails at each step of receiving and installing a snapshot: the node comes back with its former
state or with the new one, its log fits to it, and it can receive the snapshot then (A2, A5)."""

from __future__ import annotations

import random
import zlib

import pytest

from chaos.sim.disk import Disk, SimEngine, SimHome
from coordinator.consensus.journal import FAMILIES
from coordinator.consensus.messages import SnapshotChunk
from coordinator.consensus.port import SnapshotMeta
from coordinator.replica.applier import Applier
from coordinator.storage.state_store import StateStore
from tests.consensus.lab import Bench, append, command
from tests.replica.conftest import Log
from tests.replica.test_applier import picture

SYNC_S = 0.0006
STEPS = ((SimEngine, "write"), (SimEngine, "sync"), (SimHome, "make_current"), (SimHome, "remove"))
"""What changes a disk."""


class PowerCut(BaseException):
    """Not an error that a node could handle."""


class Fuse:
    """Lets so many steps pass, counting them, and then cuts the power."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 10**9
        self.passed = 0
        for owner, name in STEPS:
            monkeypatch.setattr(owner, name, self._guard(getattr(owner, name)))

    def _guard(self, step):
        def guarded(*arguments):
            if self.left == 0:
                raise PowerCut
            self.left -= 1
            self.passed += 1
            return step(*arguments)

        return guarded


class Machine:
    """A follower "b" of "a", on a disk that outlives it."""

    def __init__(self, seed: int) -> None:
        self.disk = Disk("b", random.Random(seed), sync_s=SYNC_S)
        self.bench = Bench("a", "c")
        self.bench.engine = self.disk.open("log", FAMILIES)
        self.start()

    def start(self) -> None:
        self.applier = new_applier(self.disk)
        self.bench.start(self.applier)

    def follow(self, log: Log, count: int) -> None:
        """Take the first entries from the leader, and have them applied."""
        entries = [command(1, entry.payload) for entry in log.entries[:count]]
        self.bench.hear("a", append(1, (1, 0), *entries, commit=1 + count))
        assert self.applier.applied.index == 1 + count

    def receive(self, meta: SnapshotMeta, content: list[bytes]) -> None:
        """Take a snapshot from the leader, and install it."""
        configuration = self.bench.node.journal.configuration
        for number, data in enumerate(content):
            last = number == len(content) - 1
            told = configuration if last else None
            crc = zlib.crc32(data)
            self.bench.hear("a", SnapshotChunk(1, 1, number, meta, crc, last, data, told))
        self.bench.install()
        self.bench.install()


def new_applier(disk: Disk) -> Applier:
    store = StateStore(disk.home())
    return Applier(store, max_events=100, kv_history_bytes=1 << 20, max_digests=100)


async def test_every_crash_leaves_a_whole_state(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    source = new_applier(Disk("a", random.Random(0), sync_s=SYNC_S))
    known = {source.applied.index: source.applied}
    for number in range(6):
        source.apply([log.chain(f"dag-{number}")])
        known[source.applied.index] = source.applied
    reader = source.read_snapshot()
    content = list(reader.chunks())
    fuse = Fuse(monkeypatch)
    whole = Machine(0)
    whole.follow(log, 2)
    before = fuse.passed
    whole.receive(reader.meta, content)
    assert whole.applier.applied == reader.meta
    steps = fuse.passed - before
    assert steps >= 6

    seen = set()
    for cut in range(steps):
        for seed in range(3):
            fuse.left = 10**9
            machine = Machine(seed)
            machine.follow(log, 2)
            fuse.left = cut
            with pytest.raises(PowerCut):
                machine.receive(reader.meta, content)
            fuse.left = 10**9
            machine.disk.crash()
            machine.start()
            assert machine.applier.applied == known[machine.applier.applied.index]
            seen.add(machine.applier.applied == reader.meta)
            machine.receive(reader.meta, content)
            assert machine.applier.applied == reader.meta
            assert picture(machine.applier.state) == picture(source.state)
            assert machine.bench.node.journal.last.index == reader.meta.index
            assert machine.disk.folders() == [machine.disk.current]
    assert seen == {False, True}, "the cuts lie before and after the swap"
