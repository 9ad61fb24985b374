"""How our keys are written to: on a stream, as `agent_sdk` does, and by a call for each write."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from agent_sdk import AsyncClient
from bench.puts import Put, channel
from quorumflow_proto.v1 import kv_pb2, kv_pb2_grpc


@asynccontextmanager
async def on_a_stream(address: str) -> AsyncIterator[Put]:
    """The SDK itself: all writes of a client share its stream."""
    async with AsyncClient([address]) as client:
        yield client.kv.put


@asynccontextmanager
async def by_calls(address: str) -> AsyncIterator[Put]:
    """With numbers that make a retry safe, as the SDK's writes have."""
    async with channel(address) as opened:
        stub = kv_pb2_grpc.KvServiceStub(opened)
        writer = uuid.uuid4().hex
        numbers = count(1)
        under_way: dict[int, None] = {}

        async def put(key: str, value: bytes) -> None:
            number = next(numbers)
            under_way[number] = None
            write = kv_pb2.KvWriteId(writer=writer, number=number, answered=next(iter(under_way)))
            await stub.Put(kv_pb2.KvPutRequest(id=write, key=key, value=value))
            del under_way[number]

        yield put
