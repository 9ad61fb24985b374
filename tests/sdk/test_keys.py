"""The client's side of the key-value space against scripted nodes: numbers that make a retry safe, what a
lost leader does to writes, reads and watches. Answers A5, A6, G1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from agent_sdk import AsyncClient, Client, KvEvent, KvItem, StaleVersion, errors
from agent_sdk._kv import WRITES_AT_ONCE, _Writes
from coordinator.core.limits import UNANSWERED_WRITES
from quorumflow_proto.v1 import kv_pb2 as kv
from tests.sdk.conftest import NewNode
from tests.sdk.scripted import STAY, UNAVAILABLE, Node, not_leader, refusal

STORED = kv.KvPutReply(version=7, created=3)
COMPACTED = refusal(grpc.StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED")


@pytest.fixture
async def client(node: Node) -> AsyncIterator[AsyncClient]:
    """A client of the scripted node."""
    async with AsyncClient(node.address, timeout_s=10) as connected:
        yield connected


def event(version: int, key: str = "k") -> kv.KvEvent:
    return kv.KvEvent(key=key, version=version, value=b"v", created=1, at_ms=9)


def ids(node: Node, method: str = "Put") -> list[tuple[int, int]]:
    """(number, answered) of each try."""
    return [(one.id.number, one.id.answered) for one in node.script.calls[method]]


async def test_a_put_gives_the_item(node: Node, client: AsyncClient) -> None:
    node.script.on("Put", STORED)
    assert await client.kv.put("k", b"v") == KvItem("k", b"v", 7, 3)
    (request,) = node.script.calls["Put"]
    assert not request.HasField("expect")
    await client.kv.put("k", b"v", expect=0)
    assert node.script.calls["Put"][1].HasField("expect")


async def test_every_try_of_a_write_has_the_same_number(new_node: NewNode) -> None:
    old, new = await new_node(), await new_node()
    lost = refusal(grpc.StatusCode.UNAVAILABLE, "OUTCOME_UNKNOWN", leader_id="n", leader_address=new.address)
    old.script.on("Put", UNAVAILABLE, lost, not_leader(new.address))
    new.script.on("Put", UNAVAILABLE, STORED)
    async with AsyncClient([old.address, new.address], timeout_s=10) as client:
        await client.kv.put("k", b"v")
        await client.kv.put("k", b"w")
    tries = old.script.calls["Put"] + new.script.calls["Put"]
    assert len({request.id.writer for request in tries}) == 1
    assert {request.id.number for request in tries if request.value == b"v"} == {1}
    assert {request.id.number for request in tries if request.value == b"w"} == {2}


async def test_answers_are_confirmed_with_the_next_write(node: Node, client: AsyncClient) -> None:
    node.script.on("Put", STORED)
    node.script.on("Delete", kv.KvDeleteReply(version=9))
    await client.kv.put("k", b"v")
    assert await client.kv.delete("k")
    assert ids(node) + ids(node, "Delete") == [(1, 1), (2, 2)]
    both = await asyncio.gather(client.kv.put("a", b""), client.kv.put("b", b""))
    assert len(both) == 2
    assert sorted(ids(node)[1:]) == [(3, 3), (4, 3)]


async def test_a_write_that_is_given_up_is_not_waited_for(node: Node, client: AsyncClient) -> None:
    node.script.on("Put", refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), STORED)
    with pytest.raises(errors.InvalidRequest):
        await client.kv.put("", b"v")
    await client.kv.put("k", b"v")
    assert ids(node) == [(1, 1), (2, 2)]


async def test_a_retry_confirms_what_was_answered_meanwhile(node: Node, client: AsyncClient) -> None:
    full = refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_after_ms=200)
    node.script.on("Put", STORED)
    node.script.on("Delete", full, kv.KvDeleteReply())
    put, gone = asyncio.create_task(client.kv.put("a", b"")), asyncio.create_task(client.kv.delete("b"))
    await put
    assert not await gone
    assert ids(node, "Delete")[-1] == (2, 2)


async def test_no_write_runs_further_ahead_than_the_cluster_remembers(
    node: Node, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else tries of the oldest one could find no room, and nothing would ever make room for it."""
    monkeypatch.setattr("agent_sdk._kv.WRITES_AT_ONCE", 3)
    node.script.on("Put", STAY, STORED)
    writes = [asyncio.create_task(client.kv.put(f"{at}", b"")) for at in range(7)]
    await asyncio.wait(writes[1:3])
    assert ids(node) == [(1, 1), (2, 1), (3, 1)]
    writes[3].cancel()
    writes[0].cancel()
    await asyncio.wait(writes)
    assert sorted(number for number, _ in ids(node)) == [1, 2, 3, 4, 5, 6]
    assert [write.cancelled() for write in writes] == [True, False, False, True, False, False, False]


async def test_a_write_waits_for_its_turn_no_longer_than_for_its_answer(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_sdk._kv.WRITES_AT_ONCE", 1)
    node.script.on("Put", STAY)
    async with AsyncClient(node.address, timeout_s=0.1) as hasty:
        answered = await asyncio.gather(*(hasty.kv.put("k", b"") for _ in range(2)), return_exceptions=True)
    assert [type(one) for one in answered] == [errors.DeadlineExceeded] * 2


@pytest.mark.parametrize("had_its_turn", [True, False])
async def test_a_write_that_is_given_up_while_it_waits_keeps_nobody_up(
    had_its_turn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_sdk._kv.WRITES_AT_ONCE", 1)
    writes = _Writes("w", 10.0)
    first = await writes.begin()
    waiting = asyncio.create_task(writes.begin())
    await asyncio.sleep(0)
    if had_its_turn:
        writes.end(first)
    waiting.cancel()
    await asyncio.wait({waiting})
    if not had_its_turn:
        writes.end(first)
    assert await writes.begin() == 2 + had_its_turn


def test_the_sdk_knows_how_much_the_cluster_remembers() -> None:
    assert WRITES_AT_ONCE == UNANSWERED_WRITES


async def test_two_clients_are_two_writers(node: Node, client: AsyncClient) -> None:
    node.script.on("Put", STORED)
    async with AsyncClient(node.address) as other:
        await asyncio.gather(client.kv.put("k", b""), other.kv.put("k", b""))
    first, second = (request.id.writer for request in node.script.calls["Put"])
    assert first != second


async def test_a_stale_expectation_is_raised_and_not_repeated(node: Node, client: AsyncClient) -> None:
    stale = refusal(grpc.StatusCode.ABORTED, "STALE_VERSION", fields={"current": "9"})
    node.script.on("Put", stale)
    with pytest.raises(StaleVersion) as raised:
        await client.kv.put("k", b"v", expect=7)
    assert raised.value.current == 9
    assert len(node.script.calls["Put"]) == 1


@pytest.mark.parametrize(
    ("key", "value", "expect"),
    [("\ud800", b"v", None), ("k", "text", None), ("k", b"v", -1), (7, b"v", None)],
)
async def test_what_the_wire_does_not_take_is_refused_at_once(
    node: Node, client: AsyncClient, key: Any, value: Any, expect: int | None
) -> None:
    with pytest.raises(errors.InvalidRequest, match="key"):
        await client.kv.put(key, value, expect=expect)
    with pytest.raises(errors.InvalidRequest):
        await anext(client.kv.watch("\ud800", 1))
    assert not node.script.calls
    node.script.on("Put", STORED)
    await client.kv.put("k", b"v")
    assert ids(node) == [(1, 1)]


async def test_reads_follow_the_leader(new_node: NewNode) -> None:
    old, new = await new_node(), await new_node()
    old.script.on("Get", not_leader(new.address))
    new.script.on("Get", kv.KvGetReply(item=kv.KvItem(key="k", version=7), revision=7), kv.KvGetReply())
    async with AsyncClient(old.address, timeout_s=10) as client:
        assert await client.kv.get("k") == KvItem("k", b"", 7, 0)
        assert await client.kv.get("k", allow_stale=True) is None
    assert [one.allow_stale for one in new.script.calls["Get"]] == [False, True]


async def test_a_watch_goes_on_at_another_node_after_what_it_has_seen(new_node: NewNode) -> None:
    old, new = await new_node(), await new_node()
    old.script.on("WatchKeys", [kv.KvWatchReply(events=[event(5), event(7)], revision=6), UNAVAILABLE])
    old.script.on("WatchKeys", [not_leader(new.address)])
    new.script.on("WatchKeys", [kv.KvWatchReply(revision=20), UNAVAILABLE])
    new.script.on("WatchKeys", [kv.KvWatchReply(events=[event(21)], revision=21), STAY])
    async with AsyncClient([old.address, new.address], timeout_s=10) as client:
        watch = client.kv.watch("k", 3)
        seen = [await anext(watch) for _ in range(3)]
        await watch.aclose()
    assert seen[0] == KvEvent("k", 5, False, b"v", 1, 9)
    assert [one.version for one in seen] == [5, 7, 21]
    asked = [[one.from_revision for one in node.script.calls["WatchKeys"]] for node in (old, new)]
    assert asked == [[3, 21], [8, 21]]


async def test_a_watch_from_now_begins_before_its_stream_does(node: Node, client: AsyncClient) -> None:
    node.script.on("Range", kv.KvRangeReply(revision=41))
    node.script.on("WatchKeys", [UNAVAILABLE], [kv.KvWatchReply(events=[event(45)], revision=45), STAY])
    watch = client.kv.watch()
    assert (await anext(watch)).version == 45
    await watch.aclose()
    assert [one.from_revision for one in node.script.calls["WatchKeys"]] == [42, 42]


async def test_what_is_no_longer_kept_is_raised(node: Node, client: AsyncClient) -> None:
    node.script.on("WatchKeys", [COMPACTED])
    with pytest.raises(errors.RevisionCompacted):
        await anext(client.kv.watch(from_revision=1))


async def test_the_client_without_an_event_loop_has_the_same(node: Node) -> None:
    node.script.on("Put", STORED)
    node.script.on("Get", kv.KvGetReply(), refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"))
    node.script.on("Delete", kv.KvDeleteReply())
    item = kv.KvItem(key="k", value=b"v", version=7, created=3)
    node.script.on("Range", kv.KvRangeReply(items=[item], revision=8))
    node.script.on("WatchKeys", [kv.KvWatchReply(events=[event(9)], revision=9), STAY])

    def use() -> None:
        with Client(node.address, timeout_s=10) as client:
            assert client.kv.put("k", b"v") == KvItem("k", b"v", 7, 3)
            assert client.kv.get("k") is None
            assert client.kv.delete("k") is False
            assert list(client.kv.range()) == [KvItem("k", b"v", 7, 3)]
            assert client.kv.revision() == 8
            assert next(client.kv.watch()).version == 9
            with pytest.raises(errors.InvalidRequest):
                client.kv.get("")

    await asyncio.to_thread(use)
