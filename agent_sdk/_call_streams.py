"""A stream on which a client makes its calls of one kind: one, to the node that is believed to lead.

On an open stream a request costs a message in each direction, which is less than half of a call, and requests
that come up together share one. They carry a number, replies name it. When a stream breaks, each of its
requests fails by itself, as a call would have: who waits for it tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import grpc.aio

from agent_sdk._channels import Node
from agent_sdk.errors import (
    DeadlineExceeded,
    LimitExceeded,
    QuorumflowError,
    Unavailable,
    WrongState,
    from_call_error,
    from_rpc_error,
)
from quorumflow_proto.v1 import common_pb2

logger = logging.getLogger("agent_sdk")

_TIMER_GRAIN_S: Final = 0.001
"""Event loops may call that much early."""

MESSAGE_BYTES: Final = 256 << 10
"""Size from which a message is closed; its last request may exceed it. Far below what a node takes in one."""


class Request(Protocol):
    """What is sent on a stream."""

    call: int

    def ByteSize(self) -> int:  # noqa: N802
        """Its size on the wire."""
        ...


class Reply(Protocol):
    """What comes back; `error` is set if the request was refused."""

    @property
    def call(self) -> int:
        """The number of the request."""
        ...

    @property
    def error(self) -> common_pb2.CallError:
        """Why it was refused."""
        ...

    def HasField(self, field_name: Any, /) -> bool:  # noqa: N802
        """As of any message."""
        ...


Asked = TypeVar("Asked", bound=Request)
Answered = TypeVar("Answered", bound=Reply)
Call = grpc.aio.StreamStreamCall[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[Asked, Answered]):
    """What travels on a stream: `what` it is in words, how it is opened, what a message is made of and taken
    apart into, and how a request is made `alone`, within so many seconds."""

    what: str
    open: Callable[[Node], Call]
    message: Callable[[Iterable[Asked]], object]
    replies: Callable[[Any], Sequence[Answered]]
    alone: Callable[[Node, Asked, float], Awaitable[Answered]]


class CallStreams(Generic[Asked, Answered]):
    """The streams of one client: beside the present one, at most those of former leaders that still owe it
    answers."""

    def __init__(self, kind: Kind[Asked, Answered]) -> None:
        self._kind = kind
        self._by_address: dict[str, _Stream[Asked, Answered]] = {}
        self._closed = False

    async def ask(self, node: Node, request: Asked, left_s: float) -> Answered:
        """What the node replies to a request, within `left_s` seconds. `request.call` is filled in.

        Raises:
            What the node refuses it with, or what its stream broke of. DeadlineExceeded: it has not answered.
            WrongState: the client has been closed.
        """
        if self._closed:
            raise _closed()
        stream = self._by_address.get(node.address) or self._open(node)
        until_s = stream.time_s() + left_s
        try:
            reply = await stream.ask(request, until_s)
        except LimitExceeded:
            # Some request was too large for gRPC, which ends the stream without saying which one it was.
            return await self._kind.alone(node, request, until_s - stream.time_s())
        if reply.HasField("error"):
            raise from_call_error(reply.error)
        return reply

    async def close(self) -> None:
        """End all streams; what is asked on them fails with WrongState."""
        self._closed = True
        streams = list(self._by_address.values())
        for stream in streams:
            stream.end(_closed())
        await asyncio.gather(*(stream.ended() for stream in streams))

    def _open(self, node: Node) -> _Stream[Asked, Answered]:
        for former in list(self._by_address.values()):
            former.end_when_idle()
        stream = _Stream(node, self._kind, lambda: self._by_address.pop(node.address))
        self._by_address[node.address] = stream
        return stream


class _Awaited(NamedTuple, Generic[Answered]):
    """Who waits for a reply, and until when by the clock of the loop."""

    reply: asyncio.Future[Answered]
    until_s: float


class _Stream(Generic[Asked, Answered]):
    """One stream, from its first request to its end, of which `on_end` tells."""

    def __init__(self, node: Node, kind: Kind[Asked, Answered], on_end: Callable[[], object]) -> None:
        self._kind = kind
        self._call = kind.open(node)
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self.time_s = self._loop.time
        self._numbers = count(1)
        self._waiting: dict[int, _Awaited[Answered]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_s = 0.0
        self._unsent: deque[Asked] = deque()
        self._over = False
        self._unwanted = False
        self._sender: asyncio.Task[None] | None = None
        self._reader = asyncio.create_task(self._read())

    async def ask(self, request: Asked, until_s: float) -> Answered:
        """The reply, which may be an error. Raises what the stream broke of, DeadlineExceeded."""
        number = request.call = next(self._numbers)
        reply: asyncio.Future[Answered] = self._loop.create_future()
        self._waiting[number] = _Awaited(reply, until_s)
        self._unsent.append(request)
        if self._sender is None:
            self._sender = self._loop.create_task(self._send())
        if self._alarm is None or until_s < self._alarm_s:
            self._wake_by(until_s)
        try:
            return await reply
        finally:
            del self._waiting[number]
            if self._unwanted:
                self.end_when_idle()

    def end_when_idle(self) -> None:
        """End it as soon as nobody waits for an answer."""
        self._unwanted = True
        if not self._waiting:
            self.end(Unavailable("another node leads"))

    def end(self, failure: QuorumflowError) -> None:
        """Fail what waits, and send nothing more."""
        if self._over:
            return
        self._over = True
        self._on_end()
        self._call.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
        for awaited in self._waiting.values():
            if not awaited.reply.done():
                awaited.reply.set_exception(failure)

    async def ended(self) -> None:
        """Return when nothing of it is left."""
        tasks = [self._reader] if self._sender is None else [self._reader, self._sender]
        await asyncio.wait(tasks)

    async def _send(self) -> None:
        """Send what there is: while one message is under way, the next one gathers."""
        what = self._kind.what
        try:
            while requests := self._next_message():
                await self._call.write(self._kind.message(requests))
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            # The stream has broken: the reader learns of what.
            return
        except Exception as error:
            logger.exception("%s could not be sent", what)
            self.end(Unavailable(f"{what} could not be sent: {error!r}"))
            return
        self._sender = None

    async def _read(self) -> None:
        failure: QuorumflowError = Unavailable(f"the node ended the stream of {self._kind.what}")
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                for reply in self._kind.replies(message):
                    if (awaited := self._awaited(reply.call)) is not None:
                        awaited.set_result(reply)
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
        finally:
            self.end(failure)

    def _next_message(self) -> list[Asked]:
        requests: list[Asked] = []
        room = MESSAGE_BYTES
        while self._unsent and room > 0:
            request = self._unsent.popleft()
            if self._awaited(request.call) is not None:
                requests.append(request)
                room -= request.ByteSize()
        return requests

    def _awaited(self, number: int) -> asyncio.Future[Answered] | None:
        """Where the reply goes, if anybody still waits for it."""
        awaited = self._waiting.get(number)
        return None if awaited is None or awaited.reply.done() else awaited.reply

    def _wake_by(self, until_s: float) -> None:
        """One alarm serves all that wait: it goes off at the first time, and mostly in vain."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_s = until_s
        self._alarm = self._loop.call_at(until_s, self._give_up)

    def _give_up(self) -> None:
        """Tell those whose time is over."""
        self._alarm = None
        now_s = self.time_s() + _TIMER_GRAIN_S
        left = [awaited for awaited in self._waiting.values() if not awaited.reply.done()]
        for awaited in left:
            if awaited.until_s <= now_s:
                late = DeadlineExceeded(f"one of the {self._kind.what} was not answered in time")
                awaited.reply.set_exception(late)
        later_s = [awaited.until_s for awaited in left if awaited.until_s > now_s]
        if later_s:
            self._wake_by(min(later_s))


def _closed() -> WrongState:
    return WrongState("the client has been closed")
