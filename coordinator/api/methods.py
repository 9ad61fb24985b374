"""The methods of all services of one node, as one handler of gRPC's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio

from coordinator.api.malformed import tolerant

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Methods(grpc.GenericRpcHandler):
    """Collects services, and knows the handler of each of their methods.

    Generated code also registers every method with the server itself. That is not passed on: for each method
    so registered, grpc.aio's server (1.85) keeps a task that waits for the next call, and goes over all of
    them at every call.
    """

    def __init__(self) -> None:
        self._services: list[grpc.GenericRpcHandler] = []
        self._handlers: dict[str, _Handler] = {}

    @property
    def server(self) -> grpc.aio.Server:
        """What the generated `add_..._to_server` takes."""
        return cast(grpc.aio.Server, self)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Called by generated code."""
        self._services += handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Called by generated code, with methods that its generic handler knows too."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler | None:
        """The method's handler, which meets a `Malformed` where a message cannot be read; None if there is no
        such method."""
        method = handler_call_details.method
        if method not in self._handlers:
            found = (service.service(handler_call_details) for service in self._services)
            handler = next((one for one in found if one is not None), None)
            if handler is None:
                return None
            self._handlers[method] = tolerant(method, handler)
        return self._handlers[method]
