"""The part of `grpc.aio.Channel` that the generated stubs use, on the simulated network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from itertools import count
from typing import Any, Final

import grpc
import grpc.aio

from chaos.sim.host_loop import HostLoop
from chaos.sim.network import Dialling, End, Network
from chaos.sim.rpc_frames import PORT, Begin, Cancel, Data, HalfClose, Inbox, Metadata, Status

_FIRST_BACKOFF_S: Final = 0.1
_LAST_BACKOFF_S: Final = 0.5
"""As the SDK asks of gRPC: how long a channel that could not connect refuses calls before it tries anew."""


class SimChannel:
    """Connects when it is first called, and again after the connection has broken."""

    def __init__(self, network: Network, process: HostLoop, address: str) -> None:
        self.process = process
        self._network = network
        self._address = address
        self._end: End | None = None
        self._connecting: asyncio.Future[End | str] | None = None
        self._backoff_s = _FIRST_BACKOFF_S
        self._not_before_s = 0.0
        self._calls: dict[int, SimCall] = {}
        self._numbers = count(1)
        self._closed = False

    def unary_unary(self, method: str, **how: Any) -> Callable[..., SimCall]:
        """As `grpc.aio.Channel.unary_unary`."""
        return self._unary(method, how)

    def unary_stream(self, method: str, **how: Any) -> Callable[..., SimCall]:
        """As `grpc.aio.Channel.unary_stream`."""
        return self._unary(method, how)

    def stream_unary(self, method: str, **how: Any) -> Callable[..., SimCall]:
        """As `grpc.aio.Channel.stream_unary`."""
        return self._stream(method, how)

    def stream_stream(self, method: str, **how: Any) -> Callable[..., SimCall]:
        """As `grpc.aio.Channel.stream_stream`."""
        return self._stream(method, how)

    async def close(self, grace: float | None = None) -> None:
        """Close the connection; calls under way fail."""
        del grace
        self._closed = True
        self._lost("the channel was closed", grpc.StatusCode.CANCELLED)

    def begin(self, call: SimCall) -> None:
        """Send a call off, as soon as there is a connection."""
        self.process.create_task(self._begin(call))

    def send(self, frame: Data | HalfClose | Cancel) -> None:
        """Send what belongs to a call under way."""
        if self._end is not None and frame.call in self._calls:
            self._end.send(frame)

    def forget(self, number: int) -> None:
        """The call has ended."""
        self._calls.pop(number, None)

    def _unary(self, method: str, how: dict[str, Any]) -> Callable[..., SimCall]:
        def start(request: Any, timeout: float | None = None) -> SimCall:
            call = SimCall(self, next(self._numbers), method, how, timeout)
            call.send_request(request)
            return call

        return start

    def _stream(self, method: str, how: dict[str, Any]) -> Callable[..., SimCall]:
        def start(requests: Iterable[Any] | None = None, timeout: float | None = None) -> SimCall:
            call = SimCall(self, next(self._numbers), method, how, timeout)
            call.send_requests(requests)
            return call

        return start

    async def _begin(self, call: SimCall) -> None:
        end = await self._connected()
        if call.done():
            return
        if isinstance(end, str):
            call.finish(grpc.StatusCode.UNAVAILABLE, end)
            return
        self._calls[call.number] = call
        end.send(Begin(call.number, call.method, call.left_s))
        call.connected()

    async def _connected(self) -> End | str:
        """The connection, or why there is none."""
        if self._closed:
            return "the channel was closed"
        if self._end is not None:
            return self._end
        if self._connecting is None:
            if self.process.time() < self._not_before_s:
                return f"{self._address} could not be reached a moment ago"
            self._connecting = self.process.create_future()
            host, _, port = self._address.rpartition(":")
            del port
            self._network.dial(self.process, host, PORT, Dialling(self._opened, self._failed))
        return await asyncio.shield(self._connecting)

    def _opened(self, end: End) -> None:
        end.on_message = self._take
        end.on_closed = lambda: self._lost("the connection broke", grpc.StatusCode.UNAVAILABLE)
        self._end = end
        self._backoff_s = _FIRST_BACKOFF_S
        self._settle(end)

    def _failed(self, why: str) -> None:
        self._not_before_s = self.process.time() + self._backoff_s * self.process.rng.uniform(0.8, 1.2)
        self._backoff_s = min(_LAST_BACKOFF_S, self._backoff_s * 1.6)
        self._settle(why)

    def _settle(self, outcome: End | str) -> None:
        connecting, self._connecting = self._connecting, None
        if connecting is not None and not connecting.done():
            connecting.set_result(outcome)

    def _take(self, frame: Data | Status) -> None:
        call = self._calls.get(frame.call)
        if call is None:
            return
        if isinstance(frame, Data):
            call.inbox.put(frame.payload)
        else:
            call.finish(frame.code, frame.details, frame.trailing)

    def _lost(self, why: str, code: grpc.StatusCode) -> None:
        end, self._end = self._end, None
        calls, self._calls = list(self._calls.values()), {}
        if end is not None:
            end.close()
        for call in calls:
            call.finish(code, why)


class SimCall:
    """One call, of any of the four kinds."""

    def __init__(
        self, channel: SimChannel, number: int, method: str, how: dict[str, Any], timeout_s: float | None
    ) -> None:
        self.number = number
        self.method = method
        self.inbox = Inbox()
        self._channel = channel
        self._serialize: Callable[[Any], bytes] = how["request_serializer"]
        self._deserialize: Callable[[bytes], Any] = how["response_deserializer"]
        self._process = channel.process
        self._until_s = None if timeout_s is None else self._process.time() + timeout_s
        self._status: Status | None = None
        self._cancelled = False
        self._connected = asyncio.Event()
        self._ended = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._deadline = (
            None if timeout_s is None else self._process.call_later(max(timeout_s, 0.0), self._time_is_over)
        )
        channel.begin(self)

    # --- what the channel does ------------------------------------------------------------------------------

    def send_request(self, request: Any) -> None:
        """Send the only request."""
        self.send_requests([request])

    def send_requests(self, requests: Iterable[Any] | None) -> None:
        """Send these requests and no more; None if the caller will write them."""
        if requests is not None:
            self._sending = self._process.create_task(self._send_all(requests))

    def connected(self) -> None:
        """The call has been sent off."""
        self._connected.set()

    @property
    def left_s(self) -> float | None:
        """Seconds that are left of its time."""
        return None if self._until_s is None else max(0.0, self._until_s - self._process.time())

    def finish(self, code: grpc.StatusCode, details: str, trailing: Metadata = ()) -> None:
        """The call has ended."""
        if self._status is not None:
            return
        self._status = Status(self.number, code, details, trailing)
        if self._deadline is not None:
            self._deadline.cancel()
        self._channel.forget(self.number)
        self.inbox.close()
        self._connected.set()
        self._ended.set()

    # --- what the SDK does ----------------------------------------------------------------------------------

    def done(self) -> bool:
        """Whether it has ended."""
        return self._status is not None

    def cancel(self) -> bool:
        """End it; whoever waits for it is cancelled."""
        if self._status is not None:
            return False
        self._cancelled = True
        self._channel.send(Cancel(self.number))
        self.finish(grpc.StatusCode.CANCELLED, "locally cancelled")
        return True

    def __await__(self) -> Generator[Any, None, Any]:
        return self._reply().__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._replies()

    async def read(self) -> Any:
        """The next message, or EOF. Raises AioRpcError if the call failed."""
        payload = await self.inbox.get()
        if payload is not None:
            return self._deserialize(payload)
        self._raise_for_status()
        return grpc.aio.EOF

    async def write(self, message: Any) -> None:
        """Send a message. Raises InvalidStateError if the call has ended."""
        await self._connected.wait()
        if self._status is not None:
            raise asyncio.InvalidStateError("RPC already finished.")
        self._channel.send(Data(self.number, self._serialize(message)))
        await asyncio.sleep(0)

    async def done_writing(self) -> None:
        """Send nothing more."""
        await self._connected.wait()
        self._channel.send(HalfClose(self.number))

    async def _send_all(self, requests: Iterable[Any]) -> None:
        await self._connected.wait()
        for request in requests:
            self._channel.send(Data(self.number, self._serialize(request)))
        self._channel.send(HalfClose(self.number))

    async def _reply(self) -> Any:
        try:
            await self._ended.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._raise_for_status()
        payload = await self.inbox.get()
        assert payload is not None
        return self._deserialize(payload)

    async def _replies(self) -> AsyncIterator[Any]:
        while (reply := await self.read()) is not grpc.aio.EOF:
            yield reply

    def _raise_for_status(self) -> None:
        assert self._status is not None
        if self._cancelled:
            raise asyncio.CancelledError
        if self._status.code is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                self._status.code,
                grpc.aio.Metadata(),
                grpc.aio.Metadata(*self._status.trailing),
                self._status.details,
            )

    def _time_is_over(self) -> None:
        self._channel.send(Cancel(self.number))
        self.finish(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
