"""A scripted coordinator behind a real gRPC server, and a runner of `coordctl` against it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result
from google.protobuf.message import Message

from coordinator.api.call_streams import error_to_proto
from coordinator.api.errors import refuse
from coordinator.cli.client import main
from coordinator.errors import CoordinatorError
from quorumflow_proto.v1 import (
    client_pb2,
    client_pb2_grpc,
    kv_pb2,
    kv_pb2_grpc,
    operator_pb2,
    operator_pb2_grpc,
)

Answer = Message | CoordinatorError


@dataclass
class Script:
    """What the server answers by method, and what it was asked. A list is answered item by item."""

    address: str = ""
    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, Message]] = field(default_factory=list)

    def requests(self, method: str) -> list[Any]:
        """The requests that this method has had."""
        return [request for name, request in self.asked if name == method]


def servicer(base: type, service: str, script: Script) -> Any:
    """An instance of the generated servicer whose every method plays the script."""
    methods = {
        method.name: _streamed(method.name, script)
        if method.server_streaming
        else _single(method.name, script)
        for module in (client_pb2, kv_pb2, operator_pb2)
        if (descriptor := module.DESCRIPTOR.services_by_name.get(service)) is not None
        for method in descriptor.methods
    }
    if service == "KvService":
        methods["Write"] = _writes(script)
    return type(f"Scripted{service}", (base,), methods)()


def _single(name: str, script: Script) -> Any:
    async def answer(self: object, request: Message, context: Any) -> Message:
        del self
        script.asked.append((name, request))
        given = script.answers[name]
        one = given.pop(0) if isinstance(given, list) else given
        if isinstance(one, CoordinatorError):
            await refuse(context, one)
        return one

    return answer


def _streamed(name: str, script: Script) -> Any:
    async def answer(self: object, request: Message, context: Any) -> AsyncIterator[Message]:
        del self
        script.asked.append((name, request))
        given = script.answers[name]
        for one in given if isinstance(given, list) else [given]:
            if isinstance(one, CoordinatorError):
                await refuse(context, one)
            yield one
        await asyncio.Event().wait()

    return answer


def _writes(script: Script) -> Any:
    async def answer(
        self: object, messages: AsyncIterator[kv_pb2.KvWrites], context: Any
    ) -> AsyncIterator[kv_pb2.KvWriteReplies]:
        """As Put and Delete are answered."""
        del self, context
        async for message in messages:
            yield kv_pb2.KvWriteReplies(replies=[_written(script, request) for request in message.writes])

    return answer


def _written(script: Script, request: kv_pb2.KvWriteRequest) -> kv_pb2.KvWriteReply:
    kind = request.WhichOneof("write")
    assert kind is not None
    script.asked.append((kind.capitalize(), getattr(request, kind)))
    one: Any = script.answers[kind.capitalize()]
    if isinstance(one, CoordinatorError):
        return kv_pb2.KvWriteReply(call=request.call, error=error_to_proto(one))
    return kv_pb2.KvWriteReply(call=request.call, **{kind: one})


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    """A running server that plays it."""
    played = Script()
    server = grpc.aio.server()
    client_pb2_grpc.add_ClientServiceServicer_to_server(
        servicer(client_pb2_grpc.ClientServiceServicer, "ClientService", played), server
    )
    kv_pb2_grpc.add_KvServiceServicer_to_server(
        servicer(kv_pb2_grpc.KvServiceServicer, "KvService", played), server
    )
    operator_pb2_grpc.add_OperatorServiceServicer_to_server(
        servicer(operator_pb2_grpc.OperatorServiceServicer, "OperatorService", played), server
    )
    played.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield played
    await server.stop(0)


Coordctl = Callable[..., Awaitable[Result]]


@pytest.fixture
def coordctl(script: Script) -> Coordctl:
    """Runs `coordctl` with these arguments against the scripted server; `input` is its stdin."""

    async def run(*arguments: str, **options: Any) -> Result:
        command = ["--endpoints", script.address, *arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, command, **options)

    return run
