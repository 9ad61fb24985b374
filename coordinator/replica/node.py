"""One node: its parts, put together. What the faces (gRPC, later REST) call is here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import NamedTuple, TypeVar

import structlog

from coordinator.addresses import format_address, parse_address
from coordinator.config import NodeConfig
from coordinator.consensus.membership import Member, Membership
from coordinator.consensus.port import Abstention
from coordinator.consensus.raft import RaftConsensus
from coordinator.core import machine
from coordinator.core.commands import Command, SubmitDag
from coordinator.core.outcome import Event, KvEvent, Reply
from coordinator.defects import Defects
from coordinator.errors import CoordinatorError, Fatal
from coordinator.replica.admission import Admission
from coordinator.replica.applier import Applier
from coordinator.replica.backup import Backups
from coordinator.replica.clock import TermClock
from coordinator.replica.key_reads import KeyReads
from coordinator.replica.leader import Leader
from coordinator.replica.leadership import Leadership
from coordinator.replica.pacing import Pace
from coordinator.replica.placement import Placement
from coordinator.replica.proposer import Proposer
from coordinator.replica.queries import Queries
from coordinator.replica.refused import accepted
from coordinator.replica.sessions import Sessions
from coordinator.replica.space import SpaceGuard
from coordinator.replica.surroundings import Surroundings, this_machine
from coordinator.replica.watch import Happening
from coordinator.stages import Stages
from coordinator.storage.state_store import StateStore

_log = structlog.get_logger(__name__)
_Reply = TypeVar("_Reply", bound=Reply)


class Read(NamedTuple):
    """What a read may rely on: the state at `revision`; `stale` if a newer one may exist elsewhere. `age_ms`
    milliseconds ago the state was known to hold all that was committed, -1: never."""

    revision: int
    stale: bool
    age_ms: int


class Node:
    """The parts of a node and their wiring. Everything runs on one event loop."""

    def __init__(self, config: NodeConfig, surroundings: Surroundings | None = None) -> None:
        """Load the state from the disk. Raises StartFailed, StateCorrupt, UnknownFormat."""
        around = surroundings or this_machine(config)
        self.config = config
        self._clock = TermClock(around.wall_ms)
        self._timer = around.now
        self._slow_models = around.slow_models
        self.plugins = around.plugins
        self.draining = False
        self.defects = Defects()
        self.defects.stop = self.fail
        self.stages = Stages(around.now)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._store = StateStore(around.open_home())
        self.applier = Applier(
            self._store,
            max_events=config.limits.watch_history,
            kv_history_bytes=config.limits.kv_history_bytes,
            max_digests=config.raft.digest_history,
            stages=self.stages,
        )
        self._log_engine = around.open_log()
        self.consensus = self._make_consensus(around)
        self.proposer = self._make_proposer(around)
        self.sessions = Sessions(
            lambda: self.applier.newest,
            self._checkpoint,
            self.proposer,
            max_agents=config.limits.max_agents,
            pace=Pace(config.agents.load_interval_ms, config.agents.max_load_reports_per_s),
            stages=self.stages,
        )
        self.admission = Admission(
            lambda: self.applier.state,
            max_dags=config.limits.max_unfinished_dags,
            max_tasks=config.limits.max_unfinished_tasks,
        )
        self.queries = Queries(lambda: self.applier.state, lambda: self.applier.store)
        self.keys = KeyReads(lambda: self.applier.state, lambda: self.applier.store)
        self.backups = Backups(self.applier, config, around.wall_ms)
        self.space = self._make_space_guard(around)
        self.leadership = self._make_leadership()
        self._connect_parts()

    async def start(self) -> str:
        """Take part in the cluster; returns the raft address. Raises StartFailed if the port is taken."""
        await self.consensus.start()
        self.space.start()
        host, _ = parse_address(self.config.raft_listen)
        return format_address(host, self.consensus.bound_port)

    async def stop(self) -> None:
        """Leave, then close."""
        await self.leave()
        self.close()

    async def leave(self) -> None:
        """Hand leadership over if somebody can take it, and take part no longer. Whoever waits for an answer
        is told to ask another node; what was applied may still be read."""
        self.draining = True
        self.space.stop()
        await self.consensus.stop()
        self.leadership.stop()
        if not self.left.done():
            self.left.set_result(None)

    def close(self) -> None:
        """Close the databases. Holds the event loop for as long as the disk takes, which may be seconds on
        one that fails."""
        for close in (self._log_engine.close, self._store.close):
            try:
                close()
            except CoordinatorError as error:
                # What was acknowledged is synced, and the rest can be replayed. A disk that stopped the
                # node fails here once more, and must not hide why.
                _log.error("not closed in order", why=error.reason, error=error.message)

    async def propose(self, command: Command, expected: type[_Reply]) -> _Reply:
        """Have a command carried out by the cluster; returns the machine's reply.

        Raises:
            NotLeader, OutcomeUnknown, QueueFull, LimitExceeded: as the proposer.
            OutOfSpace: it is new work, and the disks are nearly full.
            AlreadyExists: the request id was used before, for another kind of request.
            The error that the machine's refusal names.
        """
        return accepted(await (await self.submit(command)), expected)

    async def submit(self, command: Command, *, asked: bool = True) -> asyncio.Future[Reply]:
        """Hand a command to the cluster, as soon as this node serves as the leader. The future gives the
        machine's reply, be it a refusal, or fails as `Proposer.submit` says, which also says what `asked` is.

        Raises:
            NotLeader, QueueFull, LimitExceeded, OutOfSpace: it was not taken.
        """
        if self.leadership.leader is None:
            await self.leadership.serving()
        self.space.admit(command)
        alone, leader = self.proposer.idle, self.leadership.leader
        recorded = self.proposer.submit(command, asked=asked)
        if alone and leader is not None and isinstance(command, SubmitDag):
            leader.placement.expect_dag(command, recorded)
        return recorded

    async def read(self, *, allow_stale: bool) -> Read:
        """Wait until a read of the applied state is linearizable, or with `allow_stale` do not. Raises
        NotLeader."""
        if allow_stale and self.leadership.leader is None:
            return Read(self.applier.applied.index, stale=True, age_ms=self.age_ms)
        if self.leadership.leader is None:
            await self.leadership.serving()
        await self.applier.wait_applied(await self.consensus.read_index())
        return Read(self.applier.applied.index, stale=False, age_ms=0)

    async def read_end(self, dag_id: str, wait_s: float, *, allow_stale: bool) -> Read | None:
        """Wait for at most so long until a DAG that has not ended does. None if it had ended before, or has
        not yet: then `read` says how things are. Raises NotLeader."""
        if not allow_stale:
            await self.leadership.serving()
        dag = self.applier.state.dag(dag_id)
        if dag is None or not await self.applier.endings.wait(dag.record.number, wait_s):
            return None
        stale = self.leadership.leader is None
        if stale and not allow_stale:
            return None
        # The end may be told before it is stored, which asking for the store sees to.
        return Read(self.applier.store.applied.index, stale=stale, age_ms=self.age_ms if stale else 0)

    def follow(self, from_revision: int) -> AsyncIterator[tuple[list[Happening[Event]], int]]:
        """Events from a revision on; see `EventHistory.follow`."""
        return self.applier.history.follow(from_revision)

    def follow_keys(self, from_revision: int) -> AsyncIterator[tuple[list[Happening[KvEvent]], int]]:
        """Changes of keys from a version on; see `EventHistory.follow`."""
        return self.applier.kv_history.follow(from_revision)

    async def drain(self, *, undo: bool) -> str:
        """Move leadership elsewhere and keep it there, or `undo` that; returns the leader's id.

        Raises:
            WrongState: nobody can take over.
        """
        was, self.draining = self.draining, not undo
        self._abstain()
        leader = self.consensus.status().leader
        if undo or leader != self.config.node_id:
            return leader or ""
        try:
            return await self.consensus.transfer_leadership()
        except CoordinatorError:
            self.draining = was
            self._abstain()
            raise

    def fail(self, error: Fatal) -> None:
        """Stop for good, for a fault that was met outside of consensus."""
        self.consensus.fail(error)

    @property
    def age_ms(self) -> int:
        """How long ago the state was known to hold all that was committed, -1: never; 0 on a leader, whose
        reads wait for proof."""
        if self.leadership.leader is not None:
            return 0
        age_s = self.consensus.age_s()
        return -1 if math.isinf(age_s) else int(age_s * 1000)

    @property
    def members(self) -> Membership:
        """Who belongs to the cluster, as far as this node knows."""
        return self.consensus.membership

    def member(self, node_id: str) -> Member:
        """The member with this id; one with empty addresses if it is not known."""
        return self.members.get(node_id) or Member(node_id, "", "")

    def address_of(self, node_id: str) -> str:
        """The gRPC address of a member."""
        return self.member(node_id).grpc

    def _checkpoint(self, key: int) -> bytes | None:
        """As `StateStore.checkpoint`, of all that has been applied."""
        return self.applier.store.checkpoint(key)

    def _abstain(self) -> None:
        low = Abstention.NO_SPACE if self.space.low else Abstention.NONE
        self.consensus.abstain(Abstention.DRAINED if self.draining else low)

    def _connect_parts(self) -> None:
        self.leadership.attach(self.consensus)
        self.applier.on_replies = self.proposer.applied
        self.applier.on_fault = self.consensus.fail
        self.applier.on_role_change = self.leadership.on_role
        self.applier.on_stopped = self._stopped

    def _make_consensus(self, around: Surroundings) -> RaftConsensus:
        return RaftConsensus(
            self.config.node_id,
            self.config.founders,
            cluster=self.config.cluster_id,
            engine=self._log_engine,
            replica=self.applier,
            links=around.links,
            worker=around.worker,
            settings=self.config.raft,
            now=around.now,
            rng=around.rng,
            stages=self.stages,
        )

    def _make_proposer(self, around: Surroundings) -> Proposer:
        limits, raft = self.config.limits, self.config.raft
        return Proposer(
            self.consensus,
            self._clock,
            self.defects.within(self._cannot_propose),
            max_commands=limits.max_queued_commands,
            max_bytes=limits.max_queued_bytes,
            max_entry_bytes=raft.max_entry_bytes,
            gather_s=raft.gather_s,
            now=around.now,
            stages=self.stages,
        )

    def _make_space_guard(self, around: Surroundings) -> SpaceGuard:
        limits = self.config.limits
        return SpaceGuard(
            around.free_bytes,
            self.consensus,
            self._abstain,
            lambda command: machine.knows(self.applier.newest, command),
            self.defects,
            least=limits.min_free_bytes,
            check_s=limits.free_bytes_check_ms / 1000,
        )

    def _make_leadership(self) -> Leadership:
        return Leadership(
            self.applier,
            self.proposer,
            self.sessions,
            self._clock,
            self._make_leader,
            self.address_of,
            self.defects,
        )

    def _make_leader(self, defects: Defects) -> Leader:
        placement = Placement(
            lambda: self.applier.newest,
            self.proposer.submit,
            self._clock.now_ms,
            look_ahead_ms=self.config.agents.look_ahead_ms,
            opened_after=self.applier.state.machine.sequence,
            timer=self._timer,
            scheduling=self.config.scheduling,
            plugins=self.plugins,
            load=self.config.load,
            defects=defects,
            stages=self.stages,
        )
        return Leader(
            self.applier,
            self.proposer,
            self.sessions,
            placement,
            self._clock,
            defects,
            agents=self.config.agents,
            retention=self.config.retention,
            forecast=self.config.forecast,
            slow_models=self._slow_models,
        )

    def _cannot_propose(self) -> None:
        self.leadership.give_up()

    def _stopped(self, error: Exception) -> None:
        fatal = error if isinstance(error, CoordinatorError) else Fatal(f"consensus stopped: {error!r}")
        _log.critical("node stops", why=fatal.reason, error=fatal.message)
        self.leadership.stop()
        if not self.failed.done():
            self.failed.set_exception(fatal)
