"""The key-value space on real processes: compare-and-set, watches, pages and stale reads; a leader that dies
in the midst of writes; what is sent that makes no sense. Answers A4, A5, A6, G1, G4 and principle 6."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from agent_sdk import AsyncClient, KvEvent, KvItem, StaleVersion, errors
from coordinator.cli.client import main
from coordinator.cli.local_cluster import LocalCluster
from coordinator.core.limits import KV_KEY_BYTES, KV_VALUE_BYTES
from quorumflow_proto.v1 import client_pb2
from quorumflow_proto.v1 import kv_pb2 as kv
from tests.integration.conftest import StartCluster, Wire, eventually, refusal_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def write(number: int, answered: int = 0, writer: str = "by hand") -> kv.KvWriteId:
    return kv.KvWriteId(writer=writer, number=number, answered=answered)


async def take_until(client: AsyncClient, prefix: str, revision: int, last: str) -> list[KvEvent]:
    """Changes of keys with the prefix from a version on, up to the first one of the key `last`."""
    seen: list[KvEvent] = []
    watch = client.kv.watch(prefix, revision)
    async for event in watch:
        seen.append(event)
        if event.key == last:
            break
    await watch.aclose()
    return seen


async def test_a_key_is_created_changed_and_deleted(client: AsyncClient) -> None:
    space = client.kv
    first = await space.put("life/k", b"1", expect=0)
    assert first == KvItem("life/k", b"1", first.version, first.version)
    second = await space.put("life/k", b"\x00\xff", expect=first.version)
    assert second == KvItem("life/k", b"\x00\xff", second.version, first.version)
    assert await space.get("life/k") == second
    for stale in (0, first.version):
        with pytest.raises(StaleVersion) as refused:
            await space.put("life/k", b"3", expect=stale)
        assert refused.value.current == second.version
    assert await space.delete("life/k", expect=second.version)
    assert not await space.delete("life/k")
    assert await space.get("life/k") is None
    with pytest.raises(StaleVersion) as refused:
        await space.put("life/k", b"3", expect=second.version)
    assert refused.value.current == 0


async def test_of_those_that_increment_at_once_none_is_lost(client: AsyncClient) -> None:
    async def increment(times: int) -> None:
        while times:
            item = await client.kv.get("count")
            value = b"%d" % (1 + int(item.value if item else b"0"))
            try:
                await client.kv.put("count", value, expect=item.version if item else 0)
                times -= 1
            except StaleVersion:
                continue

    await asyncio.gather(*(increment(10) for _ in range(5)))
    item = await client.kv.get("count")
    assert item is not None
    assert item.value == b"50"


async def test_a_range_is_all_keys_with_the_prefix_in_order(client: AsyncClient) -> None:
    names = [f"range/{number:03}" for number in range(40)]
    await asyncio.gather(*(client.kv.put(name, name.encode()) for name in reversed(names)))
    await client.kv.put("range.", b"not one of them")
    assert [(item.key, item.value) async for item in client.kv.range("range/")] == [
        (name, name.encode()) for name in names
    ]
    assert [item.key async for item in client.kv.range("range/nothing")] == []


async def test_large_values_travel_in_several_pages(client: AsyncClient) -> None:
    value = bytes(KV_VALUE_BYTES)
    before = await client.kv.revision()
    for number in range(20):
        await client.kv.put(f"large/{number:02}", value)
    assert [len(item.value) async for item in client.kv.range("large/")] == [KV_VALUE_BYTES] * 20
    seen = await take_until(client, "large/", before + 1, "large/19")
    assert [event.value for event in seen] == [value] * 20


async def test_a_watch_shows_every_change_once_and_in_order(client: AsyncClient) -> None:
    revision = await client.kv.revision()
    items = await asyncio.gather(*(client.kv.put(f"seen/{number % 5}", b"v") for number in range(30)))
    await client.kv.put("unseen", b"")
    await client.kv.delete("seen/0")
    await client.kv.put("seen/end", b"")
    seen = await take_until(client, "seen/", revision + 1, "seen/end")
    assert [event.version for event in seen] == sorted(event.version for event in seen)
    puts = {(event.key, event.version) for event in seen if not event.deleted}
    assert puts >= {(item.key, item.version) for item in items}
    assert [(event.key, event.value) for event in seen if event.deleted] == [("seen/0", b"")]
    assert len(seen) == 32
    # The middle of it, once more: a version is a place to begin at.
    assert await take_until(client, "seen/", seen[20].version, "seen/end") == seen[20:]


async def test_a_follower_answers_stale_reads_and_says_so(
    client: AsyncClient, leader: Wire, follower: Wire
) -> None:
    item = await client.kv.put("stale", b"v")
    request = kv.KvGetRequest(key="stale", allow_stale=True)

    async def replicated() -> bool:
        return (await follower.kv.Get(request)).revision >= item.version

    await eventually(replicated, "the follower has applied it")
    reply = await follower.kv.Get(request)
    assert (reply.stale, reply.item.version) == (True, item.version)
    page = await follower.kv.Range(kv.KvRangeRequest(prefix="stale", allow_stale=True))
    assert (page.stale, [one.key for one in page.items]) == (True, ["stale"])
    assert not (await leader.kv.Get(request)).stale
    watched = follower.kv.Watch(kv.KvWatchRequest(from_revision=item.version, allow_stale=True))
    assert (await watched.read()).events[0].version == item.version
    watched.cancel()


@pytest.mark.parametrize(
    "ask",
    [
        lambda wire: wire.kv.Put(kv.KvPutRequest(key="k")),
        lambda wire: wire.kv.Get(kv.KvGetRequest(key="k")),
        lambda wire: wire.kv.Delete(kv.KvDeleteRequest(key="k")),
        lambda wire: wire.kv.Range(kv.KvRangeRequest()),
        lambda wire: wire.kv.Watch(kv.KvWatchRequest()).read(),
    ],
    ids=["put", "get", "delete", "range", "watch"],
)
async def test_a_follower_names_the_leader(
    ask: Callable[[Wire], Awaitable[Any]], leader: Wire, follower: Wire
) -> None:
    code, detail = await refusal_of(ask(follower))
    assert (code, detail.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_LEADER")
    assert detail.leader_address == leader.address


@pytest.mark.parametrize(
    ("request_", "code", "reason", "says"),
    [
        (kv.KvPutRequest(), INVALID, "INVALID_REQUEST", "the key is empty"),
        (kv.KvPutRequest(key="k" * (KV_KEY_BYTES + 1)), EXHAUSTED, "LIMIT_EXCEEDED", "KV_KEY_BYTES"),
        (kv.KvPutRequest(key="k", value=bytes(KV_VALUE_BYTES + 1)), EXHAUSTED, "LIMIT_EXCEEDED",
         "KV_VALUE_BYTES"),
        (kv.KvPutRequest(key="k", id=write(0)), INVALID, "INVALID_REQUEST", "count from 1"),
        (kv.KvPutRequest(key="k", id=write(1, 2)), INVALID, "INVALID_REQUEST", "answered"),
        (kv.KvPutRequest(key="k", id=write(1, writer="w" * 65)), INVALID, "INVALID_REQUEST", "64"),
        (kv.KvPutRequest(key="never", expect=2**64 - 1), grpc.StatusCode.ABORTED, "STALE_VERSION",
         "not there"),
    ],
    ids=["no key", "long key", "large value", "no number", "answered", "long name", "huge version"],
)  # fmt: skip
async def test_a_bad_write_is_refused_with_its_reason(
    leader: Wire, request_: kv.KvPutRequest, code: grpc.StatusCode, reason: str, says: str
) -> None:
    found, detail = await refusal_of(leader.kv.Put(request_))
    assert (found, detail.reason) == (code, reason), detail.message
    assert says in detail.message


async def test_a_message_above_the_limit_is_refused_and_the_connection_stays(leader: Wire) -> None:
    code, _ = await refusal_of(leader.kv.Put(kv.KvPutRequest(key="k", value=bytes(5 << 20))))
    assert code is EXHAUSTED
    await leader.kv.Range(kv.KvRangeRequest(page_size=1))


async def test_a_key_that_is_no_text_is_refused(leader: Wire) -> None:
    put = leader.channel.unary_unary("/coordinator.v1.KvService/Put")
    bad_text = b"\x12\x02\xc3\x28"
    code, detail = await refusal_of(put(bad_text))
    assert (code, detail.reason) == (INVALID, "INVALID_REQUEST")


async def test_odd_pages_are_answered(leader: Wire) -> None:
    await leader.kv.Put(kv.KvPutRequest(key="odd/\0", value=b"v"))
    for token in ("\0", "odd/", "\U0010ffff" * 1_000):
        reply = await leader.kv.Range(kv.KvRangeRequest(prefix="odd/", page_token=token, page_size=2**32 - 1))
        assert [item.key for item in reply.items] in (["odd/\0"], [])


async def test_watches_of_keys_and_of_work_share_one_bound(start_cluster: StartCluster) -> None:
    own = start_cluster(nodes=1, settings={"limits.max_watchers": "2"})
    wire = Wire(own.endpoints[0])
    await wire.kv.Put(kv.KvPutRequest(key="k"))
    watches = [wire.kv.Watch(kv.KvWatchRequest(from_revision=1)) for _ in range(2)]
    for watch in watches:
        await watch.read()
    code, detail = await refusal_of(wire.client.Watch(client_pb2.WatchRequest()).read())
    assert (code, detail.reason) == (EXHAUSTED, "QUEUE_FULL")
    assert detail.fields["setting"] == "limits.max_watchers"
    watches[0].cancel()

    async def freed() -> bool:
        try:
            return bool((await wire.kv.Watch(kv.KvWatchRequest(from_revision=1)).read()).events)
        except grpc.aio.AioRpcError:
            return False

    await eventually(freed, "a watch that ended has made room")
    await wire.channel.close()


async def test_a_watch_of_what_is_not_kept_says_so(start_cluster: StartCluster) -> None:
    own = start_cluster(nodes=1, settings={"limits.kv_history_bytes": str(1 << 20)})
    async with AsyncClient(own.endpoints) as client:
        for _ in range(20):
            await client.kv.put("k", bytes(KV_VALUE_BYTES))
        with pytest.raises(errors.RevisionCompacted):
            await anext(client.kv.watch(from_revision=1))
        revision = await client.kv.revision()
        item = await client.kv.put("k", b"new")
        assert (await anext(client.kv.watch("k", revision + 1))).version == item.version
        # Nor are changes from before a start: nothing of them is on the disk.
        own.kill_node("n1")
        own.restart_node("n1")
        assert await client.kv.get("k") == item
        with pytest.raises(errors.RevisionCompacted):
            await anext(client.kv.watch(from_revision=item.version))


async def test_a_leader_that_dies_in_the_midst_of_writes_costs_none_and_doubles_none(
    start_cluster: StartCluster,
) -> None:
    own = start_cluster(nodes=3)
    async with AsyncClient(own.endpoints) as client, AsyncClient(own.endpoints) as watcher:
        watching = asyncio.create_task(take_until(watcher, "own/", 1, "own/end"))
        acknowledged = await write_while_the_leader_dies(own, client)
        await client.kv.put("own/end", b"")
        seen = await asyncio.wait_for(watching, 30)
        times = Counter((event.key, event.value) for event in seen)
        assert set(times.values()) == {1}
        versions = {(event.key, event.value): event.version for event in seen}
        assert {item.version for item in acknowledged} <= set(versions.values())
        assert all(versions[item.key, item.value] == item.version for item in acknowledged)
        for item in {item.key: item for item in acknowledged}.values():
            assert await client.kv.get(item.key) == item


async def write_while_the_leader_dies(cluster: LocalCluster, client: AsyncClient) -> list[KvItem]:
    """Ten write at once, each to a key of its own, a new value each time; returns what was acknowledged."""
    acknowledged: list[KvItem] = []
    enough = asyncio.Event()

    async def keep_writing(key: str) -> None:
        number = 0
        while not enough.is_set():
            number += 1
            acknowledged.append(await client.kv.put(key, b"%d" % number))

    async def reached(count: int) -> None:
        async def so_many() -> bool:
            return len(acknowledged) >= count

        await eventually(so_many, f"{count} writes are acknowledged")

    writers = [asyncio.create_task(keep_writing(f"own/{number}")) for number in range(10)]
    await reached(50)
    victim = (await client.cluster_status()).leader
    await asyncio.to_thread(cluster.kill_node, victim)
    await reached(len(acknowledged) + 50)
    enough.set()
    await asyncio.gather(*writers)
    assert (await client.cluster_status()).leader != victim
    return acknowledged


async def test_a_write_tried_by_hand_at_the_next_leader_has_the_first_reply(
    start_cluster: StartCluster,
) -> None:
    own = start_cluster(nodes=3)
    async with AsyncClient(own.endpoints) as client:
        old = (await client.cluster_status()).leader
        request = kv.KvPutRequest(id=write(1), key="k", value=b"once", expect=0)
        first = await at(own, old, request)
        await client.kv.put("k", b"later")
        await asyncio.to_thread(own.kill_node, old)
        new = (await client.cluster_status()).leader
        assert await at(own, new, request) == first
        item = await client.kv.get("k")
        assert item is not None
        assert item.value == b"later"


async def at(cluster: LocalCluster, node_id: str, request: kv.KvPutRequest) -> kv.KvPutReply:
    """What one node answers."""
    wire = Wire(cluster.nodes[node_id].grpc)
    try:
        reply: kv.KvPutReply = await wire.kv.Put(request)
        return reply
    finally:
        await wire.channel.close()


async def test_the_command_line_works_on_a_real_cluster(cluster: LocalCluster) -> None:
    async def coordctl(*arguments: str) -> Any:
        command = ["--endpoints", ",".join(cluster.endpoints), "--output", "json", "kv", *arguments]
        result = await asyncio.to_thread(CliRunner().invoke, main, command)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    put = await coordctl("put", "cli/k", "v", "--expect", "0")
    assert await coordctl("get", "cli/k") == {**put, "value": "v"}
    assert (await coordctl("range", "cli/"))["items"] == [{**put, "value": "v"}]
    assert await coordctl("delete", "cli/k", "--expect", str(put["version"])) == {
        "key": "cli/k",
        "deleted": True,
    }


async def test_the_example_counts(cluster: LocalCluster) -> None:
    for total in (30, 60):
        example = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "examples.shared_counter", ",".join(cluster.endpoints), stdout=PIPE
        )
        printed, _ = await example.communicate()
        assert example.returncode == 0
        assert printed.decode().splitlines()[-1] == f"visits: {total}"
