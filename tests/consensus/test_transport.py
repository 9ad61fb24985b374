"""The TCP transport: strangers, garbage and half-open connections cost a connection and never the node
(A1, G6)."""

from __future__ import annotations

import asyncio
import importlib
import logging
import random
import socket
import struct
import threading
import zlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysyncobj.node import Node

from coordinator.consensus.framing import (
    PROTOCOL_VERSION,
    FrameError,
    FrameReader,
    Hello,
    Refused,
    frame,
    handshake,
    message,
)
from coordinator.consensus.messages import AppendEntries, Entry, EntryKind, TimeoutNow
from coordinator.consensus.transport import split_address
from tests.consensus.ends import PATIENCE_S, QUICK, End, answer, ended, stranger


@pytest.fixture
async def pair() -> AsyncIterator[tuple[End, End]]:
    """Two ends that reach each other."""
    a, b = End("a", "b"), End("b", "a")
    for end in (a, b):
        await end.start()
    a.knows(b)
    b.knows(a)
    await a.until(lambda: ("b", True) in a.links)
    await b.until(lambda: ("a", True) in b.links)
    yield a, b
    await a.transport.close()
    await b.transport.close()


async def test_messages_arrive_in_order_both_ways(pair: tuple[End, End]) -> None:
    a, b = pair
    for term in range(100):
        assert a.transport.send(Node("b"), TimeoutNow(term))
        assert b.transport.send(Node("a"), TimeoutNow(1000 + term))
    await b.until(lambda: len(b.heard) == 100)
    await a.until(lambda: len(a.heard) == 100)
    assert b.heard == [("a", TimeoutNow(term)) for term in range(100)]
    assert a.heard == [("b", TimeoutNow(1000 + term)) for term in range(100)]


async def test_what_comes_in_one_read_is_handed_over_before_anything_is_made_of_it(
    pair: tuple[End, End],
) -> None:
    _, b = pair
    reads: list[int] = []
    b.transport.on_read = lambda: reads.append(len(b.heard))
    b.transport._incoming["a"].data_received(frame(TimeoutNow(1)) + frame(TimeoutNow(2)))
    assert reads == [2]


def reached_again(first: End, second: End, ups: int) -> bool:
    return first.links.count((second.me, True)) > ups


async def test_25_each_side_dials_and_dials_again_after_a_cut(pair: tuple[End, End]) -> None:
    a, b = pair
    for first, second in ((a, b), (b, a)):
        link = first.transport._outgoing[second.me].link
        assert link is not None
        ups = first.links.count((second.me, True))
        link.abort()
        await first.until(partial(reached_again, first, second, ups))
        assert (second.me, False) in first.links
    assert a.transport.send(Node("b"), TimeoutNow(1))
    await b.until(lambda: bool(b.heard))


async def test_links_with_a_member_that_was_replaced_are_made_anew(pair: tuple[End, End]) -> None:
    """One that lost its power is still believed to be there: its link must not pass for its successor's."""
    a, b = pair
    a.gate.replaced.add("b")
    before = a.links.count(("b", True)), b.links.count(("a", True))
    a.transport.reach({"b": "127.0.0.1:0"})
    await a.until(lambda: a.links.count(("b", True)) > before[0])
    await b.until(lambda: b.links.count(("a", True)) > before[1])


async def test_a_peer_that_dies_is_noticed_on_the_incoming_side(pair: tuple[End, End]) -> None:
    a, b = pair
    a.transport.abort()
    await b.until(lambda: ("a", False) in b.links)
    assert not b.transport.send(Node("a"), TimeoutNow(1)) or ("a", False) in b.links


async def test_32_a_full_buffer_refuses_the_message(pair: tuple[End, End]) -> None:
    a, _ = pair
    big = AppendEntries(1, 1, 1, 1, 1, [Entry(1, EntryKind.COMMAND, b"x" * 50_000)])
    sent = [a.transport.send(Node("b"), big) for _ in range(1000)]
    assert sent[0]
    assert False in sent, "the other side cannot have read anything while this loop ran"
    assert sent.count(True) < 500


async def test_a_message_that_no_peer_would_take_does_not_cost_the_connection(
    pair: tuple[End, End], caplog: pytest.LogCaptureFixture
) -> None:
    a, b = pair
    with caplog.at_level(logging.ERROR):
        large = Entry(1, EntryKind.COMMAND, b"x" * QUICK.max_frame_bytes)
        assert not a.transport.send(Node("b"), AppendEntries(1, 1, 1, 1, 1, [large]))
    assert "max_frame_bytes" in caplog.text
    assert a.transport.send(Node("b"), TimeoutNow(1))
    await b.until(lambda: b.heard == [("a", TimeoutNow(1))])


async def test_24_names_are_resolved_at_every_attempt_and_off_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver: Any = importlib.import_module("pysyncobj.dns_resolver")
    conf = importlib.import_module("pysyncobj.config").SyncObjConf()
    theirs = resolver.DnsCachingResolver(conf.dnsCacheTime, conf.dnsFailCacheTime)
    known = iter([("10.0.0.1", 0), ("10.0.0.2", 0)])
    threads: list[int] = []

    def moves(*arguments: object) -> list[tuple[object, ...]]:
        threads.append(threading.get_ident())
        return [(socket.AF_INET, None, None, None, next(known))]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", moves)
        assert [theirs.resolve("a-node"), theirs.resolve("a-node")] == ["10.0.0.1", "10.0.0.1"]
    assert threads == [threading.get_ident()], "the library asks in its tick, and once in ten minutes"

    asked: list[int] = []
    often = threading.Event()

    def unresolvable(*arguments: object, **options: object) -> list[object]:
        asked.append(threading.get_ident())
        if len(asked) == 3:
            often.set()
        raise socket.gaierror("no such name")

    a = End("a", "b")
    await a.start()
    monkeypatch.setattr(socket, "getaddrinfo", unresolvable)
    a.transport.set_route("b", "a-node-that-has-no-name-yet:1")
    await asyncio.to_thread(often.wait, PATIENCE_S)
    assert len(asked) >= 3
    assert threading.get_ident() not in asked
    await a.transport.close()


async def test_an_address_that_cannot_be_one_may_be_mended(pair: tuple[End, End]) -> None:
    a, b = pair
    right = b.transport.address
    a.transport.set_route("b", "host..example:1")
    b.transport._incoming["a"].abort()
    failed = a.transport.counters["connections_failed"]
    await a.until(lambda: a.transport.counters["connections_failed"] > failed + 1)
    ups = a.links.count(("b", True))
    a.transport.set_route("b", right)
    await a.until(lambda: reached_again(a, b, ups))


@pytest.mark.parametrize("known", [True, False])
async def test_a_peer_is_reached_where_it_is_known_to_be_or_where_it_says_that_it_is(known: bool) -> None:
    """A3: the one that is wrong is what an older log says, or an address that only some can use."""
    a, b = End("a", "b"), End("b", "a")
    nowhere = "127.0.0.1:0"
    await a.start()
    await b.start()
    if known:
        a.transport.reach({"b": b.transport.address})
        b.transport._advertise = nowhere
    b.knows(a)
    await a.until(lambda: ("b", True) in a.links)
    failed = a.transport.counters["connections_failed"]
    caller = a.transport._outgoing["b"].link
    assert caller is not None
    caller.abort()
    await a.until(lambda: a.links.count(("b", True)) == 2)
    assert a.transport.counters["connections_failed"] == failed, "it stays with the place that serves"
    await a.transport.close()
    await b.transport.close()


async def test_nobody_is_reached_before_start() -> None:
    end = End("a", "b")
    assert not end.transport.send(Node("b"), TimeoutNow(1))
    await end.transport.close()


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (Hello(PROTOCOL_VERSION, "another", "a", "b"), "cluster 'another'"),
        (Hello(PROTOCOL_VERSION, "one", "a", "c"), "wants to reach 'c'"),
        (Hello(PROTOCOL_VERSION, "one", "z", "b"), "z is not a member"),
        (Hello(99, "one", "a", "b"), "protocol 99"),
    ],
)
async def test_a_stranger_is_told_why_it_is_refused(
    pair: tuple[End, End], hello: Hello, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, b = pair
    with caplog.at_level(logging.WARNING):
        reader, writer = await stranger(b)
        writer.write(frame(hello) + frame(TimeoutNow(1)))
        refusal = await answer(reader)
        assert await ended(reader)
        writer.close()
    assert isinstance(refusal, Refused)
    assert reason in refusal.reason
    assert reason in caplog.text
    assert b.transport.counters["handshakes_refused"] == 1
    assert b.heard == []


async def test_both_sides_tell_of_a_refusal_once(caplog: pytest.LogCaptureFixture) -> None:
    a, b = End("a", "b", cluster="one"), End("b", "a", cluster="two")
    with caplog.at_level(logging.INFO):
        await b.start()
        a.knows(b)
        await a.start()
        await b.counted("handshakes_refused", 3)
    assert caplog.text.count("cannot reach b") == 1
    assert caplog.text.count("refusing connections from 'a'") == 1
    assert "belongs to 'two'" in caplog.text
    await a.transport.close()
    await b.transport.close()


GOOD_HELLO = frame(Hello(PROTOCOL_VERSION, "one", "a", "b"))


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        struct.pack(">II", 5, 0) + b"wrong",
        frame(TimeoutNow(1)),
        GOOD_HELLO + struct.pack(">II", QUICK.max_frame_bytes + 1, 0),
        GOOD_HELLO + struct.pack(">II", 3, zlib.crc32(b"abc")) + b"abc",
        GOOD_HELLO + GOOD_HELLO,
        GOOD_HELLO + frame(AppendEntries(1, 1, 1, 1, 1, []))[:-1] + b"\xff",
    ],
    ids=["http", "noise", "checksum", "no hello", "too long", "no message", "two hellos", "flipped"],
)
async def test_garbage_costs_the_connection_alone(garbage: bytes, pair: tuple[End, End]) -> None:
    a, b = pair
    reader, writer = await stranger(b)
    writer.write(garbage)
    assert await ended(reader)
    writer.close()
    assert b.transport.counters["frames_refused"] == 1
    # Who calls in a peer's name takes the place of its connection, and the peer dials again.
    dialled = 2 if garbage.startswith(GOOD_HELLO) else 1
    await a.until(lambda: a.links.count(("b", True)) == dialled)
    assert a.transport.send(Node("b"), TimeoutNow(7))
    await b.until(lambda: ("a", TimeoutNow(7)) in b.heard)


async def test_a_caller_that_says_nothing_is_put_off(pair: tuple[End, End]) -> None:
    _, b = pair
    reader, writer = await stranger(b)
    assert await ended(reader)
    writer.close()


async def test_a_listener_that_says_nothing_is_left() -> None:
    """A half-open peer: its kernel accepts, and nobody answers."""
    accepted = asyncio.Event()
    hung_up = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await ended(reader)
        hung_up.set()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    a = End("a", "b")
    a.transport.set_route("b", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await a.start()
    async with asyncio.timeout(PATIENCE_S):
        await accepted.wait()
        await hung_up.wait()
    assert not a.transport.send(Node("b"), TimeoutNow(1))
    assert a.links == []
    await a.transport.close()
    server.close()


async def test_too_many_unidentified_callers_are_refused(pair: tuple[End, End]) -> None:
    _, b = pair
    callers = [await stranger(b) for _ in range(QUICK.max_unidentified_links + 2)]
    for reader, writer in callers:
        assert await ended(reader)
        writer.close()
    assert b.transport.counters["links_refused"] >= 1


@given(st.lists(st.binary(max_size=50), max_size=10), st.lists(st.integers(1, 30), min_size=1), st.randoms())
def test_frames_survive_any_cutting(bodies: list[bytes], cuts: list[int], chance: random.Random) -> None:
    stream = b"".join(struct.pack(">II", len(body), zlib.crc32(body)) + body for body in bodies)
    reader = FrameReader(50)
    found: list[bytes] = []
    while stream:
        size = chance.choice(cuts)
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert found == bodies


@given(st.binary(max_size=200))
def test_no_bytes_become_anything_but_a_message_or_an_error(body: bytes) -> None:
    for decode in (message, handshake):
        try:
            decode(body)
        except FrameError:
            continue


def test_addresses_are_split() -> None:
    assert split_address("host:1") == ("host", 1)
    assert split_address("[::1]:2") == ("::1", 2)
