"""One node's consensus, put together: the hardened PySyncObj on the journal and the links to the other nodes,
driven by the event loop.

Nothing is polled. A message, a proposal, a finished sync or a timer asks for one tick, in which all that came
before it is sent, synced and applied together. It comes when the present iteration of the loop ends, but at
once where somebody waits for it: on a follower that has read a link, on a leader when all has been proposed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from coordinator.consensus.changes import Change
from coordinator.consensus.hardened import HardenedSyncObj
from coordinator.consensus.identity import claim
from coordinator.consensus.journal import Journal
from coordinator.consensus.links import Links
from coordinator.consensus.membership import Membership
from coordinator.consensus.peer import NOTHING_APPLIED
from coordinator.consensus.port import (
    Abstention,
    Committed,
    PeerStatus,
    Replica,
    Role,
    SnapshotMeta,
    SnapshotReader,
    SnapshotWriter,
    Status,
)
from coordinator.consensus.settings import RaftSettings
from coordinator.consensus.worker import ThreadWorker, Worker
from coordinator.errors import CoordinatorError, Fatal, NotLeader, OutcomeUnknown, WrongState
from coordinator.stages import Stages
from coordinator.storage.engine import Engine

log = logging.getLogger(__name__)

_NO_TIMER: asyncio.TimerHandle | None = None
_TIMER_GRAIN_S: Final = 0.001
"""Event loops may count time in milliseconds, as uvloop does, and call that much early. A tick before its
deadline asks for the next one at once, hundreds of times over."""


class RaftConsensus:
    """Implements `port.Consensus`. `engine` must have the families `journal.FAMILIES`; its owner closes it
    after `stop`."""

    def __init__(
        self,
        me: str,
        founders: Membership,
        *,
        cluster: str,
        engine: Engine,
        replica: Replica,
        links: Links,
        worker: Callable[[str, float], Worker] = ThreadWorker,
        settings: RaftSettings | None = None,
        now: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        stages: Stages | None = None,
    ) -> None:
        """Open the log. `founders` are the members of a new cluster, the same on all of them: they count at
        the first start of an empty log, and an empty membership waits to be added. `worker` makes the
        workers that sync the log and flush the state: named, and told how many seconds count as brief.

        Raises:
            StartFailed: the log is that of another cluster or node.
            LogCorrupt, StateCorrupt, UnknownFormat: this node must not serve with what it has on disk.
        """
        self._me = me
        self._settings = settings or RaftSettings()
        self._now = now
        chance = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._links = links
        self._syncer = worker(f"sync {me}", self._settings.brief_sync_s)
        self._flusher = worker(f"flush {me}", 0.0)
        self._running = self._tick_asked = self._handing_over = False
        self._timer, self._timer_s = _NO_TIMER, math.inf
        self._role_waiters: list[asyncio.Future[None]] = []
        journal = _journal(engine, founders, self._settings)
        self._node = HardenedSyncObj(
            me,
            incarnation=claim(engine, journal, cluster=cluster, node=me, rng=chance).incarnation,
            transport=links,
            journal=journal,
            replica=_Observed(replica, self._role_changed, self._fail),
            settings=self._settings,
            now=now,
            rng=chance,
            syncer=self._syncer,
            flusher=self._flusher,
            wake=self._wake,
            reconfigured=self._reconfigured,
            stages=stages,
        )
        links.attach(self._node.gate)

    async def start(self) -> None:
        """Open the listening port and begin to take part. Raises StartFailed if the port cannot be had."""
        self._links.on_read = self._link_read
        self._links.reach(self._peers())
        await self._links.start()
        self._running = True
        self._wake()

    async def stop(self, *, hand_over: bool = True) -> None:
        """Leave: hand leadership over if there is somebody to take it, then close."""
        if hand_over and self._running and self._node.role is Role.LEADER and self._node.other_voters:
            try:
                await self.transfer_leadership()
            except CoordinatorError as error:
                log.info("leaving without handing leadership over: %s", error)
        self._halt()
        self._node.stop()
        await self._links.close()
        await self._syncer.close()
        await self._flusher.close()

    @property
    def bound_port(self) -> int:
        """The port on which other nodes reach this one."""
        return self._links.bound_port

    @property
    def journal(self) -> Journal:
        """The log, for reading."""
        return self._node.journal

    def propose(self, payload: bytes) -> tuple[int, int]:
        """As `port.Consensus.propose`."""
        self._require_leader()
        return self._node.propose(payload)

    def push(self) -> None:
        """As `port.Consensus.push`."""
        self._tick()

    async def read_index(self) -> int:
        """As `port.Consensus.read_index`. Raises NotLeader, QueueFull."""
        self._require_leader()
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def done(result: int | Exception) -> None:
            if answer.done():
                return
            if isinstance(result, int):
                answer.set_result(result)
            else:
                answer.set_exception(self._not_leader())

        self._node.read_index(done)
        return await answer

    async def transfer_leadership(self, target: str | None = None) -> str:
        """As `port.Consensus.transfer_leadership`; returns who leads then."""
        self._require_leader()
        chosen = self._node.begin_transfer(target)
        self._handing_over = True
        try:
            async with asyncio.timeout(self._settings.transfer_timeout_s):
                while self._node.leader in (None, self._me) and not self._node.stopped:
                    if self._node.leader == self._me and not self._node.transfers:
                        raise WrongState(f"{chosen} was lost before it took over", target=chosen)
                    await self._next_role()
        except TimeoutError:
            raise WrongState(
                f"{chosen} did not take over within {self._settings.transfer_timeout_s} s; it may lag, or be "
                "cut off",
                target=chosen,
            ) from None
        finally:
            self._node.end_transfer()
        if self._node.stopped:
            raise WrongState(f"{self._me} has stopped before {chosen} took over", target=chosen)
        return self._node.leader or chosen

    async def resign(self, term: int) -> None:
        """As `port.Consensus.resign`."""
        try:
            if self._leads(term):
                await self.transfer_leadership()
        except CoordinatorError as error:
            if self._leads(term):
                log.warning("leading no longer, and nobody takes over at once: %s", error)
                self._node.resign()

    def _leads(self, term: int) -> bool:
        return self._node.term == term and self._node.role is Role.LEADER

    async def change_membership(self, change: Change) -> Membership:
        """As `port.Consensus.change_membership`."""
        self._require_leader()
        index, term = self._node.change_membership(change)
        while self._holds(index, term):
            if self._node.commit_index >= index:
                return self.membership
            await self._next_role()
        raise OutcomeUnknown(
            "leadership was lost before the change was committed; see `coordctl member list`, or repeat it, "
            "which is safe",
            retry_after_ms=100,
        )

    def _holds(self, index: int, term: int) -> bool:
        """Whether an entry that this node has appended in `term` is in its log still, and it leads, or the
        entry is committed. One that is not in the log any more was committed, if it leads still."""
        found, leads = self._node.journal.term_at(index), self._node.leadership is not None
        if leads and self._node.term == term and found is None:
            return True
        return found == term and (leads or self._node.commit_index >= index)

    @property
    def membership(self) -> Membership:
        """As `port.Consensus.membership`."""
        return self._node.configuration.membership

    @property
    def speaks(self) -> bool:
        """Whether this node's data folder may speak for the member of its name: as `Belonging.speaks`."""
        return self._node.gate.speaks

    def abstain(self, why: Abstention) -> None:
        """As `port.Consensus.abstain`."""
        self._node.abstains = why

    def fail(self, error: Fatal) -> None:
        """As `port.Consensus.fail`."""
        self._node.fail(error)

    def age_s(self) -> float:
        """As `port.Consensus.age_s`."""
        return self._now() - self._node.freshness.current_s

    def status(self) -> Status:
        """Where this node stands now."""
        node = self._node
        return Status(
            id=self._me,
            role=node.role,
            term=node.term,
            leader=node.leader,
            commit_index=node.commit_index,
            last_index=node.journal.last_index,
            first_index=node.journal.base.index + 1,
            durable_index=node.journal.durable_index,
            applied=node.replica.applied,
            membership=self.membership,
            peers=self.peers(),
            counters=dict(node.counters + self._links.counters),
        )

    def peers(self) -> list[PeerStatus]:
        """What this node knows of the other members."""
        return [self._peer_status(peer) for peer in self._node.peers]

    # The driver.

    def _wake(self) -> None:
        if self._running and not self._tick_asked:
            self._tick_asked = True
            asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        if not self._tick_asked or not self._running:
            return
        self._tick_asked = False
        self._node.doTick()
        if self._handing_over and not self._node.transfers:
            self._handing_over = False
            self._role_changed()
        self._set_timer()

    def _link_read(self) -> None:
        """A leader waits for an acknowledgement. A leader itself has clients to answer before it ticks."""
        if self._node.leadership is None:
            self._tick()

    def _set_timer(self) -> None:
        """Deadlines mostly move away, and a tick in vain now and then costs less than a new timer at every
        tick: one that is early enough stays."""
        deadline = self._node.next_deadline()
        if not self._running or deadline == math.inf or (self._timer and self._timer_s <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, deadline - self._now()) + _TIMER_GRAIN_S
        self._timer_s = deadline
        self._timer = asyncio.get_running_loop().call_later(delay, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._wake()

    def _halt(self) -> None:
        """Tick no more."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._role_changed()

    def _fail(self) -> None:
        """The node has stopped for good. Its connections close, so that the others look for a leader at
        once; first leaves what has just been written, which may name its successor."""
        self._halt()
        asyncio.get_running_loop().call_soon(self._links.abort)

    def _reconfigured(self) -> None:
        self._links.reach(self._peers())
        self._role_changed()

    def _peers(self) -> dict[str, str]:
        """The members to keep links to, and where."""
        return {member.id: member.raft for member in self.membership.reached_by(self._me)}

    # What the rest needs.

    def _require_leader(self) -> None:
        if self._node.role is not Role.LEADER:
            raise self._not_leader()

    def _not_leader(self) -> NotLeader:
        leader = self._node.leader
        if leader is None or leader == self._me:
            return NotLeader()
        member = self.membership.get(leader)
        return NotLeader(leader, "" if member is None else member.grpc)

    async def _next_role(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._role_waiters.append(waiter)
        await waiter

    def _role_changed(self) -> None:
        waiters, self._role_waiters = self._role_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _peer_status(self, peer: str) -> PeerStatus:
        leadership = self._node.leadership
        if leadership is None:
            return PeerStatus(peer, self._node.connected(peer), 0, NOTHING_APPLIED, -1.0)
        return leadership.peer_status(peer, self._now())


class _Observed:
    """The replica, with the driver listening to what it is told of roles and of the end."""

    def __init__(self, replica: Replica, role_changed: Callable[[], None], fail: Callable[[], None]) -> None:
        self._replica = replica
        self._role_changed = role_changed
        self._fail = fail
        self.apply: Callable[[Sequence[Committed]], None] = replica.apply
        self.flush: Callable[[], None] = replica.flush

    @property
    def applied(self) -> SnapshotMeta:
        return self._replica.applied

    def digest_at(self, index: int) -> bytes | None:
        return self._replica.digest_at(index)

    def on_role(self, role: Role, term: int, leader: str | None) -> None:
        self._replica.on_role(role, term, leader)
        self._role_changed()

    def on_fatal(self, error: Exception) -> None:
        self._fail()
        log.critical("consensus has stopped: %s", error, exc_info=error)
        self._replica.on_fatal(error)

    def read_snapshot(self) -> SnapshotReader:
        return self._replica.read_snapshot()

    def write_snapshot(self, meta: SnapshotMeta) -> SnapshotWriter:
        return self._replica.write_snapshot(meta)


def _journal(engine: Engine, founders: Membership, settings: RaftSettings) -> Journal:
    return Journal(
        engine, founders=founders, tail_entries=settings.tail_entries, tail_bytes=settings.tail_bytes
    )
