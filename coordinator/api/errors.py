"""The one table from the error tree to gRPC codes, and the detail that travels with each error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

import grpc
import structlog

from coordinator import errors
from coordinator.api.malformed import intact
from quorumflow_proto.v1 import common_pb2

DETAIL_KEY: Final = "coordinator-error-bin"
"""Trailing metadata that carries a serialized ErrorDetail."""

CODES: Final[dict[type[errors.CoordinatorError], grpc.StatusCode]] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StaleFence: grpc.StatusCode.ABORTED,
    errors.StaleVersion: grpc.StatusCode.ABORTED,
    errors.RevisionCompacted: grpc.StatusCode.OUT_OF_RANGE,
    errors.QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.OutOfSpace: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotLeader: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.CoordinatorError: grpc.StatusCode.INTERNAL,
}

_log = structlog.get_logger(__name__)
_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def code_of(error: errors.CoordinatorError) -> grpc.StatusCode:
    """The code of the nearest class above the error's own."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def detail_of(error: errors.CoordinatorError) -> common_pb2.ErrorDetail:
    """What a program can read of the error."""
    return common_pb2.ErrorDetail(
        reason=error.reason,
        message=error.message,
        fields=error.fields,
        retry_after_ms=error.retry_after_ms,
        leader_id=error.fields.get("leader_id", ""),
        leader_address=error.fields.get("leader_address", ""),
    )


async def refuse(context: _Context, error: errors.CoordinatorError) -> NoReturn:
    """End the call with the error."""
    metadata = ((DETAIL_KEY, detail_of(error).SerializeToString()),)
    await context.abort(code_of(error), error.message, metadata)
    raise AssertionError("abort does not return")


def unary(
    method: Callable[[Any, _Request], Awaitable[_Reply]],
) -> Callable[[Any, _Request, _Context], Awaitable[_Reply]]:
    """A servicer's method from one that takes the request alone and raises errors of the tree. One that is
    fatal, such as a damaged record, stops the servicer's `_node`."""

    async def call(self: Any, request: _Request, context: _Context) -> _Reply:
        try:
            return await method(self, intact(request))
        except Exception as error:
            await _end(self, context, method.__name__, error)

    return call


def streaming(
    method: Callable[[Any, _Request], AsyncIterator[_Reply]],
) -> Callable[[Any, _Request, _Context], AsyncIterator[_Reply]]:
    """As `unary`, for a method that yields replies."""

    async def call(self: Any, request: _Request, context: _Context) -> AsyncIterator[_Reply]:
        try:
            async for reply in method(self, intact(request)):
                yield reply
        except Exception as error:
            await _end(self, context, method.__name__, error)

    return call


def conversing(
    method: Callable[[Any, _Context], Awaitable[None]],
) -> Callable[[Any, object, _Context], Awaitable[None]]:
    """As `unary`, for a method that reads and writes streams through the context, one beside the other."""

    async def call(self: Any, requests: object, context: _Context) -> None:
        del requests
        try:
            await method(self, context)
        except Exception as error:
            await _end(self, context, method.__name__, error)

    return call


async def _end(servicer: Any, context: _Context, where: str, error: Exception) -> NoReturn:
    if not isinstance(error, errors.CoordinatorError):
        error = unexpected(where, error)
    elif isinstance(error, errors.Fatal):
        servicer._node.fail(error)
    await refuse(context, error)


def unexpected(where: str, error: Exception) -> errors.CoordinatorError:
    """What a caller is told of a mistake in the coordinator; the log tells the rest."""
    _log.exception("unexpected error", call=where)
    return errors.CoordinatorError(
        f"{where} failed unexpectedly: {error!r}; please report it with the node's log"
    )
