"""Bytes that are no message of their type: refused like any other bad request.

gRPC makes of an exception in a deserializer an UNKNOWN without a detail. So deserializers do not raise here:
they pass on a `Malformed`, and `intact` refuses it where errors are mapped.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError

from coordinator.errors import InvalidRequest

_Message = TypeVar("_Message")
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_KINDS: Final = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
"""By whether requests and responses are streams: a handler's method, and what makes such a handler."""


class Malformed(NamedTuple):
    """Stands for a message that could not be read."""

    method: str
    problem: str
    data: bytes


def intact(message: _Message | Malformed) -> _Message:
    """The message itself. Raises InvalidRequest for one that could not be read."""
    if isinstance(message, Malformed):
        raise InvalidRequest(
            f"what was sent to {message.method} is not a message of its type: {message.problem}; compare the "
            "client's .proto files with the server's",
            method=message.method,
        )
    return message


def tolerant(method: str, handler: _Handler) -> _Handler:
    """The method's handler with a deserializer that does not raise."""
    kind, make = _KINDS[handler.request_streaming, handler.response_streaming]
    deserialize = handler.request_deserializer

    def read(data: bytes) -> Any:
        try:
            return deserialize(data) if deserialize is not None else data
        except DecodeError as error:
            return Malformed(method, str(error), data)

    made: _Handler = make(getattr(handler, kind), read, handler.response_serializer)
    return made
