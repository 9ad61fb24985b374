"""Writes of keys: commands from what is asked, by itself or on a stream."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from coordinator import errors
from coordinator.api.call_streams import Calls, Taken
from coordinator.api.malformed import Malformed
from coordinator.core.appliers.kv import refusal_of
from coordinator.core.commands import KvDelete, KvPut, WriteId
from coordinator.core.outcome import KvDeleted, KvStored
from coordinator.replica.node import Node
from coordinator.replica.refused import raise_refusal
from quorumflow_proto.v1 import kv_pb2 as pb

Context = grpc.aio.ServicerContext[pb.KvWrites, pb.KvWriteReplies]


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
    return pb.KvPutReply(**_stored(reply))


def deleted_to_proto(reply: KvDeleted) -> pb.KvDeleteReply:
    """The reply to a delete."""
    return pb.KvDeleteReply(**_deleted(reply))


_Answer: TypeAlias = dict[str, object]
"""The fields of a `KvWriteReply`: a message that is given the fields of those in it need not copy them."""


def writes_on(node: Node) -> Calls[pb.KvWriteRequest, _Answer]:
    """Puts and deletes on a stream to this node."""

    async def propose(request: pb.KvWriteRequest) -> Taken:
        kind = request.WhichOneof("write")
        if kind == "put":
            return Taken(await node.submit(put_from_proto(request.put)), KvStored)
        if kind == "delete":
            return Taken(await node.submit(delete_from_proto(request.delete)), KvDeleted)
        raise errors.InvalidRequest("the request has neither a put nor a delete")

    return Calls(
        requests=lambda message: message.writes if isinstance(message, pb.KvWrites) else None,
        calls_of=_calls_of,
        propose=propose,
        answer=_answer,
        refusal=lambda call, error: {"call": call, "error": error},
        message=lambda answers: pb.KvWriteReplies(replies=cast(Any, answers)),
    )


def _calls_of(message: Malformed) -> list[int]:
    try:
        return [write.call for write in pb.KvWriteCalls.FromString(message.data).writes if write.call]
    except DecodeError:
        return []


def _answer(call: int, reply: KvStored | KvDeleted) -> _Answer:
    if isinstance(reply, KvStored):
        return {"call": call, "put": _stored(reply)}
    return {"call": call, "delete": _deleted(reply)}


def _stored(reply: KvStored) -> dict[str, int]:
    return {"version": reply.version, "created": reply.created}


def _deleted(reply: KvDeleted) -> dict[str, int]:
    return {"version": reply.version}


def _write_id(wire: pb.KvWriteId) -> WriteId:
    return WriteId(wire.writer, wire.number, wire.answered)
