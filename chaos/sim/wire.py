"""The wire between nodes on the simulated network: `consensus.transport` runs on it as it does on TCP.

What it carries is a stream, which keeps no boundaries: what is written at once may arrive in two pieces, and
what was written one after the other is sometimes read at once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from chaos.sim.host_loop import HostLoop
from chaos.sim.network import Dialling, End, Network
from coordinator.consensus.wire import Call

_CUT: Final = 0.1
"""The share of writes that arrive in two pieces."""
_HELD: Final = 0.05
"""The share of arrivals that are read later, with what has come by then,"""
_HELD_S: Final = 0.002
"""and the longest until they are."""
_KERNEL_PATIENCE_S: Final = 120.0
"""A kernel goes on calling for so long, unless whoever wants the connection gives up before."""


class SimWire:
    """`consensus.wire.Wire` of one process, without TLS."""

    def __init__(self, process: HostLoop, network: Network) -> None:
        self._process = process
        self._network = network

    async def listen(self, host: str, port: int, welcome: Callable[[Call], Awaitable[None]]) -> _Port:
        """As `Wire.listen`."""
        del host
        return _Port(self._process, self._network, port, welcome)

    async def dial(
        self, protocol: asyncio.Protocol, host: str, port: int, context: ssl.SSLContext | None
    ) -> None:
        """As `Wire.dial`."""
        assert context is None, "TLS is not simulated"
        connected: asyncio.Future[_Stream] = self._process.create_future()

        def opened(end: End) -> None:
            if connected.done():
                end.close()
                return
            stream = _Stream(self._process, end)
            connected.set_result(stream)
            stream.serve(protocol)

        def failed(why: str) -> None:
            if not connected.done():
                connected.set_exception(ConnectionError(why))

        dialling = Dialling(opened, failed, _KERNEL_PATIENCE_S, wanted=lambda: not connected.done())
        self._network.dial(self._process, host, str(port), dialling)
        try:
            await connected
        except asyncio.CancelledError:
            if not connected.cancelled() and connected.exception() is None:
                connected.result().abort()
            raise


class _Port:
    """`consensus.wire.Port`."""

    def __init__(
        self, process: HostLoop, network: Network, number: int, welcome: Callable[[Call], Awaitable[None]]
    ) -> None:
        self.number = number
        self._process = process
        self._network = network
        self._welcome = welcome
        self._welcoming: dict[asyncio.Future[None], None] = {}
        network.listen(process, str(number), self._accept)

    def close(self) -> None:
        """As `Port.close`."""
        self._network.close_port(self._process, str(self.number))
        for task in list(self._welcoming):
            task.cancel()

    def _accept(self, end: End) -> None:
        call = _Call(_Stream(self._process, end))
        task = asyncio.ensure_future(self._welcome(call))
        self._welcoming[task] = None
        task.add_done_callback(self._welcoming.pop)


class _Call:
    """`consensus.wire.Call`."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    async def take(self, protocol: asyncio.Protocol, context: ssl.SSLContext | None) -> None:
        """As `Call.take`."""
        assert context is None, "TLS is not simulated"
        self._stream.serve(protocol)

    def refuse(self) -> None:
        """As `Call.refuse`."""
        self._stream.abort()


class _Stream(asyncio.Transport):
    """One end of a connection, for one of asyncio's protocols. Until there is one, what arrives is kept."""

    def __init__(self, process: HostLoop, end: End) -> None:
        super().__init__()
        self._process = process
        self._end = end
        self._protocol: asyncio.Protocol | None = None
        self._unread = b""
        self._broken = False
        self._closed = False
        end.on_message = self._arrived
        end.on_closed = self._breaks

    def serve(self, protocol: asyncio.Protocol) -> None:
        """Give the protocol everything that arrives, and has arrived."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self._unread or self._broken:
            self._process.call_soon(self._read)

    # --- what a protocol asks of its transport --------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; lost if the connection breaks first."""
        rng = self._process.rng
        whole = bytes(data)
        if rng.random() < _CUT:
            cut = rng.randrange(len(whole) + 1)
            self._end.send(whole[:cut])
            self._end.send(whole[cut:])
        else:
            self._end.send(whole)

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel does not take, because nothing gets through."""
        return self._end.backlog

    def close(self) -> None:
        """Read nothing more, and end the connection after what was sent."""
        if not self._closed:
            self._closed = True
            self._end.close()
            self._process.call_soon(self._lose)

    def abort(self) -> None:
        """The same: all that was sent is the kernel's."""
        self.close()

    # --- what the connection reports ------------------------------------------------------------------------

    def _arrived(self, data: bytes) -> None:
        self._unread += data
        if self._process.rng.random() < _HELD:
            self._process.call_later(self._process.rng.uniform(0.0, _HELD_S), self._read)
        else:
            self._read()

    def _breaks(self) -> None:
        self._broken = True
        self._read()

    def _read(self) -> None:
        """What has arrived, and after it the end, if it has come."""
        if self._protocol is None or self._closed:
            return
        data, self._unread = self._unread, b""
        if data:
            self._protocol.data_received(data)
        if self._broken:
            self.close()

    def _lose(self) -> None:
        if self._protocol is not None:
            self._protocol.connection_lost(None)
