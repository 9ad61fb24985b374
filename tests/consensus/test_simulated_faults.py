"""Whole clusters on virtual time, from one seed: crashes that lose what was not synced, partitions,
delays, slow disks, compaction and snapshots (A1, A2, A4, A5).

Checked at every step: one leader a term, acknowledgements that are true, the same digest at the same
index on every node, reads that see every write acknowledged before them. Checked once the faults have
ended: nothing acknowledged is missing or doubled, and all nodes have come to the same end.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from typing import Any

import pytest
from pysyncobj.node import Node

from coordinator.consensus.hardened import HardenedSyncObj
from coordinator.consensus.journal import FAMILIES, Journal
from coordinator.consensus.messages import AppendReply
from coordinator.consensus.port import Committed, SnapshotMeta
from coordinator.consensus.settings import RaftSettings
from coordinator.errors import CoordinatorError
from tests.consensus.lab import RecordingTransport, voters
from tests.consensus.memory import ListReplica, ManualWorker, MemoryEngine

SEEDS = 12
STEP_S = 0.004
FAULTS_END_S = 12.0
WRITES_END_S = 13.0
END_S = 17.0

SETTINGS = RaftSettings(
    max_append_entries=10,
    window_messages=16,
    tail_entries=30,
    apply_entries=40,
    compact_after_entries=60,
    keep_entries=15,
    snapshot_resend_s=0.1,
    snapshot_stall_s=0.5,
    snapshot_retry_s=0.1,
)


class SimulatedReplica(ListReplica):
    """Its state reaches the disk when it is flushed or installed; a crash goes back to that."""

    chunk_bytes = 20_000

    def __init__(self, world: World, me: str) -> None:
        super().__init__()
        self._world = world
        self._me = me
        self.stored: tuple[SnapshotMeta, list[bytes]] = (self.applied, [])

    def apply(self, entries: Sequence[Committed]) -> None:
        super().apply(entries)
        self._world.applied(self._me, entries, self.applied)

    def flush(self) -> None:
        super().flush()
        self._store()

    def installed(self) -> None:
        self._store()

    def crash(self) -> None:
        """Go back to what is on disk."""
        self.applied, commands = self.stored
        self.commands = list(commands)

    def _store(self) -> None:
        self.stored = (self.applied, list(self.commands))


class Wire(RecordingTransport):
    """Hands messages to the world."""

    def __init__(self, world: World, me: str) -> None:
        super().__init__()
        self._world = world
        self._me = me

    def send(self, node: Node, message: object) -> bool:
        return self._world.send(self._me, node.id, message)


class Process:
    """A node that is up, on a disk that outlives it."""

    def __init__(self, world: World, me: str, disk: MemoryEngine, replica: SimulatedReplica) -> None:
        self.wire = Wire(world, me)
        self.syncer, self.flusher = ManualWorker(), ManualWorker()
        self.node = HardenedSyncObj(
            me,
            incarnation="",
            transport=self.wire,
            journal=Journal(
                disk,
                founders=voters(*world.ids),
                tail_entries=SETTINGS.tail_entries,
                tail_bytes=SETTINGS.tail_bytes,
            ),
            replica=replica,
            settings=SETTINGS,
            now=lambda: world.clock,
            rng=random.Random(world.chance.random()),
            syncer=self.syncer,
            flusher=self.flusher,
            wake=lambda: None,
            reconfigured=lambda: None,
        )


class World:
    """Nodes, links and disks, and what must be true of them."""

    def __init__(self, seed: int, size: int) -> None:
        self.chance = random.Random(seed)
        self.clock = 0.0
        self.ids = "abcde"[:size]
        self.up: dict[str, Process] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.reads = 0
        self._disks = {me: MemoryEngine(FAMILIES) for me in self.ids}
        self._replicas = {me: SimulatedReplica(self, me) for me in self.ids}
        self._mail: list[tuple[float, int, str, str, int, Any]] = []
        self._sent = 0
        self._arrival: dict[tuple[str, str], float] = {}
        self._epochs: dict[tuple[str, str], int] = {}
        self._cut: set[frozenset[str]] = set()
        self._proposed: dict[tuple[int, int], tuple[str, bytes]] = {}
        self._digests: dict[int, bytes] = {}
        self._leaders: dict[int, str] = {}
        self._slow_disk = {me: self.chance.choice((0.9, 0.5, 0.1)) for me in self.ids}
        for me in self.ids:
            self._start(me)

    # What the nodes do to the world.

    def send(self, source: str, target: str, message: object) -> bool:
        if self._separate(source, target) or target not in self.up or self.chance.random() < 0.002:
            return False
        if isinstance(message, AppendReply):
            self._check_promise(source, target, message)
        slow = self.chance.random() < 0.03
        delay = self.chance.uniform(0.01, 0.3) if slow else self.chance.uniform(0.0005, 0.01)
        at = max(self.clock + delay, self._arrival.get((source, target), 0.0) + 1e-7)
        self._arrival[source, target] = at
        self._sent += 1
        epoch = self._epochs.get((source, target), 0)
        heapq.heappush(self._mail, (at, self._sent, source, target, epoch, message))
        return True

    def applied(self, me: str, entries: Sequence[Committed], applied: SnapshotMeta) -> None:
        assert self._digests.setdefault(applied.index, applied.digest) == applied.digest, "states differ"
        for entry in entries:
            if self._proposed.get((entry.index, entry.term), ("", b"")) == (me, entry.payload):
                self.acknowledged[entry.payload] = entry.index

    # What the world does to the nodes.

    def step(self, *, faults: bool, writes: bool) -> None:
        end = self.clock + STEP_S
        while self._mail and self._mail[0][0] <= end:
            at, _, source, target, epoch, message = heapq.heappop(self._mail)
            if target in self.up and epoch == self._epochs.get((source, target), 0):
                self.clock = max(self.clock, at)
                self.up[target].wire._onMessageReceived(Node(source), message)
        self.clock = end
        for me in sorted(self.up):
            self._work(me)
        if writes:
            self._use()
        if faults:
            self._harm()
        else:
            self._heal()

    def check_end(self) -> None:
        states = {me: self._replicas[me].commands for me in self.ids}
        state = states[self.ids[0]]
        assert all(other == state for other in states.values()), {me: len(x) for me, x in states.items()}
        assert len(set(state)) == len(state), "applied twice"
        missing = self.acknowledged.keys() - set(state)
        assert not missing, f"{len(missing)} acknowledged writes are gone"

    def count(self, name: str) -> int:
        return sum(process.node.counters[name] for process in self.up.values())

    def _check_promise(self, follower: str, leader: str, reply: AppendReply) -> None:
        leadership, log = self.up[leader].node.leadership, self.up[leader].node.journal
        if leadership is None or self.up[leader].node.term != reply.term:
            return
        assert reply.seq <= leadership._seq, "a round that was never sent is answered"
        match = min(reply.match, log.last_index)
        terms = [one.term_at(match) for one in (log, self.up[follower].node.journal)]
        assert None in terms or terms[0] == terms[1], "an entry that is another one is acknowledged"

    def _work(self, me: str) -> None:
        process = self.up[me]
        if self.chance.random() < self._slow_disk[me]:
            process.syncer.finish()
        if self.chance.random() < 0.1:
            process.flusher.finish()
        process.node.doTick()
        assert self._replicas[me].fatal == []
        if process.node.leadership is not None:
            assert self._leaders.setdefault(process.node.term, me) == me, "two leaders in one term"

    def _use(self) -> None:
        for me in sorted(self.up):
            node = self.up[me].node
            if node.leadership is None or self.chance.random() < 0.5:
                continue
            try:
                for _ in range(self.chance.choice((1, 1, 3, 12))):
                    payload = b"%d" % len(self._proposed) + b"." * self.chance.choice((10, 200))
                    self._proposed[node.propose(payload)] = (me, payload)
                if self.chance.random() < 0.1:
                    self._read(node)
            except CoordinatorError:
                continue

    def _read(self, node: HardenedSyncObj) -> None:
        written = max(self.acknowledged.values(), default=0)

        def done(answer: int | Exception) -> None:
            if isinstance(answer, int):
                self.reads += 1
                assert answer >= written, "a read that misses an acknowledged write"

        node.read_index(done)

    def _harm(self) -> None:
        dice = self.chance.random()
        down = [me for me in self.ids if me not in self.up]
        if dice < 0.004 and self.up:
            self._crash(self.chance.choice(sorted(self.up)))
        elif dice < 0.009 and down:
            self._start(self.chance.choice(down))
        elif dice < 0.014:
            self._partition(*self.chance.sample(self.ids, 2))
        elif dice < 0.022 and self._cut:
            self._mend(self.chance.choice(sorted(self._cut, key=sorted)))
        elif dice < 0.024 and self.up:
            node = self.up[self.chance.choice(sorted(self.up))].node
            if node.leadership is not None:
                self._transfer(node)

    def _transfer(self, node: HardenedSyncObj) -> None:
        try:
            node.begin_transfer(None)
        except CoordinatorError:
            node.end_transfer()

    def _heal(self) -> None:
        for me in self.ids:
            if me not in self.up:
                self._start(me)
            else:
                self.up[me].node.end_transfer()
        for link in sorted(self._cut, key=sorted):
            self._mend(link)

    def _start(self, me: str) -> None:
        self.up[me] = Process(self, me, self._disks[me], self._replicas[me])
        for other in sorted(self.up):
            if other != me and not self._separate(me, other):
                self._connection(me, other, up=True)

    def _crash(self, me: str) -> None:
        del self.up[me]
        disk = self._disks[me]
        disk.crash(kept=self.chance.randint(0, disk.unsynced))
        self._replicas[me].crash()
        for other in self.ids:
            if other != me:
                self._connection(me, other, up=False)

    def _partition(self, one: str, other: str) -> None:
        if not self._separate(one, other):
            self._cut.add(frozenset((one, other)))
            self._connection(one, other, up=False)

    def _mend(self, link: frozenset[str]) -> None:
        self._cut.discard(link)
        one, other = sorted(link)
        if one in self.up and other in self.up:
            self._connection(one, other, up=True)

    def _connection(self, one: str, other: str, *, up: bool) -> None:
        for source, target in ((one, other), (other, one)):
            self._epochs[source, target] = self._epochs.get((source, target), 0) + 1
        for source, target in ((one, other), (other, one)):
            if source in self.up:
                wire = self.up[source].wire
                (wire._onNodeConnected if up else wire._onNodeDisconnected)(Node(target))

    def _separate(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self._cut


def live(seed: int, size: int) -> World:
    """A whole life: faults, then healing, then rest."""
    world = World(seed, size)
    while world.clock < END_S:
        world.step(faults=world.clock < FAULTS_END_S, writes=world.clock < WRITES_END_S)
    world.check_end()
    return world


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_acknowledged_is_lost_and_all_end_alike(seed: int) -> None:
    world = live(seed, 5 if seed % 3 == 0 else 3)
    assert len(world.acknowledged) > 100
    assert world.reads > 0


def test_the_faults_take_every_path() -> None:
    """If compaction, snapshots and refusals did not happen in these runs, they would prove nothing about
    them."""
    worlds = [live(seed, 3) for seed in range(100, 103)]
    for name in ("compactions", "snapshots_installed", "append_refusals"):
        assert sum(world.count(name) for world in worlds) > 0, name
