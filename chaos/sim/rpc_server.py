"""The part of `grpc.aio.Server` that a node's services need, on the simulated network: the real servicers
run behind it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any, Final, NoReturn

import grpc
import grpc.aio

from chaos.sim.host_loop import HostLoop
from chaos.sim.network import End, Network
from chaos.sim.rpc_frames import PORT, Begin, Cancel, Data, HalfClose, Inbox, Metadata, Status
from coordinator.api.methods import Methods

_APART_S: Final = 0.001
"""The longest between the two signs that a call is lost, as measured of gRPC."""


class _Details(grpc.HandlerCallDetails):
    """`grpc.HandlerCallDetails`."""

    invocation_metadata: Metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method


class _Aborted(Exception):
    """A servicer has ended its call with a status."""


class SimServer:
    """Serves one process."""

    def __init__(self, network: Network, process: HostLoop, methods: Methods) -> None:
        self._network = network
        self._process = process
        self._methods = methods
        self._serving: dict[asyncio.Task[None], _Served] = {}
        self._ends: dict[End, None] = {}
        self._stopping = False

    async def start(self) -> None:
        """Take connections."""
        self._network.listen(self._process, PORT, self._accept)

    async def stop(self, grace: float) -> None:
        """Take no more calls, give those under way `grace` seconds, then close."""
        self._stopping = True
        self._network.close_port(self._process, PORT)
        if self._serving:
            await asyncio.wait(list(self._serving), timeout=grace)
        for served in list(self._serving.values()):
            served.lose(grpc.StatusCode.UNAVAILABLE, "the server has stopped")
        if self._serving:
            await asyncio.wait(list(self._serving))
        for end in list(self._ends):
            end.close()

    def _accept(self, end: End) -> None:
        calls: dict[int, _Served] = {}
        self._ends[end] = None
        end.on_message = lambda frame: self._take(end, calls, frame)
        end.on_closed = lambda: self._gone(end, calls)

    def _gone(self, end: End, calls: dict[int, _Served]) -> None:
        self._ends.pop(end, None)
        for served in list(calls.values()):
            served.lose(grpc.StatusCode.CANCELLED, "the connection broke")

    def _take(self, end: End, calls: dict[int, _Served], frame: Begin | Data | HalfClose | Cancel) -> None:
        if isinstance(frame, Begin):
            if self._stopping:
                end.send(Status(frame.call, grpc.StatusCode.UNAVAILABLE, "the server is stopping", ()))
                return
            served = calls[frame.call] = _Served(self._process, end, frame)
            task = served.task = self._process.create_task(self._serve(served))
            self._serving[task] = served
            task.add_done_callback(lambda done: self._served(calls, served, done))
        elif (known := calls.get(frame.call)) is not None:
            if isinstance(frame, Data):
                known.inbox.put(frame.payload)
            elif isinstance(frame, HalfClose):
                known.inbox.close()
            else:
                known.lose(grpc.StatusCode.CANCELLED, "the client has cancelled")

    def _served(self, calls: dict[int, _Served], served: _Served, done: asyncio.Task[None]) -> None:
        calls.pop(served.begin.call, None)
        self._serving.pop(done, None)
        if served.deadline is not None:
            served.deadline.cancel()
        error = None if done.cancelled() else done.exception()
        if served.lost:
            return
        if error is None or isinstance(error, _Aborted):
            served.say(served.code, served.details, served.trailing)
        else:
            served.say(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}")

    async def _serve(self, served: _Served) -> None:
        handler: Any = self._methods.service(_Details(served.begin.method))
        if handler is None:
            served.code, served.details = grpc.StatusCode.UNIMPLEMENTED, "Method not found!"
            return
        served.deserialize, served.serialize = handler.request_deserializer, handler.response_serializer
        if handler.request_streaming:
            method = handler.stream_stream if handler.response_streaming else handler.stream_unary
            request: Any = served.requests()
        else:
            method = handler.unary_stream if handler.response_streaming else handler.unary_unary
            request = await served.read()
            if request is grpc.aio.EOF:
                return
        result = method(request, served)
        if inspect.isasyncgen(result):
            async for reply in result:
                await served.write(reply)
        elif handler.response_streaming:
            await result
        else:
            await served.write(await result)


class _Served:
    """A call on the server's side, and its `grpc.aio.ServicerContext`."""

    def __init__(self, process: HostLoop, end: End, begin: Begin) -> None:
        self.begin = begin
        self.inbox = Inbox()
        self.task: asyncio.Task[None] | None = None
        self.code = grpc.StatusCode.OK
        self.details = ""
        self.trailing: Metadata = ()
        self.deserialize: Any = None
        self.serialize: Any = None
        self.lost = False
        self.deadline = None if begin.timeout_s is None else process.call_later(begin.timeout_s, self._expire)
        self._process = process
        self._end = end

    def lose(self, code: grpc.StatusCode, details: str) -> None:
        """The client is gone or does not wait any more, or the server stops. As in grpc.aio, what the client
        sends ends, and what is sent to it fails; soon after, whoever serves it is cancelled, once: mostly
        while it cleans up already."""
        if self.task is not None and not self.lost:
            self.lost = True
            self.say(code, details)
            self.inbox.close()
            self._process.call_later(self._process.rng.uniform(0.0, _APART_S), self.task.cancel)

    def say(self, code: grpc.StatusCode, details: str, trailing: Metadata = ()) -> None:
        """The last word on the call."""
        self._end.send(Status(self.begin.call, code, details, trailing))

    async def requests(self) -> AsyncIterator[Any]:
        """The client's messages, as they come."""
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message

    # What servicers call.

    async def read(self) -> Any:
        """The client's next message, or EOF."""
        payload = await self.inbox.get()
        return grpc.aio.EOF if payload is None else self.deserialize(payload)

    async def write(self, message: Any) -> None:
        """Send a message. Raises InternalError if the call is lost."""
        if self.lost:
            raise grpc.aio.InternalError("Failed to execute a batch of operations")
        self._end.send(Data(self.begin.call, self.serialize(message)))
        await asyncio.sleep(0)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """End the call with a status."""
        self.code, self.details, self.trailing = code, details, tuple(trailing_metadata)
        raise _Aborted

    def peer(self) -> str:
        """Who calls."""
        return self._end.peer.process.name

    def _expire(self) -> None:
        self.lose(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
