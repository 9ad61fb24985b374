"""A stream on which a client asks for many things, each of which is answered as a call by itself would be.

Requests carry a number, answers name it. What is asked is a command; what else a kind of stream is about says
its `Calls`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import grpc

from coordinator import errors
from coordinator.api.errors import code_of, detail_of, unexpected
from coordinator.api.malformed import Malformed, intact
from coordinator.core.outcome import Reply
from coordinator.replica.node import Node
from coordinator.replica.refused import accepted
from quorumflow_proto.v1 import common_pb2

_ANSWERS_PER_MESSAGE: Final = 256
"""Even refusals that name keys of the greatest length fit into a message then."""

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Numbered(Protocol):
    """A request on a stream."""

    @property
    def call(self) -> int:
        """The client's number of it."""
        ...


_Request = TypeVar("_Request", bound=Numbered)
_Answer = TypeVar("_Answer")


class Taken(NamedTuple):
    """A request that was proposed: what will come of it, and as what."""

    outcome: asyncio.Future[Reply]
    expected: type[Any]


@dataclass(frozen=True, kw_only=True)
class Calls(Generic[_Request, _Answer]):
    """What travels on a kind of stream. `requests` are those of a message, None if it is none, since the
    stream has ended; `calls_of` says which calls a malformed one was meant to hold, as far as that can be
    read. `propose` has a request carried out, and raises an error of the tree if it is refused. `answer` says
    that a call was carried out, with the reply, `refusal` that it was not; `message` puts such together."""

    requests: Callable[[object], Sequence[_Request] | None]
    calls_of: Callable[[Malformed], list[int]]
    propose: Callable[[_Request], Awaitable[Taken]]
    answer: Callable[[int, Any], _Answer]
    refusal: Callable[[int, common_pb2.CallError], _Answer]
    message: Callable[[list[_Answer]], object]


class _Asked(NamedTuple):
    """A request that was read, and what came or will come of it."""

    call: int
    outcome: Taken | errors.CoordinatorError

    @property
    def answered(self) -> bool:
        return isinstance(self.outcome, errors.CoordinatorError) or self.outcome.outcome.done()


class CallStream(Generic[_Request, _Answer]):
    """One stream. One task hands requests on as they are read, another answers them in the same order, which
    is the one in which they are applied, many in a message if they are applied together; none has a task of
    its own.

    Beyond `limits.max_stream_writes` without an answer nothing is read, and gRPC's flow control holds the
    client up: to refuse them would only make it send them again.
    """

    def __init__(self, node: Node, context: _Context, calls: Calls[_Request, _Answer]) -> None:
        self._node = node
        self._context = context
        self._calls = calls
        self._room = asyncio.Semaphore(node.config.limits.max_stream_writes)
        self._asked: deque[_Asked] = deque()
        self._ended = False
        self._changed = asyncio.Event()

    async def serve(self) -> None:
        """Answer until the client sends no more or the node has left, and all that was read is answered.
        Raises InvalidRequest for a message that does not even say which calls it is about."""
        reader = asyncio.create_task(self._read())

        def stop_reading(left: asyncio.Future[None]) -> None:
            reader.cancel()

        self._node.left.add_done_callback(stop_reading)
        try:
            await self._answer()
            await asyncio.wait({reader})
            if not reader.cancelled():
                reader.result()
        finally:
            self._node.left.remove_done_callback(stop_reading)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while True:
                message: object = await self._context.read()
                if isinstance(message, Malformed):
                    await self._refuse(message)
                elif (requests := self._calls.requests(message)) is None:
                    return
                else:
                    for request in requests:
                        await self._ask(request)
                    # What was asked leaves for the other nodes before gRPC is told to read on.
                    await asyncio.sleep(0)
        finally:
            self._ended = True
            self._changed.set()

    async def _ask(self, request: _Request) -> None:
        await self._room.acquire()
        try:
            asked = _Asked(request.call, await self._calls.propose(request))
        except errors.CoordinatorError as error:
            asked = _Asked(request.call, error)
        except Exception as defect:
            # Of this request alone: the others on the stream are not to fail with it.
            asked = _Asked(request.call, unexpected(type(request).__name__, defect))
        self._asked.append(asked)
        self._changed.set()

    async def _refuse(self, message: Malformed) -> None:
        calls = self._calls.calls_of(message)
        try:
            intact(message)
        except errors.InvalidRequest as error:
            if not calls:
                raise
            for call in calls:
                await self._room.acquire()
                self._asked.append(_Asked(call, error))
                self._changed.set()

    async def _answer(self) -> None:
        while (asked := await self._next()) is not None:
            answers = [await self._answer_to(asked)]
            while self._asked and self._asked[0].answered and len(answers) < _ANSWERS_PER_MESSAGE:
                answers.append(await self._answer_to(self._asked.popleft()))
            await self._context.write(self._calls.message(answers))
            for _ in answers:
                self._room.release()

    async def _next(self) -> _Asked | None:
        while not self._asked:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._asked.popleft()

    async def _answer_to(self, asked: _Asked) -> _Answer:
        try:
            if isinstance(asked.outcome, errors.CoordinatorError):
                raise asked.outcome
            reply = accepted(await asked.outcome.outcome, asked.outcome.expected)
        except errors.CoordinatorError as error:
            if isinstance(error, errors.Fatal):
                self._node.fail(error)
            return self._calls.refusal(asked.call, error_to_proto(error))
        return self._calls.answer(asked.call, reply)


def error_to_proto(error: errors.CoordinatorError) -> common_pb2.CallError:
    """What a request on a stream is refused with."""
    return common_pb2.CallError(code=code_of(error).value[0], detail=detail_of(error))
