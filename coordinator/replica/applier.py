"""Applies committed entries: machine, then who waits for the outcome, then one batch to the store, then
everybody who listens.

This is `consensus.port.Replica`: consensus calls it on the event loop, in log order, exactly once per
entry and process. An exception in it stops the node: the state in memory may be half changed, and nothing
of it must be served or stored.

On a leader the outcome is on its way to clients and agents before the state is stored. It may be, since
the entry is committed: whatever happens to this node, the log has it. Nobody else is shown what is not
stored yet, since whoever asks for the state or the store has it finished first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from coordinator.consensus.port import Committed, Role, SnapshotMeta, SnapshotReader
from coordinator.core import machine
from coordinator.core.commands import FIRST_FORMAT, FORMAT, Entry
from coordinator.core.digest import RecentDigests, roll
from coordinator.core.loading import forget
from coordinator.core.outcome import Effects, Event, KvEvent, Outcome, Reply
from coordinator.core.state import State
from coordinator.errors import ApplyFailed, Fatal, UnknownFormat
from coordinator.replica.collecting import load_uncollected
from coordinator.replica.endings import Endings
from coordinator.replica.watch import EventHistory, kv_weight
from coordinator.stages import Stages
from coordinator.storage.layout import Stored, encode, pack
from coordinator.storage.snapshots import StateReader, StateWriter
from coordinator.storage.state_store import StateStore, StoredState

_decode = msgspec.msgpack.Decoder(Entry).decode

RoleListener = Callable[[Role, int, str | None], None]
ReplyListener = Callable[[int, int, list[Reply]], None]
OutcomeListener = Callable[[int, int, Outcome], None]
EffectsListener = Callable[[Effects], None]


class _Carried(NamedTuple):
    """An entry that the machine has carried out; empty ones have no outcome."""

    entry: Committed
    at_ms: int
    outcome: Outcome | None


class Applier:
    """The state in memory and on disk, moved on by committed entries."""

    def __init__(
        self,
        store: StateStore,
        *,
        max_events: int,
        kv_history_bytes: int,
        max_digests: int,
        stages: Stages | None = None,
    ) -> None:
        """Load the state. Raises StateCorrupt."""
        self._store = store
        self._stages = stages or Stages()
        self._state: State = load_uncollected(store.load)
        self.history: EventHistory[Event] = EventHistory(max_events, store.applied.index)
        self.kv_history: EventHistory[KvEvent] = EventHistory(
            kv_history_bytes, self._state.machine.sequence, weigh=kv_weight
        )
        self.endings = Endings()
        self._unfinished: list[_Carried] = []
        """What the machine has carried out, and nobody but who waits for it knows of."""
        self._writes: list[Stored] = []
        self._digest = store.applied.digest
        self.on_replies: ReplyListener = _ignore
        """Told the index, term and replies of each entry, at once."""
        self.on_outcome: OutcomeListener = _ignore
        """Told the index, term and outcome of each entry, after it is stored."""
        self.on_push: EffectsListener | None = None
        """While this node leads, told what each entry asks for as soon as its run has been carried out, for
        agents: they wait."""
        self.on_effects: EffectsListener | None = None
        """While this node leads, told the same after it is stored: the leader's loops."""
        self.on_role_change: RoleListener = _ignore
        self.on_stopped: Callable[[Exception], None] = _ignore
        self.on_fault: Callable[[Fatal], None] = _ignore
        """Told what the node must stop for, when nobody is there to whom it could be raised."""
        self._digests = RecentDigests(max_digests, store.applied.index, store.applied.digest)
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def applied(self) -> SnapshotMeta:
        """Index, term and digest of the last entry whose effect is stored."""
        return self._store.applied

    def digest_at(self, index: int) -> bytes | None:
        """The digest after the entry `index`; None if it is not, or no longer, known."""
        return self._digests.at(index)

    @property
    def state(self) -> State:
        """The state in memory, when all of it is stored. Raises StorageFault."""
        self._settle()
        return self._state

    @property
    def newest(self) -> State:
        """The state in memory, of which some may not be stored yet: for those who look on, for what
        is pushed to agents, and for the leader's loops, whose proposals the machine judges anyway."""
        return self._state

    @property
    def store(self) -> StateStore:
        """For reads of what is not in memory. Raises StorageFault."""
        self._settle()
        return self._store

    def load_step(self, place: int) -> bytes | None:
        """What is kept of the load of the past; see `StoredState.load_step`."""
        return self.store.load_step(place)

    def apply(self, entries: Sequence[Committed]) -> None:
        """Carry out a run of entries; one batch will carry the writes of all.

        Raises:
            UnknownFormat: an entry of a later version: skipping it would be a lie.
            ApplyFailed: the machine raised, which it must never do; or the run does not follow on the state.
            StorageFault: the batch of this run, or of the one before, could not be written.
        """
        self._finish()
        if entries[0].index != self.applied.index + 1:
            raise ApplyFailed(
                f"entry {entries[0].index} was to be applied to a state that is at {self.applied.index}",
                index=entries[0].index,
                applied=self.applied.index,
            )
        for entry in entries:
            # What the entry before has to write must be read before the machine changes it again.
            self._encode_newest()
            self._unfinished.append(self._carry_out(entry))
        if self.on_effects is None:
            self._finish()
        else:
            self._push()
            asyncio.get_running_loop().call_soon(self._settle_unasked)

    async def wait_applied(self, index: int) -> None:
        """Return once the state reaches `index`."""
        if self._store.applied.index < index:
            waiter = index, asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter[1]
            except asyncio.CancelledError:
                self._waiting = [one for one in self._waiting if one is not waiter]
                raise

    def interrupt_watchers(self) -> None:
        """Let everybody who watches or waits take a turn, though nothing has happened."""
        self.endings.interrupt()
        self.history.interrupt()
        self.kv_history.interrupt()

    def on_role(self, role: Role, term: int, leader: str | None) -> None:
        """Pass it on."""
        self._finish()
        self.on_role_change(role, term, leader)

    def on_fatal(self, error: Exception) -> None:
        """Pass it on, and wake those who would wait for ever."""
        self._unfinished = []
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(ApplyFailed("the node has stopped"))
        self.on_stopped(error)

    def read_snapshot(self) -> SnapshotReader:
        """A consistent reading of the stored state."""
        return StateReader(self.store)

    def write_snapshot(self, meta: SnapshotMeta) -> _Installing:
        """Begin to receive the state at `meta`."""
        return _Installing(self, StateWriter(self._store, meta))

    def flush(self) -> None:
        """Make the state durable."""
        self._store.flush()

    def begin_anew(self, state: State) -> State:
        """A snapshot has been installed, and this is what it holds; returns the former state."""
        assert not self._unfinished, "only a follower is sent a snapshot, and it finishes at once"
        former, self._state = self._state, state
        self._digest = self._store.applied.digest
        self._digests.restart(self._store.applied.index, self._digest)
        self.history.restart(self._store.applied.index)
        self.kv_history.restart(state.machine.sequence)
        self.endings.interrupt()
        self._wake(self._store.applied.index)
        return former

    def _carry_out(self, entry: Committed) -> _Carried:
        if not entry.payload:
            return _Carried(entry, 0, None)
        decoded = _read(entry)
        try:
            with self._stages["apply"]:
                outcome = machine.apply(self._state, entry.index, decoded)
        except Exception as error:
            names = ", ".join(sorted({type(command).__name__ for command in decoded.commands}))
            raise ApplyFailed(
                f"applying entry {entry.index} ({names}) raised {error!r}", index=entry.index
            ) from error
        self.on_replies(entry.index, entry.term, outcome.replies)
        return _Carried(entry, decoded.at_ms, outcome)

    def _push(self) -> None:
        """Let agents, and who waits for ends, hear of what was carried out: it is committed, and need not be
        stored before. Whoever needs the store for that finishes all of it meanwhile."""
        for one in self._unfinished.copy():
            if one.outcome is not None:
                # First, since mostly there is nothing new for agents then.
                self.endings.ended(one.outcome.effects.gone, one.entry.index)
                if self.on_push is not None:
                    self.on_push(one.outcome.effects)

    def _encode_newest(self) -> None:
        """Take note of what the newest entry carried out has to write, and of the digest after it."""
        if not self._unfinished:
            return
        entry, _, outcome = self._unfinished[-1]
        if outcome is not None:
            with self._stages["encode"]:
                writes = [encode(write) for write in outcome.writes]
                self._digest = roll(self._digest, entry.index, pack(writes))
                self._writes += writes
        self._digests.add(self._digest)

    def _settle(self) -> None:
        """`_finish` when it is not consensus that asks. Raises what the node is then told to stop for."""
        try:
            self._finish()
        except Exception as error:
            fault = error if isinstance(error, Fatal) else ApplyFailed(f"storing the state raised {error!r}")
            self.on_fault(fault)
            raise fault from error

    def _settle_unasked(self) -> None:
        with suppress(Fatal):
            self._settle()

    def _finish(self) -> None:
        """Store what was carried out, and tell of it. Raises StorageFault."""
        if not self._unfinished:
            return
        self._encode_newest()
        carried, self._unfinished = self._unfinished, []
        writes, self._writes = self._writes, []
        last = carried[-1].entry
        with self._stages["encode"]:
            self._store.commit(writes, SnapshotMeta(last.index, last.term, self._digest))
        for entry, at_ms, outcome in carried:
            if outcome is None:
                continue
            self.history.record(entry.index, at_ms, outcome.events)
            if changes := outcome.kv_events:
                self.kv_history.record(changes[-1].version, at_ms, changes)
            # A leader has told of them already.
            self.endings.ended(outcome.effects.gone, entry.index)
            self.on_outcome(entry.index, entry.term, outcome)
            if self.on_effects is not None:
                self.on_effects(outcome.effects)
        self.kv_history.record(self._state.machine.sequence, 0, [])
        self._wake(carried[-1].entry.index)

    def _wake(self, index: int) -> None:
        if self._waiting:
            due = [future for wanted, future in self._waiting if wanted <= index]
            self._waiting = [one for one in self._waiting if one[0] > index]
            for future in due:
                if not future.done():
                    future.set_result(None)


class _Installing:
    """A snapshot on its way in; the applier begins anew from it once it is in place."""

    def __init__(self, applier: Applier, writer: StateWriter) -> None:
        self._applier = applier
        self._writer = writer
        self._sealed: StoredState | None = None
        self._state: State | None = None
        """What the snapshot holds; once it is installed, what it replaced."""
        self.write = writer.write

    def prepare(self) -> None:
        """Verify, make durable, load. Raises StateCorrupt if any of it fails."""
        self._sealed = self._writer.seal()
        self._state = load_uncollected(self._sealed.load)

    def install(self) -> None:
        """Begin anew from the snapshot."""
        assert self._sealed is not None
        assert self._state is not None
        self._writer.install(self._sealed)
        self._state = self._applier.begin_anew(self._state)

    def discard(self) -> None:
        """Free what was replaced, or what is not installed."""
        if self._state is not None:
            forget(self._state)
        self._writer.discard()


def _read(entry: Committed) -> Entry:
    try:
        decoded = _decode(entry.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnknownFormat(
            f"entry {entry.index} of term {entry.term} cannot be read by this version: {error}; upgrade it",
            index=entry.index,
        ) from error
    if not FIRST_FORMAT <= decoded.format <= FORMAT:
        raise UnknownFormat(
            f"entry {entry.index} has format {decoded.format}, this program knows those from {FIRST_FORMAT} "
            f"to {FORMAT}; upgrade it",
            index=entry.index,
            found=decoded.format,
            known=FORMAT,
        )
    return decoded


def _ignore(*_: object) -> None:
    """Nobody listens yet."""
