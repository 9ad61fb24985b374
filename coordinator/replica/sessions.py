"""The agents' sessions with the leading node: opening, pushing work, taking reports, noticing the end.

A session is bound to an agent's epoch in the replicated state; its link is the stream to the agent. The
state decides; a link only carries. After a lost stream the agent has `grace_ms` to come back before its
work goes to others.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec
import structlog

from coordinator.core.commands import (
    AttemptReport,
    ChangeAgent,
    CloseSession,
    DrainAgent,
    NewTask,
    OpenSession,
    Report,
    SpawnTasks,
)
from coordinator.core.model import INDEX_BITS, AgentLoad, AgentSpec, AgentState, Drain, Task, TaskExtras
from coordinator.core.outcome import Refusal, Reply, SessionOpened
from coordinator.core.state import State
from coordinator.errors import CoordinatorError, LimitExceeded, QueueFull, StaleFence
from coordinator.replica.pacing import Pace
from coordinator.replica.proposer import Proposer
from coordinator.replica.refused import raise_refusal
from coordinator.scheduling.load.score import believed
from coordinator.stages import Stages

_log = structlog.get_logger(__name__)

Fence = tuple[int, int]
ReportListener = Callable[[str, list[AttemptReport], asyncio.Future[Reply]], None]


class Work(NamedTuple):
    """An attempt to push: the task with what its agent needs to know."""

    dag_id: str
    task: Task
    attempt: int
    extras: TaskExtras | None
    checkpoint: bytes


class AgentLink(Protocol):
    """The stream to an agent. Nothing here blocks or raises; what cannot be sent is lost with the stream."""

    def welcome(self, opened: SessionOpened, term: int) -> None:
        """The session is open."""

    def assign(self, term: int, work: list[Work]) -> None:
        """Attempts to queue or run."""

    def stop(self, fences: list[Fence], reason: str) -> None:
        """Attempts to stop, and to report as ended."""

    def acknowledge(self, fences: list[Fence], *, idle: bool) -> None:
        """Ends that are recorded, or refused for good; whether the agent holds nothing more."""

    def drain(self, on: bool) -> None:
        """Expect nothing new, or an end to that."""

    def pace(self) -> None:
        """Load is reported at another interval from now on: the one that `Sessions.pace` has."""

    def close(self, error: CoordinatorError) -> None:
        """End the stream with this error."""


class Session(NamedTuple):
    """An open session."""

    agent_id: str
    epoch: int
    link: AgentLink


class Sessions:
    """All agents' sessions with this node. Empty unless it leads. `pace` says how often they report their
    load; `suspicious` counts the figures in their reports that cannot be."""

    def __init__(
        self,
        state: Callable[[], State],
        checkpoint: Callable[[int], bytes | None],
        proposer: Proposer,
        *,
        max_agents: int,
        pace: Pace,
        stages: Stages | None = None,
    ) -> None:
        self._state = state
        self._checkpoint = checkpoint
        self._proposer = proposer
        self._max_agents = max_agents
        self._stages = stages or Stages()
        self.pace = pace
        self.suspicious = 0
        self.on_report: ReportListener = _ignore
        """Told the agent, the reports and the reply to come, of whatever is proposed."""
        self._open: dict[str, Session] = {}
        self._loads: dict[str, AgentLoad] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self.term = 0

    # --- called for the agent -------------------------------------------------------------------------------

    async def open(self, spec: AgentSpec, held: list[Fence], link: AgentLink) -> Session:
        """Record a new session and reconcile both sides.

        Raises:
            NotLeader, OutcomeUnknown, QueueFull: as the proposer.
            LimitExceeded: there are too many agents.
        """
        if spec.agent_id not in self._open and len(self._open) >= self._max_agents:
            raise LimitExceeded(
                f"{len(self._open)} agents are connected, no more are taken",
                retry_after_ms=5_000,
                setting="limits.max_agents",
                limit=self._max_agents,
            )
        recorded = self._proposer.submit(OpenSession(spec, held))
        try:
            reply = await asyncio.shield(recorded)
        except asyncio.CancelledError:
            # The stream is gone, and the session may be recorded all the same.
            recorded.add_done_callback(lambda done: self._abandon(spec.agent_id, done))
            raise
        if isinstance(reply, Refusal):
            raise_refusal(reply)
        assert isinstance(reply, SessionOpened)
        session = Session(spec.agent_id, reply.epoch, link)
        before = self._open.get(spec.agent_id)
        if before is not None:
            if before.epoch > session.epoch:
                raise _superseded(session)
            before.link.close(_superseded(before))
        drop = self._taken_away(spec.agent_id, held)
        self._open[spec.agent_id] = session
        link.welcome(msgspec.structs.replace(reply, drop=drop), self.term)
        self._keep_pace()
        self._push_unsent(session, set(held))
        return session

    def report(self, session: Session, reports: list[AttemptReport]) -> asyncio.Future[Reply]:
        """Record what the agent reports, in the order of the calls; raises as `Proposer.submit`."""
        recorded = self._proposer.submit(Report(session.agent_id, session.epoch, reports))
        self.on_report(session.agent_id, reports, recorded)
        return recorded

    async def spawn(
        self, session: Session, spawn_id: str, parent: Fence, tasks: Callable[[], list[NewTask]]
    ) -> None:
        """A running attempt adds tasks to its own DAG. A retry of what is recorded gets the same answer, and
        need not name the tasks, of which there may be too many by now. Raises as the proposer, or the
        machine's refusal, or `tasks`."""
        key, attempt = parent
        request_id = f"spawn/{session.agent_id}/{spawn_id}"
        new = [] if request_id in self._state().requests else tasks()
        await self._proposer.call(SpawnTasks(request_id, session.agent_id, session.epoch, key, attempt, new))

    def load(self, session: Session, load: AgentLoad) -> None:
        """Keep the load for the next batch, but for what cannot be."""
        self._loads[session.agent_id], wrong = believed(load)
        if wrong:
            if not self.suspicious:
                _log.warning("load that cannot be counts as full", agent=session.agent_id, load=str(load))
            self.suspicious += wrong

    async def change(self, session: Session, spec: AgentSpec) -> None:
        """The agent is as `spec` says from now on. Raises as the proposer, or StaleFence when the session is
        over or the process another one."""
        while True:
            try:
                await self._proposer.call(ChangeAgent(spec, session.epoch))
            except QueueFull:
                await self._proposer.room()
            else:
                return

    async def leave(self, session: Session) -> None:
        """The agent drains by itself: nothing new for it."""
        await self._proposer.call(DrainAgent("", session.agent_id, leaving=True))

    def close(self, session: Session, *, goodbye: bool) -> asyncio.Future[None]:
        """The stream has ended; with `goodbye` the agent holds nothing and does not come back. The end is
        recorded whether or not anybody awaits the returned."""
        if self._open.get(session.agent_id) is session:
            del self._open[session.agent_id]
            self._keep_pace()
            return self._end(CloseSession(session.agent_id, session.epoch, goodbye))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    # --- called by the leader -------------------------------------------------------------------------------

    def take_loads(self) -> dict[str, AgentLoad]:
        """The loads reported since the last call."""
        loads, self._loads = self._loads, {}
        return loads

    def dispatch(self, attempts: Iterable[tuple[str, int, int]]) -> None:
        """Push (agent, key, attempt) to those agents that are there. One whose session is just being opened
        gets its own with the welcome."""
        with self._stages["push"]:
            work: dict[str, list[Work]] = defaultdict(list)
            for agent_id, key, attempt in attempts:
                if agent_id in self._open and (one := self._work(key, attempt)) is not None:
                    work[agent_id].append(one)
            for agent_id, batch in work.items():
                self._open[agent_id].link.assign(self.term, batch)

    def halt(self, attempts: Iterable[tuple[str, int, int, str]]) -> None:
        """Tell agents to stop (agent, key, attempt, reason)."""
        stops: dict[tuple[str, str], list[Fence]] = defaultdict(list)
        for agent_id, key, attempt, reason in attempts:
            stops[agent_id, reason].append((key, attempt))
        for (agent_id, reason), fences in stops.items():
            if agent_id in self._open:
                self._open[agent_id].link.stop(fences, reason)

    def acknowledge(self, ends: Iterable[tuple[str, int, int]]) -> None:
        """Tell agents that (agent, key, attempt) are settled."""
        fences: dict[str, list[Fence]] = defaultdict(list)
        for agent_id, key, attempt in ends:
            fences[agent_id].append((key, attempt))
        agents = self._state().agents
        for agent_id, batch in fences.items():
            if agent_id in self._open:
                idle = agent_id in agents and not agents[agent_id].held
                self._open[agent_id].link.acknowledge(batch, idle=idle)

    def drained(self, agent_id: str, on: bool) -> None:
        """Tell the agent whether to expect new work."""
        if agent_id in self._open:
            self._open[agent_id].link.drain(on)

    def revoke(self, error: CoordinatorError) -> None:
        """This node no longer leads: agents go to the new leader, and keep what they hold."""
        self.on_report = _ignore
        sessions, self._open = self._open, {}
        self._loads = {}
        for session in sessions.values():
            session.link.close(error)

    def _keep_pace(self) -> None:
        if self.pace.count(len(self._open)):
            for session in self._open.values():
                session.link.pace()

    def _abandon(self, agent_id: str, recorded: asyncio.Future[Reply]) -> None:
        """The agent was gone before its session was open: whoever has no stream must not stay connected."""
        if recorded.cancelled() or recorded.exception() is not None:
            return
        if isinstance(reply := recorded.result(), SessionOpened):
            self._end(CloseSession(agent_id, reply.epoch, goodbye=False))

    def _end(self, command: CloseSession) -> asyncio.Future[None]:
        ending = asyncio.create_task(self._record_end(command))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return asyncio.shield(ending)

    async def _record_end(self, command: CloseSession) -> None:
        while True:
            try:
                await self._proposer.submit(command)
            except QueueFull:
                await self._proposer.room()
            except CoordinatorError as error:
                # Another leader will miss the agent by itself.
                _log.info("session end not recorded", agent=command.agent, why=error.reason)
                return
            else:
                return

    def _taken_away(self, agent_id: str, held: list[Fence]) -> list[Fence]:
        """What the agent holds and should not: found when its session was opened, or since, when it could not
        be told to stop."""
        agent = self._state().agents.get(agent_id)
        should = {} if agent is None else agent.held
        return [(key, attempt) for key, attempt in held if should.get(key) != attempt]

    def _push_unsent(self, session: Session, held: set[Fence]) -> None:
        """What was assigned to this very session before its link was there."""
        state = self._state()
        agent = state.agents.get(session.agent_id)
        if (
            agent is None
            or agent.record.epoch != session.epoch
            or agent.record.state is not AgentState.CONNECTED
        ):
            return
        unsent = [one for one in sorted(agent.held.items()) if one not in held]
        work = [one for key, attempt in unsent if (one := self._work(key, attempt)) is not None]
        if work:
            session.link.assign(self.term, work)
        if agent.record.drain is not Drain.NONE:
            session.link.drain(True)

    def _work(self, key: int, attempt: int) -> Work | None:
        state = self._state()
        task = state.task(key)
        if task is None or task.live_attempt(attempt) is None:
            return None
        dag = state.dags[key >> INDEX_BITS]
        checkpoint = (self._checkpoint(key) or b"") if task.has_checkpoint else b""
        return Work(dag.record.header.dag_id, task, attempt, dag.extras.get(task.index), checkpoint)


def _superseded(session: Session) -> StaleFence:
    return StaleFence(
        f"agent {session.agent_id!r} has a newer session than {session.epoch}; one process per agent id",
        agent=session.agent_id,
        epoch=session.epoch,
    )


def _ignore(*_: object) -> None:
    """This node does not lead."""
