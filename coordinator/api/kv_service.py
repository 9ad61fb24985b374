"""gRPC for the key-value space."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from coordinator.api.call_streams import CallStream
from coordinator.api.errors import conversing, streaming, unary
from coordinator.api.kv_writes import (
    Context,
    delete_from_proto,
    deleted_to_proto,
    put_from_proto,
    stored_to_proto,
    writes_on,
)
from coordinator.api.watching import Watching
from coordinator.core.appliers.kv import refusal_of
from coordinator.core.keyspace import KvRecord
from coordinator.core.outcome import KvDeleted, KvEvent, KvStored
from coordinator.replica.node import Node
from coordinator.replica.refused import raise_refusal
from coordinator.replica.watch import Happening
from quorumflow_proto.v1 import kv_pb2 as pb
from quorumflow_proto.v1 import kv_pb2_grpc


class KvService(kv_pb2_grpc.KvServiceServicer):
    """KvService on one node."""

    def __init__(self, node: Node, watching: Watching) -> None:
        self._node = node
        self._page_size = node.config.limits.page_size
        self._watching = watching

    @unary
    async def Put(self, request: pb.KvPutRequest) -> pb.KvPutReply:
        return stored_to_proto(await self._node.propose(put_from_proto(request), KvStored))

    @unary
    async def Delete(self, request: pb.KvDeleteRequest) -> pb.KvDeleteReply:
        return deleted_to_proto(await self._node.propose(delete_from_proto(request), KvDeleted))

    @conversing
    async def Write(self, context: Context) -> None:  # type: ignore[override]
        await CallStream(self._node, context, writes_on(self._node)).serve()

    @unary
    async def Get(self, request: pb.KvGetRequest) -> pb.KvGetReply:
        if (problem := refusal_of(request.key)) is not None:
            raise_refusal(problem)
        read = await self._node.read(allow_stale=request.allow_stale)
        keys = self._node.keys
        record = keys.get(request.key)
        item = None if record is None else _item(request.key, record)
        return pb.KvGetReply(item=item, revision=keys.revision, stale=read.stale, age_ms=read.age_ms)

    @unary
    async def Range(self, request: pb.KvRangeRequest) -> pb.KvRangeReply:
        read = await self._node.read(allow_stale=request.allow_stale)
        keys = self._node.keys
        size = min(request.page_size or self._page_size, self._page_size)
        page, token = keys.page(request.prefix, request.page_token, size)
        return pb.KvRangeReply(
            items=[_item(key, record) for key, record in page],
            next_page_token=token,
            revision=keys.revision,
            stale=read.stale,
            age_ms=read.age_ms,
        )

    @streaming
    async def Watch(self, request: pb.KvWatchRequest) -> AsyncIterator[pb.KvWatchReply]:
        def to_proto(one: Happening[KvEvent]) -> Iterator[tuple[int, pb.KvEvent]]:
            for event in one.events:
                if event.version >= request.from_revision and event.key.startswith(request.prefix):
                    yield event.version, _event(one.at_ms, event)

        replies = self._watching.replies(
            lambda: self._node.follow_keys(request.from_revision), to_proto, allow_stale=request.allow_stale
        )
        async for events, revision in replies:
            yield pb.KvWatchReply(events=events, revision=revision, age_ms=self._node.age_ms)


def _item(key: str, record: KvRecord) -> pb.KvItem:
    return pb.KvItem(key=key, value=record.value, version=record.version, created=record.created)


def _event(at_ms: int, event: KvEvent) -> pb.KvEvent:
    return pb.KvEvent(
        key=event.key,
        version=event.version,
        deleted=event.value is None,
        value=event.value or b"",
        created=event.created,
        at_ms=at_ms,
    )
