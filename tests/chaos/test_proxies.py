"""The proxies of the drills, over real sockets: what passes, what is held back silently, what is reset, and
in which direction. Answers I4."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chaos.harness.network import Link, Shape, all_links, links_between
from chaos.harness.proxies import Proxies
from chaos.harness.proxy_process import ProxyProcess
from coordinator.errors import Unavailable

A_TO_B, B_TO_A = Link("a", "b"), Link("b", "a")
SOON_S = 0.05
"""Long enough for loopback, where it is shown that something does not come."""


class Echo:
    """A server that answers every byte with itself."""

    def __init__(self) -> None:
        self.callers = 0
        self.address = ""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.callers += 1
        while data := await reader.read(1_000):
            writer.write(data)
        writer.close()


class Caller:
    """Node a, as it calls node b through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def says(self, data: bytes) -> bytes:
        """What comes back."""
        self.writer.write(data)
        return await asyncio.wait_for(self.reader.readexactly(len(data)), 5)

    async def hears_nothing(self) -> bool:
        """Whether nothing comes for a while."""
        try:
            return not await asyncio.wait_for(self.reader.read(1), SOON_S)
        except TimeoutError:
            return True


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    """Node b."""
    server = Echo()
    await server.start()
    yield server
    server.close()


@pytest.fixture
async def proxies(echo: Echo) -> AsyncIterator[Proxies]:
    """Proxies between a, which only calls, and b."""
    running = Proxies({"a": "127.0.0.1:1", "b": echo.address}, seed=1)
    running.start()
    yield running
    running.close()


async def call(proxies: Proxies | ProxyProcess) -> Caller:
    host, _, port = proxies.route(A_TO_B).rpartition(":")
    return Caller(*await asyncio.open_connection(host, int(port)))


async def test_a_link_that_is_well_passes_everything(proxies: Proxies) -> None:
    caller = await call(proxies)
    assert await caller.says(b"one") == b"one"
    assert await caller.says(b"x" * 300_000) == b"x" * 300_000


async def test_a_silent_cut_holds_bytes_back_until_it_is_mended(proxies: Proxies) -> None:
    caller = await call(proxies)
    await caller.says(b"one")
    proxies.cut([A_TO_B], "silent")
    caller.writer.write(b"two")
    assert await caller.hears_nothing()
    proxies.mend([A_TO_B])
    assert await asyncio.wait_for(caller.reader.readexactly(3), 5) == b"two"


async def test_answers_obey_the_link_back(proxies: Proxies, echo: Echo) -> None:
    caller = await call(proxies)
    await caller.says(b"one")
    proxies.cut([B_TO_A], "silent")
    caller.writer.write(b"two")
    assert await caller.hears_nothing()
    proxies.mend([B_TO_A])
    assert await asyncio.wait_for(caller.reader.readexactly(3), 5) == b"two"
    assert echo.callers == 1


async def test_a_call_that_was_given_up_during_a_silent_cut_never_arrives(
    proxies: Proxies, echo: Echo
) -> None:
    proxies.cut([A_TO_B], "silent")
    impatient = await call(proxies)
    impatient.writer.write(b"hello")
    await impatient.writer.drain()
    impatient.writer.close()
    await impatient.writer.wait_closed()
    patient = await call(proxies)
    for _ in range(20):
        # Each is a turn of their loop, in which they hear what has arrived: at last that it was given up.
        proxies.cut([A_TO_B], "silent")
    proxies.mend([A_TO_B])
    assert await patient.says(b"one") == b"one"
    assert echo.callers == 1


async def test_a_cut_with_resets_ends_connections_and_refuses_new_ones(proxies: Proxies) -> None:
    caller = await call(proxies)
    await caller.says(b"one")
    proxies.cut([A_TO_B], "reset")
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(caller.reader.readexactly(1), 5)
    refused = await call(proxies)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(refused.reader.readexactly(1), 5)
    proxies.mend([A_TO_B])
    assert await (await call(proxies)).says(b"two") == b"two"


async def test_a_reset_welcomes_new_connections(proxies: Proxies) -> None:
    caller = await call(proxies)
    await caller.says(b"one")
    proxies.reset([A_TO_B])
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(caller.reader.readexactly(1), 5)
    assert await (await call(proxies)).says(b"two") == b"two"


async def test_the_end_of_a_connection_passes_the_proxy(proxies: Proxies) -> None:
    caller = await call(proxies)
    await caller.says(b"one")
    caller.writer.write_eof()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(caller.reader.readexactly(1), 5)


async def test_a_target_that_is_not_there_ends_the_connection(echo: Echo) -> None:
    proxies = Proxies({"a": "127.0.0.1:1", "b": "127.0.0.1:1"})
    proxies.start()
    try:
        caller = await call(proxies)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(caller.reader.readexactly(1), 5)
    finally:
        proxies.close()


@pytest.mark.parametrize(
    "shape",
    [Shape(delay_ms=40), Shape(delay_ms=40, jitter_ms=10), Shape(bytes_per_s=25_000)],
    ids=["delay", "jitter", "throughput"],
)
async def test_a_bad_link_is_late_and_keeps_the_order(proxies: Proxies, shape: Shape) -> None:
    caller = await call(proxies)
    await caller.says(b"one")
    proxies.shape([A_TO_B], shape)
    began = asyncio.get_running_loop().time()
    sent = bytes(range(250)) * 4
    assert await caller.says(sent) == sent
    assert asyncio.get_running_loop().time() - began >= 0.03


async def test_what_is_lost_is_sent_again(proxies: Proxies) -> None:
    caller = await call(proxies)
    proxies.shape([A_TO_B], Shape(loss=0.5))
    for word in (b"one", b"two", b"three"):
        assert await caller.says(word) == word


def test_links_by_groups() -> None:
    assert all_links(["a", "b"]) == [A_TO_B, B_TO_A]
    assert set(links_between(["a"], ["b", "c"])) == {A_TO_B, B_TO_A, Link("a", "c"), Link("c", "a")}


async def test_a_process_of_their_own_does_the_same(echo: Echo) -> None:
    proxies = ProxyProcess({"a": "127.0.0.1:1", "b": echo.address}, seed=1)
    await asyncio.to_thread(proxies.start)
    try:
        caller = await call(proxies)
        assert await caller.says(b"one") == b"one"
        proxies.cut([B_TO_A], "silent")
        caller.writer.write(b"two")
        assert await caller.hears_nothing()
        proxies.mend([B_TO_A])
        assert await asyncio.wait_for(caller.reader.readexactly(3), 5) == b"two"
        proxies.shape([A_TO_B], Shape(bytes_per_s=1e9))
        proxies.reset([A_TO_B])
        with pytest.raises(ConnectionResetError):
            await caller.reader.read(1)
    finally:
        await asyncio.to_thread(proxies.close)
    with pytest.raises(Unavailable, match="has ended"):
        proxies.mend([A_TO_B])
