"""The stream between an agent and the leader, opened again and again while the agent lives.

What runs goes on while there is no stream. A new session says what is held and tells again whatever the
coordinator has not acknowledged; the coordinator sorts out what it knows already by the fences.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from enum import IntEnum
from typing import Final

import grpc.aio

from agent_sdk import _outcome
from agent_sdk._channels import Node, Nodes
from agent_sdk._executor import Executor
from agent_sdk._gauges import Gauges
from agent_sdk._leader import Leader, Pursuit
from agent_sdk._ledger import Ledger
from agent_sdk._offer import Offer
from agent_sdk._profile import Profile
from agent_sdk._reporter import DEFAULT_MAX_RESULT_BYTES, Reporter
from agent_sdk._spawn import Spawns
from agent_sdk._surroundings import Surroundings
from agent_sdk.errors import (
    AccessDenied,
    InvalidRequest,
    QuorumflowError,
    Unavailable,
    Unsupported,
    from_rpc_error,
)
from quorumflow_proto.v1 import agent_pb2

WELCOME_TIMEOUT_S: Final = 10.0
"""A node that has not answered a hello by then is left."""
FIRST_PAUSE_S: Final = 0.05
"""Agents that lose their leader together come back spread over this time."""
DEFAULT_LOAD_INTERVAL_MS: Final = 1_000
_HOPELESS: Final = (InvalidRequest, AccessDenied, Unsupported)
"""Refusals that another try would only repeat."""

Stream = grpc.aio.StreamStreamCall[agent_pb2.AgentMessage, agent_pb2.CoordinatorMessage]

logger = logging.getLogger("agent_sdk")


class Farewell(IntEnum):
    """How far the agent has taken its leave."""

    NOT_YET = 0
    DRAINING = 1
    GONE = 2


class Session:
    """One agent's side of the stream. `news` is set by whoever has something to send: it goes out with all
    else that comes up in the same turn of the loop."""

    def __init__(
        self,
        leader: Leader,
        nodes: Nodes,
        profile: Profile,
        *,
        news: asyncio.Event,
        ledger: Ledger,
        spawns: Spawns,
        reporter: Reporter,
        executor: Executor,
        gauges: Gauges | None,
        surroundings: Surroundings,
    ) -> None:
        self._leader = leader
        self._nodes = nodes
        self._offer = Offer(profile, executor, news.set)
        self._news = news
        self._ledger = ledger
        self._spawns = spawns
        self._reporter = reporter
        self._executor = executor
        self._rng = surroundings.rng
        self._instance_id = surroundings.new_id()
        self._epoch = 0
        self._term = 0
        self._farewell = Farewell.NOT_YET
        self._unsaid: deque[Farewell] = deque()
        self._meter = surroundings.meter(gauges)
        self._load: agent_pb2.LoadReport | None = None
        self._load_interval_s = DEFAULT_LOAD_INTERVAL_MS / 1000

    def change(self, profile: Profile) -> None:
        """The agent is something else from now on; see `Offer`."""
        self._offer.change(profile)

    def say(self, farewell: Farewell) -> None:
        """Take leave, one step at a time; `run` returns after GONE."""
        self._farewell = farewell
        self._unsaid.append(farewell)
        self._news.set()

    async def run(self) -> None:
        """Hold a session with whichever node leads, until the farewell. Raises InvalidRequest, AccessDenied
        or Unsupported when the coordinator refuses this agent's first session; later refusals are sat
        out, as there is work that goes on."""
        pursuit = Pursuit(self._leader, self._nodes, None, self._rng, FIRST_PAUSE_S)
        while True:
            node = pursuit.node
            failure = await self._hold(node, pursuit)
            if self._farewell is Farewell.GONE:
                return
            if isinstance(failure, _HOPELESS) and not self._epoch:
                raise failure
            self._offer.refused(failure)
            logger.info("no session with %s: %s", node.address, failure)
            if not isinstance(failure, Unavailable):
                failure = Unavailable(failure.message, reason=failure.reason)
            await pursuit.failed(node.address, failure)

    async def _hold(self, node: Node, pursuit: Pursuit) -> QuorumflowError:
        """One session, from hello to the end of its stream; returns why it ended."""
        stream = node.agent.Session()
        try:
            await self._open(stream, node, pursuit)
            await self._converse(stream)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
        except Unavailable as error:
            return error
        except TimeoutError:
            return Unavailable(f"no welcome within {WELCOME_TIMEOUT_S} s")
        finally:
            stream.cancel()
        return Unavailable("the node ended the session")

    async def _open(self, stream: Stream, node: Node, pursuit: Pursuit) -> None:
        said = self._offer.current
        hello = said.hello(self._instance_id, self._epoch, self._ledger.fences(), self._executor.task_types)
        async with asyncio.timeout(WELCOME_TIMEOUT_S):
            await _send(stream, agent_pb2.AgentMessage(hello=hello))
            first = await stream.read()
        if not isinstance(first, agent_pb2.CoordinatorMessage) or not first.HasField("welcome"):
            raise Unavailable("the node did not open the session with a welcome")
        welcome = first.welcome
        if welcome.term < self._term:
            raise Unavailable(f"the node leads term {welcome.term}, term {self._term} has begun elsewhere")
        pursuit.progressed()
        await self._nodes.keep_only(node)
        self._offer.opened(said)
        self._take_welcome(welcome)
        logger.info(
            "session %d with %s at %s, term %d", self._epoch, welcome.node_id, node.address, self._term
        )

    def _take_welcome(self, welcome: agent_pb2.Welcome) -> None:
        self._epoch = welcome.session_epoch
        self._term = welcome.term
        self._leader.learn(welcome.leader_endpoints)
        self._take_settings(welcome.settings)
        self._stop(agent_pb2.Stop(fences=welcome.drop, reason="the attempt is no longer this agent's"))
        self._unsaid.clear()
        if self._farewell is not Farewell.NOT_YET:
            self._unsaid.append(self._farewell)
        self._meter.forget_reported()
        self._spawns.send_all_again()
        self._ledger.tell_everything()

    async def _converse(self, stream: Stream) -> None:
        """Both directions at once, until the stream ends or breaks."""
        reader = asyncio.create_task(self._read(stream))
        helpers = [asyncio.create_task(self._write(stream)), asyncio.create_task(self._measure())]
        try:
            done, _ = await asyncio.wait({reader, *helpers}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await reader
        finally:
            for task in (reader, *helpers):
                task.cancel()
            await asyncio.gather(reader, *helpers, return_exceptions=True)

    async def _read(self, stream: Stream) -> None:
        while isinstance(message := await stream.read(), agent_pb2.CoordinatorMessage):
            self._take(message)

    def _take(self, message: agent_pb2.CoordinatorMessage) -> None:
        kind = message.WhichOneof("body")
        if kind == "assignments":
            if message.assignments.HasField("acks"):
                self._ledger.acknowledge(message.assignments.acks.fences)
            self._assign(message.assignments)
        elif kind == "acks":
            self._ledger.acknowledge(message.acks.fences)
        elif kind == "stop":
            self._stop(message.stop)
        elif kind == "spawn_reply":
            self._spawns.answered(message.spawn_reply)
        elif kind == "settings":
            self._take_settings(message.settings)
        elif kind == "respec_reply":
            self._offer.answered(message.respec_reply)

    def _assign(self, assignments: agent_pb2.Assignments) -> None:
        if assignments.term < self._term:
            logger.warning("assignments of term %d ignored in term %d", assignments.term, self._term)
            return
        self._term = assignments.term
        for assignment in assignments.tasks:
            attempt = self._ledger.accept(assignment)
            if attempt is not None:
                self._executor.add(attempt)

    def _stop(self, stop: agent_pb2.Stop) -> None:
        for fence in stop.fences:
            attempt = self._ledger.find(fence)
            if attempt is None:
                self._ledger.never_came(fence, _outcome.cancelled(stop.reason))
            else:
                self._executor.stop(attempt, stop.reason)

    def _take_settings(self, settings: agent_pb2.Settings) -> None:
        self._load_interval_s = (settings.load_interval_ms or DEFAULT_LOAD_INTERVAL_MS) / 1000
        self._reporter.max_result_bytes = settings.max_result_bytes or DEFAULT_MAX_RESULT_BYTES

    async def _write(self, stream: Stream) -> None:
        """Send what there is, whenever there is something: while one message is under way, the next one
        gathers."""
        while True:
            await self._news.wait()
            self._news.clear()
            while (message := self._next_message()) is not None:
                if not await _send(stream, message):
                    return
            if self._farewell is Farewell.GONE:
                await stream.done_writing()
                return

    def _next_message(self) -> agent_pb2.AgentMessage | None:
        if self._unsaid:
            goodbye = agent_pb2.Goodbye(draining=self._unsaid.popleft() is Farewell.DRAINING)
            return agent_pb2.AgentMessage(goodbye=goodbye)
        if (profile := self._offer.take()) is not None:
            hello = profile.hello(self._instance_id, self._epoch, (), self._executor.task_types)
            return agent_pb2.AgentMessage(respec=agent_pb2.Respec(hello=hello))
        if (spawn := self._spawns.take()) is not None:
            return agent_pb2.AgentMessage(spawn=spawn)
        if (reports := self._ledger.take_reports()) is not None:
            return agent_pb2.AgentMessage(reports=reports)
        if (load := self._load) is not None:
            self._load = None
            return agent_pb2.AgentMessage(load=load)
        return None

    async def _measure(self) -> None:
        # Agents that lose their leader together come back together, and must not report together for ever.
        await asyncio.sleep(self._load_interval_s * self._rng.random())
        while True:
            await asyncio.sleep(self._load_interval_s)
            try:
                load = self._meter.news(self._executor.queued, self._executor.running)
            except Exception:
                # Work goes on, and so does measuring.
                logger.exception("the load could not be measured")
                continue
            if load is not None:
                self._load = load
                self._news.set()


async def _send(stream: Stream, message: agent_pb2.AgentMessage) -> bool:
    """Whether the stream still took the message; if not, reading it says why."""
    try:
        await stream.write(message)
    except asyncio.InvalidStateError:
        return False
    return True
