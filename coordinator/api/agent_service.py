"""gRPC for agents: one bidirectional stream each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Final

import grpc

from coordinator import errors
from coordinator.api import convert
from coordinator.api.agent_specs import spec_from_hello
from coordinator.api.errors import conversing, detail_of
from coordinator.api.malformed import intact
from coordinator.api.turnstile import Turnstile
from coordinator.core.commands import AttemptReport, NewTask, ReportKind
from coordinator.core.model import INDEX_BITS, AttemptOutcome
from coordinator.core.outcome import Refusal, Reply, SessionOpened
from coordinator.dag.builder import build_additions
from coordinator.replica.node import Node
from coordinator.replica.refused import raise_refusal
from coordinator.replica.sessions import Fence, Session, Work
from quorumflow_proto.v1 import agent_pb2 as pb
from quorumflow_proto.v1 import agent_pb2_grpc

_Context = grpc.aio.ServicerContext[pb.AgentMessage, pb.CoordinatorMessage]

_REPORTS_IN_FLIGHT: Final = 64
"""Messages of one agent that may wait for their commit; beyond, its stream is not read."""

_HELLO_TIMEOUT_S: Final = 5.0

_IDLE_ACKS_S: Final = 0.005
"""Acknowledgements wait so long for work that they may go with, if the agent has none left: it does nothing
else about them than to let go of what it has told."""

_SENT_IN_A_TURN: Final = 64
"""Messages to agents that gRPC is given in a turn of the event loop: each takes it some 50 us."""


class AgentService(agent_pb2_grpc.AgentServiceServicer):
    """AgentService on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._exit = Turnstile(_SENT_IN_A_TURN)

    @conversing
    async def Session(self, context: _Context) -> None:  # type: ignore[override]
        """Serve one agent until its stream or this node's leadership ends."""
        await _Stream(self._node, context, self._exit).serve()


class _Link:
    """The outgoing half: messages wait here for the writer. Bounded by the agent's credit, since nothing is
    pushed beyond it. All links of a node share its `exit`."""

    def __init__(self, node: Node, exit_: Turnstile) -> None:
        self._node = node
        self._exit = exit_
        self._messages: deque[pb.CoordinatorMessage] = deque()
        self._changed = asyncio.Event()
        self._error: errors.CoordinatorError | None = None
        self._draining = False
        self.takes_acks_with_work = False
        """Whether the agent reads acknowledgements in a message of assignments."""
        self._acks_wait = False
        """Whether some will leave by themselves in a moment."""

    async def next(self) -> pb.CoordinatorMessage:
        """The next message. Raises the error that the link was closed with, once all before it are sent."""
        while not self._messages:
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        await self._exit.enter()
        return self._messages.popleft()

    def welcome(self, opened: SessionOpened, term: int) -> None:
        self._draining = opened.drain
        self._send(
            pb.CoordinatorMessage(
                welcome=pb.Welcome(
                    session_epoch=opened.epoch,
                    term=term,
                    node_id=self._node.config.node_id,
                    drop=[convert.fence(*one) for one in opened.drop],
                    settings=self._settings(),
                    leader_endpoints=[member.grpc for member in self._node.members],
                )
            )
        )

    def assign(self, term: int, work: list[Work]) -> None:
        assignments = pb.Assignments(term=term, tasks=[convert.work_to_proto(one) for one in work])
        if self.takes_acks_with_work and self._messages and self._messages[-1].HasField("acks"):
            assignments.acks.CopyFrom(self._messages.pop().acks)
        self._send(pb.CoordinatorMessage(assignments=assignments))

    def stop(self, fences: list[Fence], reason: str) -> None:
        stop = pb.Stop(fences=[convert.fence(*one) for one in fences], reason=reason)
        self._send(pb.CoordinatorMessage(stop=stop))

    def acknowledge(self, fences: list[Fence], *, idle: bool) -> None:
        acks = pb.Acks(fences=[convert.fence(*one) for one in fences])
        if self._messages and self._messages[-1].HasField("acks"):
            self._messages[-1].acks.MergeFrom(acks)
        else:
            self._messages.append(pb.CoordinatorMessage(acks=acks))
        if not idle:
            self._changed.set()
        elif not self._acks_wait:
            self._acks_wait = True
            asyncio.get_running_loop().call_later(_IDLE_ACKS_S, self._wait_no_longer)

    def _wait_no_longer(self) -> None:
        self._acks_wait = False
        self._changed.set()

    def drain(self, on: bool) -> None:
        self._draining = on
        self.pace()

    def pace(self) -> None:
        self._send(pb.CoordinatorMessage(settings=self._settings()))

    def spawned(self, spawn_id: str, error: errors.CoordinatorError | None) -> None:
        """The answer to a Spawn."""
        reply = pb.SpawnReply(spawn_id=spawn_id)
        if error is not None:
            reply.error.CopyFrom(detail_of(error))
        self._send(pb.CoordinatorMessage(spawn_reply=reply))

    def respecced(self, error: errors.CoordinatorError | None) -> None:
        """The answer to a Respec."""
        reply = pb.RespecReply()
        if error is not None:
            reply.error.CopyFrom(detail_of(error))
        self._send(pb.CoordinatorMessage(respec_reply=reply))

    def close(self, error: errors.CoordinatorError) -> None:
        self._error = error
        self._changed.set()

    def _send(self, message: pb.CoordinatorMessage) -> None:
        self._messages.append(message)
        self._changed.set()

    def _settings(self) -> pb.Settings:
        return pb.Settings(
            load_interval_ms=self._node.sessions.pace.interval_ms,
            max_result_bytes=self._node.config.limits.max_result_bytes,
            drain=self._draining,
        )


class _Stream:
    """One agent's stream: a reader and a writer, until one of them ends."""

    def __init__(self, node: Node, context: _Context, exit_: Turnstile) -> None:
        self._node = node
        self._context = context
        self._link = _Link(node, exit_)
        self._in_flight = asyncio.Semaphore(_REPORTS_IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._goodbye = False

    async def serve(self) -> None:
        session = await self._open()
        reader = asyncio.create_task(self._read(session))
        writer = asyncio.create_task(self._write())
        try:
            done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            # First of all: gRPC may cancel this task at any moment now, even in here.
            ended = self._node.sessions.close(session, goodbye=self._goodbye)
            for task in (reader, writer, *self._tasks):
                task.cancel()
            await asyncio.gather(reader, writer, *self._tasks, return_exceptions=True)
            await ended

    async def _open(self) -> Session:
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                message: object = intact(await self._context.read())
        except TimeoutError as error:
            raise errors.Unavailable(f"no Hello came within {_HELLO_TIMEOUT_S} s") from error
        if not isinstance(message, pb.AgentMessage) or message.WhichOneof("body") != "hello":
            raise errors.InvalidRequest("an agent's stream begins with a Hello")
        # Only now: a refusal that crosses the agent's first message would lose its detail on the way.
        await self._node.leadership.serving()
        spec = spec_from_hello(message.hello, self._node.config.limits)
        self._link.takes_acks_with_work = message.hello.takes_acks_with_work
        held = [(fence.key, fence.attempt) for fence in message.hello.held]
        return await self._node.sessions.open(spec, held, self._link)

    async def _write(self) -> None:
        while True:
            await self._context.write(await self._link.next())

    async def _read(self, session: Session) -> None:
        while True:
            message: object = intact(await self._context.read())
            if not isinstance(message, pb.AgentMessage):
                return
            kind = message.WhichOneof("body")
            if kind == "reports":
                await self._report(session, message.reports)
            elif kind == "load":
                self._node.sessions.load(session, convert.load_from_proto(message.load))
            elif kind == "spawn":
                await self._in_flight.acquire()
                self._background(self._spawn(session, message.spawn))
            elif kind == "respec":
                self._link.respecced(await self._respec(session, message.respec))
            elif kind == "goodbye" and message.goodbye.draining:
                await self._node.sessions.leave(session)
            elif kind == "goodbye":
                self._goodbye = True
                return

    async def _respec(self, session: Session, message: pb.Respec) -> errors.CoordinatorError | None:
        """Take what the agent is from now on; the reason if it cannot be."""
        try:
            spec = spec_from_hello(message.hello, self._node.config.limits)
        except errors.InvalidRequest as refusal:
            return refusal
        if spec.agent_id != session.agent_id:
            return errors.InvalidRequest(
                f"agent {session.agent_id!r} cannot become {spec.agent_id!r}: open a session for that one"
            )
        await self._node.sessions.change(session, spec)
        return None

    async def _report(self, session: Session, message: pb.Reports) -> None:
        with self._node.stages["parse"]:
            parsed = (convert.report_from_proto(report) for report in message.reports)
            reports = [self._bounded(one) for one in parsed if one]
        if not reports:
            return
        await self._in_flight.acquire()
        while not self._submitted(session, reports):
            # The agent's stream is not read meanwhile: back-pressure reaches it.
            await self._node.proposer.room()

    def _submitted(self, session: Session, reports: list[AttemptReport]) -> bool:
        try:
            self._node.sessions.report(session, reports).add_done_callback(self._reported)
        except errors.QueueFull:
            return False
        return True

    def _reported(self, future: asyncio.Future[Reply]) -> None:
        self._in_flight.release()
        if future.cancelled():
            return
        error = future.exception()
        if isinstance(error, errors.CoordinatorError):
            self._link.close(error)
        elif isinstance(reply := future.result(), Refusal):
            try:
                raise_refusal(reply)
            except errors.CoordinatorError as refused:
                self._link.close(refused)

    def _bounded(self, report: AttemptReport) -> AttemptReport:
        """A result or checkpoint beyond the limit fails the attempt: the SDK should have said so before."""
        limits = self._node.config.limits
        ended = report.kind is ReportKind.ENDED
        setting = "max_result_bytes" if ended else "max_checkpoint_bytes"
        limit: int = getattr(limits, setting)
        if len(report.data) <= limit:
            return report
        what = "result" if ended else "checkpoint"
        return AttemptReport(
            report.key,
            report.attempt,
            ReportKind.ENDED,
            outcome=AttemptOutcome.FAILED,
            text=f"{what} of {len(report.data)} bytes, over limits.{setting} = {limit}: use a reference",
            retryable=False,
        )

    async def _spawn(self, session: Session, spawn: pb.Spawn) -> None:
        try:
            await self._node.sessions.spawn(
                session,
                spawn.spawn_id,
                (spawn.parent.key, spawn.parent.attempt),
                lambda: self._additions(spawn),
            )
        except errors.Fatal:
            # No answer: this node stops, and the agent asks the next leader.
            return
        except errors.CoordinatorError as error:
            self._link.spawned(spawn.spawn_id, error)
        else:
            self._link.spawned(spawn.spawn_id, None)

    def _additions(self, spawn: pb.Spawn) -> list[NewTask]:
        dag = self._node.applier.state.dags.get(spawn.parent.key >> INDEX_BITS)
        if dag is None:
            raise errors.StaleFence("the DAG of the attempt that adds tasks has ended", key=spawn.parent.key)
        drafts = [convert.task_from_proto(task) for task in spawn.tasks]
        node = self._node
        return build_additions(
            drafts, dag.record.header, len(dag.tasks), node.config.limits, node.plugins.families
        )

    def _background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._in_flight.release()
        self._tasks.discard(task)
        if not task.cancelled() and (defect := task.exception()) is not None:
            # The agent would wait for the answer for as long as its stream lasts.
            self._node.defects.note("spawns", defect)
            self._link.close(errors.Unavailable(f"adding tasks failed unexpectedly: {defect!r}"))
