"""Writes of keys: commands from what is asked, and a stream on which many are asked and answered."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from coordinator import errors
from coordinator.api.errors import code_of, detail_of
from coordinator.api.malformed import Malformed, intact
from coordinator.core.appliers.kv import refusal_of
from coordinator.core.commands import KvDelete, KvPut, WriteId
from coordinator.core.outcome import KvDeleted, KvStored, Reply
from coordinator.replica.node import Node
from coordinator.replica.refused import accepted, raise_refusal
from quorumflow_proto.v1 import kv_pb2 as pb

Context = grpc.aio.ServicerContext[pb.KvWrites, pb.KvWriteReplies]
_Kind: TypeAlias = type[KvStored] | type[KvDeleted]

_REPLIES_PER_MESSAGE: Final = 256
"""Even refusals that name keys of the greatest length fit into a message then."""


def put_from_proto(request: pb.KvPutRequest) -> KvPut:
    """Raises InvalidRequest, LimitExceeded: before the log has to carry it."""
    if (problem := refusal_of(request.key, request.value)) is not None:
        raise_refusal(problem)
    expect = request.expect if request.HasField("expect") else None
    return KvPut(_write_id(request.id), request.key, request.value, expect)


def delete_from_proto(request: pb.KvDeleteRequest) -> KvDelete:
    """Raises InvalidRequest, LimitExceeded."""
    if (problem := refusal_of(request.key)) is not None:
        raise_refusal(problem)
    expect = request.expect if request.HasField("expect") else None
    return KvDelete(_write_id(request.id), request.key, expect)


def stored_to_proto(reply: KvStored) -> pb.KvPutReply:
    """The reply to a put."""
    return pb.KvPutReply(version=reply.version, created=reply.created)


def deleted_to_proto(reply: KvDeleted) -> pb.KvDeleteReply:
    """The reply to a delete."""
    return pb.KvDeleteReply(version=reply.version)


def refused_to_proto(error: errors.CoordinatorError) -> pb.KvWriteError:
    """What a write on a stream is refused with."""
    return pb.KvWriteError(code=code_of(error).value[0], detail=detail_of(error))


class _Asked(NamedTuple):
    """A write that was read: the client's number of it, and what came or will come of it."""

    call: int
    outcome: asyncio.Future[Reply] | errors.CoordinatorError
    expected: _Kind = KvStored

    @property
    def answered(self) -> bool:
        return isinstance(self.outcome, errors.CoordinatorError) or self.outcome.done()


class WriteStream:
    """One stream of writes. One task hands them on as they are read, another answers them in the same order,
    which is the one in which they are applied, many in a message if they are applied together; none has a
    task of its own.

    Beyond `limits.max_stream_writes` without an answer nothing is read, and gRPC's flow control holds the
    client up: to refuse them would only make it send them again.
    """

    def __init__(self, node: Node, context: Context) -> None:
        self._node = node
        self._context = context
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
                if isinstance(message, pb.KvWrites):
                    for request in message.writes:
                        await self._ask(request)
                    # What was asked leaves for the other nodes before gRPC is told to read on.
                    await asyncio.sleep(0)
                elif isinstance(message, Malformed):
                    await self._refuse(message)
                else:
                    return
        finally:
            self._ended = True
            self._changed.set()

    async def _ask(self, request: pb.KvWriteRequest) -> None:
        await self._room.acquire()
        try:
            command, expected = _command(request)
            asked = _Asked(request.call, await self._node.submit(command), expected)
        except errors.CoordinatorError as error:
            asked = _Asked(request.call, error)
        self._asked.append(asked)
        self._changed.set()

    async def _refuse(self, message: Malformed) -> None:
        calls = _calls_of(message)
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
            replies = [await self._reply(asked)]
            while self._asked and self._asked[0].answered and len(replies) < _REPLIES_PER_MESSAGE:
                replies.append(await self._reply(self._asked.popleft()))
            await self._context.write(pb.KvWriteReplies(replies=replies))
            for _ in replies:
                self._room.release()

    async def _next(self) -> _Asked | None:
        while not self._asked:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._asked.popleft()

    async def _reply(self, asked: _Asked) -> pb.KvWriteReply:
        try:
            if isinstance(asked.outcome, errors.CoordinatorError):
                raise asked.outcome
            reply = accepted(await asked.outcome, asked.expected)
        except errors.CoordinatorError as error:
            if isinstance(error, errors.Fatal):
                self._node.fail(error)
            return pb.KvWriteReply(call=asked.call, error=refused_to_proto(error))
        if isinstance(reply, KvStored):
            return pb.KvWriteReply(call=asked.call, put=stored_to_proto(reply))
        return pb.KvWriteReply(call=asked.call, delete=deleted_to_proto(reply))


def _command(request: pb.KvWriteRequest) -> tuple[KvPut | KvDelete, _Kind]:
    kind = request.WhichOneof("write")
    if kind == "put":
        return put_from_proto(request.put), KvStored
    if kind == "delete":
        return delete_from_proto(request.delete), KvDeleted
    raise errors.InvalidRequest("the request has neither a put nor a delete")


def _calls_of(message: Malformed) -> list[int]:
    """Which calls a message was meant to hold, as far as that can be read."""
    try:
        return [write.call for write in pb.KvWriteCalls.FromString(message.data).writes if write.call]
    except DecodeError:
        return []


def _write_id(wire: pb.KvWriteId) -> WriteId:
    return WriteId(wire.writer, wire.number, wire.answered)
