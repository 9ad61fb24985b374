"""The replicated key-value space, as a client uses it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, TypeVar, cast

from agent_sdk._call_streams import CallStreams, Kind
from agent_sdk._channels import Node
from agent_sdk._leader import LeaderCalls
from agent_sdk._loop_thread import LoopThread
from agent_sdk._views import Labelled
from agent_sdk._watch import Stream, replies
from agent_sdk.errors import DeadlineExceeded, InvalidRequest
from agent_sdk.types import KvEvent, KvItem
from quorumflow_proto.v1 import kv_pb2 as pb

PAGE_SIZE: Final = 500

WRITES_AT_ONCE: Final = 4096
"""Of one client. The cluster remembers as many replies to it above the oldest that is still waited for: were
there more, tries of the oldest could find no room, and nothing would ever make room for them."""

Request = TypeVar("Request")


class AsyncKv:
    """`AsyncClient.kv`: keys are text of at most 1,024 bytes in UTF-8, values bytes of at most 256 KiB.

    Reads see every write that was answered before they began, unless `allow_stale` has whichever node is
    asked answer from what it knows. A write that is retried has one effect. `expect` is the version that the
    key must have, 0 for "must not exist"; another one raises StaleVersion, which carries it. After
    DeadlineExceeded a write may or may not have taken effect: read the key.
    """

    def __init__(self, calls: LeaderCalls) -> None:
        self._calls = calls
        self._writes = _Writes(calls.new_id(), calls.timeout_s)
        self._streams = CallStreams(_WRITES)

    async def put(self, key: str, value: bytes, *, expect: int | None = None) -> KvItem:
        """Give a key a value. Raises StaleVersion, LimitExceeded."""
        request = _request(_put_request, key=key, value=value, expect=expect)
        reply = (await self._write(request, request.put.id)).put
        return KvItem(key, value, reply.version, reply.created)

    async def get(self, key: str, *, allow_stale: bool = False) -> KvItem | None:
        """What is at the key; None if there is no such key."""
        request = _request(pb.KvGetRequest, key=key, allow_stale=allow_stale)
        reply = await self._calls.call(lambda node, left_s: node.kv.Get(request, timeout=left_s))
        return _item(reply.item, reply) if reply.HasField("item") else None

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        """Remove a key; returns whether it was there. Raises StaleVersion."""
        request = _request(_delete_request, key=key, expect=expect)
        reply = await self._write(request, request.delete.id)
        return reply.delete.version > 0

    async def range(self, prefix: str = "", *, allow_stale: bool = False) -> AsyncIterator[KvItem]:
        """All keys with the prefix, in the order of their bytes, fetched page by page. Each page is of one
        moment; to miss no change in between, watch from the `revision` before."""
        request = _request(pb.KvRangeRequest, prefix=prefix, page_size=PAGE_SIZE, allow_stale=allow_stale)
        pages = self._calls.pages(request, lambda node, left_s: node.kv.Range(request, timeout=left_s))
        async for reply in pages:
            for wire in reply.items:
                yield _item(wire, reply)

    async def revision(self) -> int:
        """The version up to which everything has happened now: a watch from the next one on misses nothing
        that a read from now on does not show."""
        request = pb.KvRangeRequest(page_size=1)
        reply = await self._calls.call(lambda node, left_s: node.kv.Range(request, timeout=left_s))
        return reply.revision

    async def watch(self, prefix: str = "", from_revision: int = 0) -> AsyncGenerator[KvEvent, None]:
        """Changes of keys with the prefix in their order, from a version on or from now (0), without end.
        Goes on through changes of leader without gaps or repeats. Raises RevisionCompacted when the changes
        are no longer kept: read the keys then, and watch from the `revision` before."""
        request = _request(pb.KvWatchRequest, prefix=prefix, from_revision=from_revision)
        position = from_revision or await self.revision() + 1

        def stream(node: Node) -> Stream[pb.KvWatchReply]:
            request.from_revision = position
            return node.kv.Watch(request)

        parts = replies(self._calls, stream)
        try:
            async for reply in parts:
                for wire in reply.events:
                    position = wire.version + 1
                    yield KvEvent(wire.key, wire.version, wire.deleted, wire.value, wire.created, wire.at_ms)
                position = max(position, reply.revision + 1)
        finally:
            await parts.aclose()

    async def close(self) -> None:
        """Write nothing more; whoever waits for a write is told."""
        await self._streams.close()

    async def _write(self, request: pb.KvWriteRequest, write_id: pb.KvWriteId) -> pb.KvWriteReply:
        number = self._writes.begin_now() or await self._writes.begin()

        def attempt(node: Node, left_s: float) -> Awaitable[pb.KvWriteReply]:
            self._writes.name(write_id, number)
            return self._streams.ask(node, request, left_s)

        try:
            return await self._calls.call(attempt)
        finally:
            self._writes.end(number)


class Kv:
    """`Client.kv`: as `AsyncKv`, for code without an event loop."""

    def __init__(self, loop: LoopThread, kv: AsyncKv) -> None:
        self._loop = loop
        self._kv = kv

    def put(self, key: str, value: bytes, *, expect: int | None = None) -> KvItem:
        """Give a key a value."""
        return self._loop.run(self._kv.put(key, value, expect=expect))

    def get(self, key: str, *, allow_stale: bool = False) -> KvItem | None:
        """What is at the key; None if there is no such key."""
        return self._loop.run(self._kv.get(key, allow_stale=allow_stale))

    def delete(self, key: str, *, expect: int | None = None) -> bool:
        """Remove a key; returns whether it was there."""
        return self._loop.run(self._kv.delete(key, expect=expect))

    def range(self, prefix: str = "", *, allow_stale: bool = False) -> Iterator[KvItem]:
        """All keys with the prefix, in order."""
        return self._loop.iterate(self._kv.range(prefix, allow_stale=allow_stale))

    def revision(self) -> int:
        """The version up to which everything has happened now."""
        return self._loop.run(self._kv.revision())

    def watch(self, prefix: str = "", from_revision: int = 0) -> Iterator[KvEvent]:
        """Changes of keys with the prefix in their order, without end: leave the loop to stop."""
        return self._loop.iterate(self._kv.watch(prefix, from_revision))


class _Writes:
    """Numbers the writes of one client. Each says with every try below which number no answer is waited for
    any more, so that the cluster need not remember those."""

    def __init__(self, writer: str, patience_s: float) -> None:
        """No write waits for its number longer than `patience_s` seconds."""
        self._writer = writer
        self._patience_s = patience_s
        self._last = 0
        self._open: dict[int, None] = {}
        """Numbers of writes that wait for their answer, ascending."""
        self._queue: deque[asyncio.Future[int]] = deque()
        """Writes that wait for a number."""

    def begin_now(self) -> int:
        """The number of a new write; 0 if it has to wait."""
        return self._next() if not self._queue and self._may_begin() else 0

    async def begin(self) -> int:
        """The same, once there is one: it waits while the oldest open one is `WRITES_AT_ONCE` behind. Raises
        DeadlineExceeded."""
        if number := self.begin_now():
            return number
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._have(turn)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the write was not sent: {WRITES_AT_ONCE} of this client wait for their answers "
                "(WRITES_AT_ONCE), and none had one in time"
            ) from None

    def end(self, number: int) -> None:
        """The write has had its answer, or is given up."""
        del self._open[number]
        while self._queue and self._may_begin():
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(self._next())

    async def _have(self, turn: asyncio.Future[int]) -> int:
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # It came at the moment at which it was given up.
                self.end(turn.result())
            raise

    def _may_begin(self) -> bool:
        following = self._last + 1
        return following - next(iter(self._open), following) < WRITES_AT_ONCE

    def _next(self) -> int:
        self._last += 1
        self._open[self._last] = None
        return self._last

    def name(self, wire: pb.KvWriteId, number: int) -> None:
        """Say in a request which write it is a try of."""
        wire.writer = self._writer
        wire.number = number
        wire.answered = next(iter(self._open))


def _request(kind: Callable[..., Request], **fields: object) -> Request:
    """A request of these fields. Raises InvalidRequest where one is not what the wire takes."""
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        name = fields.get("key", fields.get("prefix"))
        raise InvalidRequest(f"key {name!r}: {error}") from error


def _put_request(**fields: Any) -> pb.KvWriteRequest:
    # A message that is made with another one in it copies that one, unless it is given as its fields.
    return pb.KvWriteRequest(put=cast(Any, fields))


def _delete_request(**fields: Any) -> pb.KvWriteRequest:
    return pb.KvWriteRequest(delete=cast(Any, fields))


def _item(wire: pb.KvItem, reply: Labelled) -> KvItem:
    return KvItem(wire.key, wire.value, wire.version, wire.created, reply.stale, reply.age_ms)


async def _write_alone(node: Node, request: pb.KvWriteRequest, left_s: float) -> pb.KvWriteReply:
    if request.HasField("put"):
        return pb.KvWriteReply(put=await node.kv.Put(request.put, timeout=left_s))
    return pb.KvWriteReply(delete=await node.kv.Delete(request.delete, timeout=left_s))


def _write_replies(message: pb.KvWriteReplies) -> Sequence[pb.KvWriteReply]:
    return message.replies


_WRITES: Final = Kind[pb.KvWriteRequest, pb.KvWriteReply](
    what="writes",
    open=lambda node: node.kv.Write(),
    message=lambda writes: pb.KvWrites(writes=writes),
    replies=_write_replies,
    alone=_write_alone,
)
