"""The simulated wire is to the product's transport what TCP is: a stream without boundaries, whose end is
told once, and single messages suffer as the weather wants (A1, the simulator's own promises)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from pysyncobj.node import Node

from chaos.sim.host_loop import HostLoop
from chaos.sim.network import Network
from chaos.sim.scheduler import Scheduler
from chaos.sim.weather import ExposedTransport, Harm, Weather
from chaos.sim.wire import SimWire
from coordinator.config import Given, build
from coordinator.consensus.messages import TimeoutNow
from coordinator.consensus.wire import Call
from tests.consensus.ends import MembersOnly

PORT = 7000


class Noting(asyncio.Protocol):
    """Notes what a transport tells it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.pieces: list[bytes] = []
        self.losses = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert not self.losses
        self.pieces.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.losses += 1


class Pair:
    """Two processes, a and b, on a network; b listens."""

    def __init__(self, seed: int = 1) -> None:
        self.errors: list[object] = []
        self.scheduler = Scheduler()
        self.network = Network(self.scheduler, random.Random(seed), delay_s=0.001)
        self.a, self.b = self._process("a"), self._process("b")
        self.accepted = Noting()

    def _process(self, name: str) -> HostLoop:
        chance = random.Random(name)
        return HostLoop(
            name, self.scheduler, chance, rate=1.0, on_error=lambda *what: self.errors.append(what)
        )

    def run(
        self, process: HostLoop, work: Coroutine[Any, Any, Any], seconds: float = 1.0
    ) -> asyncio.Task[Any]:
        """Let a process do this, and time pass."""
        task = process.create_task(work)
        self.pass_time(seconds)
        return task

    def pass_time(self, seconds: float = 1.0) -> None:
        self.scheduler.run(self.scheduler.now + seconds)
        assert not self.errors

    def listen(self, welcome: Callable[[Call], Awaitable[None]] | None = None) -> None:
        self.run(self.b, SimWire(self.b, self.network).listen("b", PORT, welcome or self._welcome), 0.01)

    def dial(self, protocol: asyncio.Protocol) -> Coroutine[Any, Any, None]:
        return SimWire(self.a, self.network).dial(protocol, "b", PORT, None)

    async def _welcome(self, call: Call) -> None:
        await call.take(self.accepted, None)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    for process in (pair.a, pair.b):
        process.end()


def test_a_stream_arrives_whole_and_keeps_no_boundaries(pair: Pair) -> None:
    pair.listen()
    caller = Noting()
    chance = random.Random(2)
    written = [chance.randbytes(chance.randint(1, 50)) for _ in range(300)]

    async def speak() -> None:
        await pair.dial(caller)
        assert caller.transport is not None
        for data in written:
            caller.transport.write(data)
            await asyncio.sleep(0.0001)
        caller.transport.close()
        caller.transport.write(b"too late")

    assert pair.run(pair.a, speak()).done()
    assert b"".join(pair.accepted.pieces) == b"".join(written)
    assert set(pair.accepted.pieces) - set(written), "some are parts of what was written, some are joined"
    assert any(len(piece) > 50 for piece in pair.accepted.pieces)
    assert caller.losses == pair.accepted.losses == 1


def test_what_comes_before_a_call_is_taken_is_kept(pair: Pair) -> None:
    async def later(call: Call) -> None:
        await asyncio.sleep(0.5)
        await call.take(pair.accepted, None)

    pair.listen(later)
    caller = Noting()

    async def speak() -> None:
        await pair.dial(caller)
        assert caller.transport is not None
        caller.transport.write(b"early")
        caller.transport.abort()

    pair.run(pair.a, speak())
    assert b"".join(pair.accepted.pieces) == b"early"
    assert caller.losses == pair.accepted.losses == 1


def test_a_call_that_is_refused_is_closed(pair: Pair) -> None:
    async def refuse(call: Call) -> None:
        call.refuse()

    pair.listen(refuse)
    caller = Noting()
    assert pair.run(pair.a, pair.dial(caller)).done()
    assert (caller.transport is not None, caller.losses) == (True, 1)


def test_nobody_answers_where_nobody_listens(pair: Pair) -> None:
    task = pair.run(pair.a, pair.dial(Noting()))
    assert isinstance(task.exception(), ConnectionError)


def test_whoever_gives_up_leaves_no_connection(pair: Pair) -> None:
    """Before the way opens, and in the very moment in which the connection is there."""
    pair.listen()
    caller = Noting()
    pair.network.cut("a", "b")

    async def impatient() -> None:
        async with asyncio.timeout(0.5):
            await pair.dial(caller)

    assert isinstance(pair.run(pair.a, impatient()).exception(), TimeoutError)
    pair.network.mend("a", "b")
    pair.pass_time()
    assert caller.transport is None
    assert not pair.network._ends

    class Cancelling(Noting):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            task.cancel()

    late = Cancelling()
    task = pair.a.create_task(pair.dial(late))
    pair.pass_time()
    assert task.cancelled()
    assert late.losses == 1
    assert not pair.network._ends


def test_what_does_not_get_through_fills_the_buffer(pair: Pair) -> None:
    pair.listen()
    caller = Noting()
    pair.run(pair.a, pair.dial(caller))
    assert caller.transport is not None
    pair.network.cut("a", "b")
    caller.transport.write(b"x" * 1000)
    pair.pass_time(0.1)
    assert caller.transport.get_write_buffer_size() == 1000
    pair.network.mend("a", "b")
    pair.pass_time()
    assert caller.transport.get_write_buffer_size() == 0
    assert b"".join(pair.accepted.pieces) == b"x" * 1000


@pytest.mark.parametrize(
    ("harm", "arrive"),
    [
        (Harm(), lambda terms: terms == list(range(100))),
        (Harm(lost=0.5), lambda terms: 0 < len(terms) < 100 and terms == sorted(terms)),
        (Harm(doubled=0.5), lambda terms: len(terms) > 100 and set(terms) == set(range(100))),
        (Harm(overtaken=0.5), lambda terms: terms != sorted(terms) == list(range(100))),
    ],
    ids=["fair", "lost", "doubled", "overtaken"],
)
def test_messages_suffer_as_the_weather_wants(
    harm: Harm, arrive: Callable[[list[int]], bool], pair: Pair
) -> None:
    weather = Weather(random.Random(3))
    weather.harms["a", "b"] = harm
    sent: list[tuple[str, object]] = []
    heard: list[Any] = []
    ends = {name: _links(pair, process, weather, sent) for name, process in (("a", pair.a), ("b", pair.b))}
    ends["b"].setOnMessageReceivedCallback(lambda node, message: heard.append(message))
    for name, process in (("b", pair.b), ("a", pair.a)):
        pair.run(process, ends[name].start())
    for term in range(100):
        assert ends["a"].send(Node("b"), TimeoutNow(term))
    pair.pass_time(2.0)
    assert arrive([message.term for message in heard])
    assert sent == [("b", TimeoutNow(term)) for term in range(100)], "those that suffer too"


def test_a_late_message_is_lost_with_its_connection(pair: Pair) -> None:
    """What was meant for one life of a node must not reach the next."""
    weather = Weather(random.Random(3))
    weather.harms["a", "b"] = Harm(overtaken=1.0)
    heard: list[object] = []
    a, b = (_links(pair, process, weather, []) for process in (pair.a, pair.b))
    b.setOnMessageReceivedCallback(lambda node, message: heard.append(message))
    pair.run(pair.b, b.start())
    pair.run(pair.a, a.start())
    for term in range(100):
        assert a.send(Node("b"), TimeoutNow(term))
    pair.network.reset("a", "b")
    pair.pass_time(2.0)
    assert len(heard) < 100
    assert a.send(Node("b"), TimeoutNow(1)), "there is another"


def _links(
    pair: Pair, process: HostLoop, weather: Weather, sent: list[tuple[str, object]]
) -> ExposedTransport:
    me = process.name
    given = {"node_id": me, "cluster_nodes": "a=a:7401/a:7400,b=b:7401/b:7400", "tls.mode": "off"}
    config = build({key: Given(value, "test") for key, value in given.items()})
    links = ExposedTransport(
        config,
        process,
        pair.network,
        random.Random(1),
        weather,
        lambda target, message: sent.append((target, message)),
    )
    links.attach(MembersOnly(me, ("a", "b")))
    links.reach({peer: f"{peer}:7401" for peer in ("a", "b") if peer != me})
    return links
