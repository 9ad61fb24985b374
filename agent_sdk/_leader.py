"""Finds the leader and follows it.

A call is tried at the node that led last. A redirect is followed at once; a node that does not answer, or
does not know who leads, makes the next endpoint's turn after a jittered pause; a full queue is waited for.
This goes on until the call's time is over. Writes carry one request id through all tries, which makes the
repetition safe.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Final, Protocol, TypeVar

import grpc.aio

from agent_sdk._backoff import Backoff
from agent_sdk._channels import Node, Nodes, parse_endpoints
from agent_sdk._surroundings import Surroundings
from agent_sdk.errors import (
    DeadlineExceeded,
    NotLeader,
    QueueFull,
    QuorumflowError,
    Unavailable,
    from_rpc_error,
)
from quorumflow_proto.v1 import operator_pb2

FIRST_PAUSE_S: Final = 0.02
INQUIRY_NS: Final = 10_000_000_000
"""A client that goes on calling asks this often who belongs to the cluster."""
INQUIRY_TIMEOUT_S: Final = 5.0
CALL_TIMEOUT_S: Final = 30.0


class Paged(Protocol):
    """A request that is sent anew for each page."""

    page_token: str


class Page(Protocol):
    """A reply that may not be the last."""

    @property
    def next_page_token(self) -> str:
        """What to ask for next, "" after the last."""
        ...


Reply = TypeVar("Reply")
OnePage = TypeVar("OnePage", bound=Page)
Call = Callable[[Node, float], Awaitable[Reply]]
"""One try: the node to ask, and the seconds that are left. It fails as gRPC does, or with an error of the
tree."""


class Leader:
    """Where the leader is believed to be, and where else to ask. Shared by all calls of one client or
    agent."""

    def __init__(self, endpoints: str | Iterable[str]) -> None:
        self._configured = self._endpoints = parse_endpoints(endpoints)
        self.address = self._endpoints[0]

    def learn(self, endpoints: Iterable[str]) -> None:
        """The endpoints that a node has named last: asked after those that were configured."""
        self._endpoints = tuple(dict.fromkeys((*self._configured, *filter(None, endpoints))))

    def redirect(self, address: str) -> None:
        """A node says who leads."""
        self.address = address

    def leave(self, address: str) -> None:
        """The node at `address` was of no use: turn to the next one, unless another call has done so
        already."""
        if self.address != address:
            return
        known = self._endpoints
        position = known.index(address) + 1 if address in known else 0
        self.address = known[position % len(known)]


class Pursuit:
    """One call's chase after the leader, for at most `timeout_s` seconds without any success (None: for
    ever)."""

    def __init__(
        self,
        leader: Leader,
        nodes: Nodes,
        timeout_s: float | None,
        rng: random.Random,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._leader = leader
        self._nodes = nodes
        self._timeout_s = timeout_s
        self._rng = rng
        self._first_pause_s = first_pause_s
        # Python 3.11 asks the system for its pid whenever the running loop is asked for.
        self._time_s = asyncio.get_running_loop().time
        self.progressed()

    def progressed(self) -> None:
        """The leader answered: the time and the pauses start over."""
        self._until_s = None if self._timeout_s is None else self._time_s() + self._timeout_s
        self._backoff: Backoff | None = None
        self._redirected = False
        self._last: tuple[str, QuorumflowError] | None = None

    @property
    def node(self) -> Node:
        """Whom to ask next."""
        return self._nodes.at(self._leader.address)

    @property
    def left_s(self) -> float:
        """Seconds until the time is over."""
        return float("inf") if self._until_s is None else self._until_s - self._time_s()

    async def failed(self, address: str, failure: QuorumflowError) -> None:
        """The node at `address` failed the try: return when the next one is due. Raises `failure` if no
        repetition can cure it, QueueFull or DeadlineExceeded if the time would be over before the next
        try."""
        if isinstance(failure, DeadlineExceeded):
            # The last try was broken off: what it was made for is in the answer before it.
            raise self._too_late(*(self._last or (address, failure)))
        self._last = address, failure
        pause = self._pause_s(address, failure)
        if pause >= self.left_s:
            raise failure if isinstance(failure, QueueFull) else self._too_late(address, failure)
        await asyncio.sleep(pause)

    def _too_late(self, address: str, failure: QuorumflowError) -> DeadlineExceeded:
        error = DeadlineExceeded(
            f"no leader served the call within {self._timeout_s} s; the last answer, from {address}: "
            f"{failure}",
            fields={"endpoint": address, "last_reason": failure.reason},
        )
        error.__cause__ = failure
        return error

    def _pause_s(self, address: str, failure: QuorumflowError) -> float:
        if isinstance(failure, QueueFull):
            return max(failure.retry_after_ms / 1000, self._next_pause_s())
        if not isinstance(failure, Unavailable):
            raise failure
        if isinstance(failure, NotLeader) and failure.leader_address not in ("", address):
            self._leader.redirect(failure.leader_address)
            # Two nodes that name each other must not be asked in a tight circle.
            again, self._redirected = self._redirected, True
            return self._next_pause_s() if again else 0.0
        self._redirected = False
        self._leader.leave(address)
        hint_s = failure.retry_after_ms / 1000
        pause = self._next_pause_s()
        return min(pause, hint_s) if hint_s else pause

    def _next_pause_s(self) -> float:
        # Most calls need none.
        self._backoff = self._backoff or Backoff(self._first_pause_s, self._rng)
        return self._backoff.next_s()


class LeaderCalls:
    """Calls that follow the leader. `timeout_s` bounds one call with all its repetitions."""

    def __init__(self, endpoints: str | Iterable[str], timeout_s: float, surroundings: Surroundings) -> None:
        self.nodes = Nodes(surroundings.open_channel)
        self.new_id = surroundings.new_id
        self._rng = surroundings.rng
        self._leader = Leader(endpoints)
        self.timeout_s = timeout_s
        self._now_ns = surroundings.now_ns
        self._inquired_ns = self._now_ns()
        self._inquiry: asyncio.Task[None] | None = None

    def pursuit(self) -> Pursuit:
        """A new chase with this client's time limit, for calls that stream."""
        return Pursuit(self._leader, self.nodes, self.timeout_s, self._rng)

    async def pages(self, request: Paged, attempt: Call[OnePage]) -> AsyncIterator[OnePage]:
        """The replies to a request, which `attempt` sends, page by page. Raises as `call`."""
        while True:
            page = await self.call(attempt)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def call(self, attempt: Call[Reply]) -> Reply:
        """Try `attempt` until the leader has answered it. Raises what the leader refused it with, or
        DeadlineExceeded."""
        pursuit = self.pursuit()
        while True:
            node = pursuit.node
            try:
                reply = await attempt(node, pursuit.left_s)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc_error(error)
            except QuorumflowError as error:
                failure = error
            else:
                self.stay_informed(node)
                return reply
            await pursuit.failed(node.address, failure)

    async def direct(self, address: str, attempt: Call[Reply]) -> Reply:
        """Ask one node, once. Raises what it answers, or Unavailable."""
        (known,) = parse_endpoints([address])
        try:
            return await attempt(self.nodes.at(known), self.timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    def stay_informed(self, node: Node) -> None:
        """The leader has answered, at `node`. Now and then it is asked who else belongs to the cluster: a
        client may outlive every node that it was told of at first."""
        if self._now_ns() - self._inquired_ns >= INQUIRY_NS:
            self._inquired_ns = self._now_ns()
            self._inquiry = asyncio.create_task(self._inquire(node))

    async def close(self) -> None:
        """Close every channel."""
        if self._inquiry is not None:
            self._inquiry.cancel()
        await self.nodes.close()

    async def _inquire(self, node: Node) -> None:
        try:
            reply = await node.operator.ListMembers(
                operator_pb2.ListMembersRequest(), timeout=INQUIRY_TIMEOUT_S
            )
        except grpc.aio.AioRpcError:
            # It leads no more, or is gone. What was known still serves; the next inquiry is not far.
            return
        self._leader.learn(member.grpc_address for member in reply.members)
