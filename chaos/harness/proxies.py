"""A TCP proxy on every directed link between nodes, in a thread of its own. Needs no privileges.

A node speaks on the connections that it dials, so the proxy of the link a -> b stands where a looks for b.
What b answers on such a connection obeys the link b -> a. A silent cut holds bytes, ends of connections and
new connections back until it is mended, as a network does whose senders send again; the kernels at both ends
notice nothing.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, TypeVar

from chaos.harness.network import Link, Manner, Shape, all_links

_HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 64 << 10
_HELD_CHUNKS: Final = 64
"""On their way in one direction of a connection; its sender has to wait beyond."""
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_RETRANSMISSION_S: Final = 0.2
"""What a lost packet costs a TCP sender that has nothing else under way: the least that Linux waits."""

_Result = TypeVar("_Result")


class Proxies:
    """The proxies of a cluster. `addresses` are the nodes' own, by id."""

    def __init__(self, addresses: Mapping[str, str], *, seed: int = 0) -> None:
        self._addresses = dict(addresses)
        self._rng = random.Random(seed)  # noqa: S311 - a fault, not a secret
        self._conditions = {link: _Condition() for link in all_links(addresses)}
        self._connections: dict[Link, set[_Connection]] = {link: set() for link in self._conditions}
        self._ports: dict[Link, int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)

    def start(self) -> None:
        """Listen for every link."""
        self._thread.start()
        self._run(self._listen())

    def close(self) -> None:
        """Close every connection and end the thread."""
        if self._thread.is_alive():
            self._run(self._shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def route(self, link: Link) -> str:
        """Where `link.source` finds `link.target`, as "host:port"."""
        return f"{_HOST}:{self._ports[link]}"

    @property
    def routes(self) -> dict[Link, str]:
        """All of them."""
        return {link: self.route(link) for link in self._ports}

    # --- Network --------------------------------------------------------------------------------------------

    def cut(self, links: Iterable[Link], manner: Manner) -> None:
        """See `Network`."""
        self._on_each(links, lambda link: self._cut(link, manner))

    def mend(self, links: Iterable[Link]) -> None:
        """See `Network`."""
        self._on_each(links, lambda link: self._conditions[link].open())

    def shape(self, links: Iterable[Link], shape: Shape) -> None:
        """See `Network`."""

        def apply(link: Link) -> None:
            self._conditions[link].shape = shape

        self._on_each(links, apply)

    def reset(self, links: Iterable[Link]) -> None:
        """See `Network`."""
        self._on_each(links, self._reset)

    # --- in the thread --------------------------------------------------------------------------------------

    def _on_each(self, links: Iterable[Link], act: Callable[[Link], None]) -> None:
        chosen = list(links)

        async def act_on_all() -> None:
            for link in chosen:
                act(link)

        self._run(act_on_all())

    def _run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self) -> None:
        for link in self._conditions:

            async def accept(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link = link
            ) -> None:
                await self._serve(link, reader, writer)

            server = await asyncio.start_server(accept, _HOST, 0)
            self._ports[link] = server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _cut(self, link: Link, manner: Manner) -> None:
        self._conditions[link].close(manner)
        if manner == "reset":
            self._reset(link)

    def _reset(self, link: Link) -> None:
        for connection in list(self._connections[link]):
            connection.reset()

    async def _serve(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = _Flow(self._conditions[link], self._rng)
        back = _Flow(self._conditions[Link(link.target, link.source)], self._rng)
        connection = _Connection(writer)
        self._connections[link].add(connection)
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(there.take(reader))
                await there.condition.passable()
                if there.ended:
                    # The caller has given up meanwhile: in a network its call would never have arrived.
                    raise _Ended
                host, _, port = self._addresses[link.target].rpartition(":")
                far_reader, far_writer = await asyncio.open_connection(host, int(port))
                connection.add(far_writer)
                directions.create_task(back.take(far_reader))
                directions.create_task(there.give(far_writer))
                directions.create_task(back.give(writer))
        except* (OSError, _Ended):
            # What a proxy cannot pass on ends the connection, for both sides to see.
            pass
        finally:
            connection.abort()
            self._connections[link].discard(connection)


class _Ended(Exception):
    """Nothing more will pass on this connection."""


class _Condition:
    """The state of one link."""

    def __init__(self) -> None:
        self.shape = Shape()
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False

    def close(self, manner: Manner) -> None:
        self._refusing = manner == "reset"
        self._open.clear()

    def open(self) -> None:
        self._refusing = False
        self._open.set()

    async def passable(self) -> None:
        """Wait until something may pass. Raises _Ended at once where that would not be waited for."""
        if self._refusing:
            raise _Ended
        await self._open.wait()


class _Connection:
    """Both legs of one connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writers = [writer]

    def add(self, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)

    def reset(self) -> None:
        """Both ends get an RST where they would get a FIN."""
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.abort()

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


class _Flow:
    """One direction of a connection, until its end, which passes through the link like the bytes."""

    def __init__(self, condition: _Condition, rng: random.Random) -> None:
        self.condition = condition
        self.ended = False
        """Whether the sender has ended it."""
        self._rng = rng
        self._held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_HELD_CHUNKS)

    async def take(self, reader: asyncio.StreamReader) -> None:
        """Note for each chunk when it is due, in order. The empty chunk is the end."""
        loop = asyncio.get_running_loop()
        due = sent = 0.0
        while not self.ended:
            chunk = await reader.read(_CHUNK_BYTES)
            self.ended = not chunk
            shape = self.condition.shape
            sent = max(loop.time(), sent)
            if shape.bytes_per_s:
                sent += len(chunk) / shape.bytes_per_s
            due = max(due, sent + _lag_s(shape, self._rng))
            await self._held.put((due, chunk))

    async def give(self, writer: asyncio.StreamWriter) -> None:
        """Pass on what is due. Raises _Ended at the end."""
        loop = asyncio.get_running_loop()
        while True:
            due, chunk = await self._held.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await self.condition.passable()
            if not chunk:
                raise _Ended
            writer.write(chunk)
            await writer.drain()


def _lag_s(shape: Shape, rng: random.Random) -> float:
    lag = max(0.0, shape.delay_ms + rng.uniform(-shape.jitter_ms, shape.jitter_ms)) / 1000
    wait = _RETRANSMISSION_S
    while rng.random() < shape.loss:
        lag += wait
        wait *= 2
    return lag
