"""Writes of keys: commands from what is asked, and a stream on which many are asked and answered."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, TypeAlias

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

Context = grpc.aio.ServicerContext[pb.KvWriteRequest, pb.KvWriteReply]
_Kind: TypeAlias = type[KvStored] | type[KvDeleted]


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


class WriteStream:
    """One stream of writes. One task hands them on as they are read, another answers them in the same order,
    which is the one in which they are applied; none has a task of its own.

    Beyond `limits.max_stream_writes` without an answer nothing is read, and gRPC's flow control holds the
    client up: to refuse them would only make it send them again.
    """

    def __init__(self, node: Node, context: Context) -> None:
        self._node = node
        self._context = context
        self._room = asyncio.Semaphore(node.config.limits.max_stream_writes)
        self._asked: asyncio.Queue[_Asked | None] = asyncio.Queue()

    async def serve(self) -> None:
        """Answer until the client sends no more or the node has left, and all that was read is answered.
        Raises InvalidRequest for a message that does not even say which call it is."""
        reader = asyncio.create_task(self._read())

        def stop_reading(left: asyncio.Future[None]) -> None:
            reader.cancel()

        self._node.left.add_done_callback(stop_reading)
        try:
            while (asked := await self._asked.get()) is not None:
                await self._context.write(await self._reply(asked))
                self._room.release()
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
                await self._room.acquire()
                message: object = await self._context.read()
                if not isinstance(message, pb.KvWriteRequest | Malformed):
                    return
                self._asked.put_nowait(await self._ask(message))
        finally:
            self._asked.put_nowait(None)

    async def _ask(self, message: pb.KvWriteRequest | Malformed) -> _Asked:
        call = _call_of(message) if isinstance(message, Malformed) else message.call
        try:
            command, expected = _command(intact(message))
            return _Asked(call, await self._node.submit(command), expected)
        except errors.CoordinatorError as error:
            return _Asked(call, error)

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


def _call_of(message: Malformed) -> int:
    """Which call a message was meant to be. Raises InvalidRequest if not even that can be read."""
    try:
        call = pb.KvWriteCall.FromString(message.data).call
    except DecodeError:
        call = 0
    if not call:
        intact(message)
    return call


def _write_id(wire: pb.KvWriteId) -> WriteId:
    return WriteId(wire.writer, wire.number, wire.answered)
