"""A stream on which a client asks for many things, each of which is answered as a call by itself would be.

Requests carry a number, answers name it. What is asked is a command; what else a kind of stream is about says
its `Calls`. An answer may have to wait for more than its command, such as the end of what that has begun
(`Sequel`): those that do hold no others up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
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


class Sequel(Protocol):
    """What an answer waits for once its command has been carried out."""

    def begin(self, reply: Any, over: Callable[[], None]) -> None:
        """The command has been carried out, with this reply: wait, and call `over` once, perhaps at once."""

    def leave(self) -> None:
        """Wait no longer: the stream is gone."""

    def answer(self, call: int) -> Any:
        """What is to be answered now that it is over."""


class Taken(NamedTuple):
    """A request that was proposed: what will come of it, as what, and what the answer waits for then."""

    outcome: asyncio.Future[Reply]
    expected: type[Any]
    sequel: Sequel | None = None


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
    its own. Those with a sequel are answered when that is over.

    Beyond `limits.max_stream_writes` without an answer nothing is read, and gRPC's flow control holds the
    client up: to refuse them would only make it send them again.
    """

    def __init__(self, node: Node, context: _Context, calls: Calls[_Request, _Answer]) -> None:
        self._node = node
        self._context = context
        self._calls = calls
        self._most = node.config.limits.max_stream_writes
        self._unanswered = 0
        self._room = asyncio.Event()
        self._asked: deque[_Asked] = deque()
        self._awaited: dict[Sequel, None] = {}
        """Those that have begun."""
        self._over: deque[tuple[int, Sequel]] = deque()
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
            for sequel in self._awaited:
                sequel.leave()
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
        if self._unanswered >= self._most:
            await self._room_is_there()
        self._unanswered += 1
        try:
            asked = _Asked(request.call, await self._calls.propose(request))
        except errors.CoordinatorError as error:
            asked = _Asked(request.call, error)
        except Exception as defect:
            # Of this request alone: the others on the stream are not to fail with it.
            asked = _Asked(request.call, unexpected(type(request).__name__, defect))
        self._asked.append(asked)
        self._changed.set()

    async def _room_is_there(self) -> None:
        while self._unanswered >= self._most:
            self._room.clear()
            await self._room.wait()

    async def _refuse(self, message: Malformed) -> None:
        calls = self._calls.calls_of(message)
        try:
            intact(message)
        except errors.InvalidRequest as error:
            if not calls:
                raise
            for call in calls:
                await self._room_is_there()
                self._unanswered += 1
                self._asked.append(_Asked(call, error))
                self._changed.set()

    async def _answer(self) -> None:
        while not (self._ended and not self._asked and not self._awaited):
            if answers := self._answers():
                await self._context.write(self._calls.message(answers))
                self._unanswered -= len(answers)
                self._room.set()
            else:
                await self._change()

    def _answers(self) -> list[_Answer]:
        """What can be answered now, as much as a message takes."""
        answers: list[_Answer] = []
        while self._asked and self._asked[0].answered and len(answers) < _ANSWERS_PER_MESSAGE:
            answer = self._answer_to(self._asked.popleft())
            if answer is not None:
                answers.append(answer)
        # Some of which may have been over as soon as they began.
        while self._over and len(answers) < _ANSWERS_PER_MESSAGE:
            call, sequel = self._over.popleft()
            del self._awaited[sequel]
            answers.append(sequel.answer(call))
        return answers

    async def _change(self) -> None:
        """Return when there may be something to answer."""
        first = self._asked[0].outcome if self._asked else None
        self._changed.clear()
        if not isinstance(first, Taken):
            await self._changed.wait()
        elif self._awaited:
            first.outcome.add_done_callback(self._wake)
            await self._changed.wait()
            first.outcome.remove_done_callback(self._wake)
        else:
            # Nothing else can be answered before, and to wait for this alone takes least.
            with suppress(errors.CoordinatorError):
                await first.outcome

    def _wake(self, _: object) -> None:
        self._changed.set()

    def _answer_to(self, asked: _Asked) -> _Answer | None:
        """To one whose outcome is there; None if the answer waits for a sequel."""
        try:
            if isinstance(asked.outcome, errors.CoordinatorError):
                raise asked.outcome
            reply = accepted(asked.outcome.outcome.result(), asked.outcome.expected)
        except errors.CoordinatorError as error:
            if isinstance(error, errors.Fatal):
                self._node.fail(error)
            return self._calls.refusal(asked.call, error_to_proto(error))
        sequel = asked.outcome.sequel
        if sequel is None:
            return self._calls.answer(asked.call, reply)
        self._awaited[sequel] = None
        sequel.begin(reply, partial(self._is_over, asked.call, sequel))
        return None

    def _is_over(self, call: int, sequel: Sequel) -> None:
        self._over.append((call, sequel))
        self._changed.set()


def error_to_proto(error: errors.CoordinatorError) -> common_pb2.CallError:
    """What a request on a stream is refused with."""
    return common_pb2.CallError(code=code_of(error).value[0], detail=detail_of(error))
