"""The stream on which a client writes keys: one, to the node that is believed to lead.

On an open stream a write costs a message in each direction, which is less than half of a call, and writes
that come up together share one. Requests carry a number, replies name it. When a stream breaks, each of
its writes fails by itself, as a call would have: who waits for it tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final

import grpc.aio

from agent_sdk._channels import Node
from agent_sdk.errors import (
    DeadlineExceeded,
    LimitExceeded,
    QuorumflowError,
    Unavailable,
    WrongState,
    from_rpc_error,
    from_write_error,
)
from quorumflow_proto.v1 import kv_pb2 as pb

logger = logging.getLogger("agent_sdk")

MESSAGE_BYTES: Final = 256 << 10
"""Size from which a message is closed; its last write may exceed it. Far below what a node takes in one."""


class WriteStreams:
    """The streams of one client: beside the present one, at most those of former leaders that still owe it
    answers."""

    def __init__(self) -> None:
        self._by_address: dict[str, _Stream] = {}
        self._closed = False

    async def write(self, node: Node, request: pb.KvWriteRequest, left_s: float) -> pb.KvWriteReply:
        """What the node replies to a write, within `left_s` seconds. `request.call` is filled in.

        Raises:
            What the node refuses it with, or what its stream broke of. DeadlineExceeded: it has not answered.
            WrongState: the client has been closed.
        """
        if self._closed:
            raise _closed()
        stream = self._by_address.get(node.address) or self._open(node)
        until = asyncio.get_running_loop().time() + left_s
        try:
            reply = await stream.write(request, left_s)
        except LimitExceeded:
            # Some request was too large for gRPC, which ends the stream without saying which one it was.
            return await _alone(node, request, until - asyncio.get_running_loop().time())
        if reply.HasField("error"):
            raise from_write_error(reply.error)
        return reply

    async def close(self) -> None:
        """End all streams; their writes fail with WrongState."""
        self._closed = True
        streams = list(self._by_address.values())
        for stream in streams:
            stream.end(_closed())
        await asyncio.gather(*(stream.ended() for stream in streams))

    def _open(self, node: Node) -> _Stream:
        for former in list(self._by_address.values()):
            former.end_when_idle()
        stream = self._by_address[node.address] = _Stream(node, lambda: self._by_address.pop(node.address))
        return stream


class _Stream:
    """One stream, from its first write to its end, of which `on_end` tells."""

    def __init__(self, node: Node, on_end: Callable[[], object]) -> None:
        self._call = node.kv.Write()
        self._on_end = on_end
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[pb.KvWriteReply]] = {}
        self._unsent: deque[pb.KvWriteRequest] = deque()
        self._over = False
        self._unwanted = False
        self._sender: asyncio.Task[None] | None = None
        self._reader = asyncio.create_task(self._read())

    async def write(self, request: pb.KvWriteRequest, left_s: float) -> pb.KvWriteReply:
        """The reply, which may be an error. Raises what the stream broke of, DeadlineExceeded."""
        loop = asyncio.get_running_loop()
        number = request.call = next(self._numbers)
        reply: asyncio.Future[pb.KvWriteReply] = loop.create_future()
        self._waiting[number] = reply
        self._unsent.append(request)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        time_is_over = loop.call_later(left_s, _give_up, reply)
        try:
            return await reply
        finally:
            time_is_over.cancel()
            del self._waiting[number]
            if self._unwanted:
                self.end_when_idle()

    def end_when_idle(self) -> None:
        """End it as soon as nobody waits for an answer."""
        self._unwanted = True
        if not self._waiting:
            self.end(Unavailable("another node leads"))

    def end(self, failure: QuorumflowError) -> None:
        """Fail what waits, and send nothing more."""
        if self._over:
            return
        self._over = True
        self._on_end()
        self._call.cancel()
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(failure)

    async def ended(self) -> None:
        """Return when nothing of it is left."""
        tasks = [self._reader] if self._sender is None else [self._reader, self._sender]
        await asyncio.wait(tasks)

    async def _send(self) -> None:
        """Send what there is: while one message is under way, the next one gathers."""
        try:
            while writes := self._next_message():
                await self._call.write(pb.KvWrites(writes=writes))
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            # The stream has broken: the reader learns of what.
            return
        except Exception as error:
            logger.exception("writes could not be sent")
            self.end(Unavailable(f"writes could not be sent: {error!r}"))
            return
        self._sender = None

    async def _read(self) -> None:
        failure: QuorumflowError = Unavailable("the node ended the stream of writes")
        try:
            while isinstance(message := await self._call.read(), pb.KvWriteReplies):
                for reply in message.replies:
                    if (awaited := self._awaited(reply.call)) is not None:
                        awaited.set_result(reply)
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
        finally:
            self.end(failure)

    def _next_message(self) -> list[pb.KvWriteRequest]:
        writes: list[pb.KvWriteRequest] = []
        room = MESSAGE_BYTES
        while self._unsent and room > 0:
            request = self._unsent.popleft()
            if self._awaited(request.call) is not None:
                writes.append(request)
                room -= request.ByteSize()
        return writes

    def _awaited(self, number: int) -> asyncio.Future[pb.KvWriteReply] | None:
        """Where the reply goes, if anybody still waits for it."""
        reply = self._waiting.get(number)
        return None if reply is None or reply.done() else reply


async def _alone(node: Node, request: pb.KvWriteRequest, left_s: float) -> pb.KvWriteReply:
    """The reply to a write in a call of its own."""
    if request.HasField("put"):
        return pb.KvWriteReply(put=await node.kv.Put(request.put, timeout=left_s))
    return pb.KvWriteReply(delete=await node.kv.Delete(request.delete, timeout=left_s))


def _give_up(reply: asyncio.Future[pb.KvWriteReply]) -> None:
    if not reply.done():
        reply.set_exception(DeadlineExceeded("the write was not answered in time"))


def _closed() -> WrongState:
    return WrongState("the client has been closed")
