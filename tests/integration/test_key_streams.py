"""The stream of writes on real processes: many under way at once, errors that are of their write alone and
the same as a call's, what makes no sense, and a client through all of it. Answers A5, A6, G1 and
principle 6."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from agent_sdk import AsyncClient, KvItem, StaleVersion, errors
from coordinator.core.limits import KV_KEY_BYTES, KV_VALUE_BYTES
from quorumflow_proto.v1 import common_pb2
from quorumflow_proto.v1 import kv_pb2 as kv
from tests.integration.conftest import StartCluster, Wire, refusal_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT


class Writes:
    """A stream to one node, by hand."""

    def __init__(self, wire: Wire) -> None:
        self.call: Any = wire.kv.Write()
        self._unread: deque[kv.KvWriteReply] = deque()

    async def send(self, call: int, **write: Any) -> None:
        """Ask, and do not wait."""
        await self.call.write(kv.KvWrites(writes=[kv.KvWriteRequest(call=call, **write)]))

    async def reply(self) -> kv.KvWriteReply:
        """The next reply."""
        reply = await self.reply_if_any()
        assert reply is not None
        return reply

    async def reply_if_any(self) -> kv.KvWriteReply | None:
        """The next reply; None when the stream has ended."""
        while not self._unread:
            message = await self.call.read()
            if message is grpc.aio.EOF:
                return None
            assert message.replies
            self._unread.extend(message.replies)
        return self._unread.popleft()

    async def ask(self, call: int, **write: Any) -> kv.KvWriteReply:
        """One write, with its reply."""
        await self.send(call, **write)
        reply = await self.reply()
        assert reply.call == call
        return reply


@pytest.fixture
async def writes(leader: Wire) -> AsyncIterator[Writes]:
    """A stream to the leader."""
    stream = Writes(leader)
    yield stream
    stream.call.cancel()


def put(key: str = "streamed", **more: Any) -> kv.KvPutRequest:
    return kv.KvPutRequest(key=key, **more)


async def test_puts_and_deletes_are_answered_as_calls_are(writes: Writes, leader: Wire) -> None:
    first = (await writes.ask(7, put=put(value=b"1"))).put
    assert 0 < first.created == first.version
    second = (await writes.ask(5, put=put(value=b"2", expect=first.version))).put
    assert (second.created, second.version > first.version) == (first.created, True)
    assert (await leader.kv.Get(kv.KvGetRequest(key="streamed"))).item.value == b"2"
    assert (await writes.ask(2**64 - 1, delete=kv.KvDeleteRequest(key="streamed"))).delete.version
    assert not (await writes.ask(5, delete=kv.KvDeleteRequest(key="streamed"))).delete.version


async def test_many_writes_are_under_way_at_once_and_take_effect_in_their_order(writes: Writes) -> None:
    # More than the node takes of one stream without answering: it reads on as it answers.
    calls = range(1, 2_501)
    sending = asyncio.create_task(send_all(writes, calls))
    replies = [await writes.reply() for _ in calls]
    await sending
    assert {reply.call for reply in replies} == set(calls)
    by_call = sorted(replies, key=lambda reply: reply.call)
    versions = [reply.put.version for reply in by_call]
    assert versions == sorted(set(versions))


async def send_all(writes: Writes, calls: range) -> None:
    for call in calls:
        await writes.send(call, put=put(f"many/{call % 10}"))


async def test_one_message_may_hold_more_writes_than_may_wait(writes: Writes) -> None:
    asked = [kv.KvWriteRequest(call=call, put=put(f"many/{call % 10}")) for call in range(1, 2_501)]
    await writes.call.write(kv.KvWrites(writes=asked))
    answered = [await writes.reply() for _ in asked]
    assert [reply.call for reply in answered] == [request.call for request in asked]
    versions = [reply.put.version for reply in answered]
    assert versions == sorted(set(versions))
    assert (await writes.ask(1, put=put())).HasField("put")


async def test_what_was_asked_is_answered_before_the_stream_ends(writes: Writes) -> None:
    for call in range(1, 101):
        await writes.send(call, put=put(f"last/{call}"))
    await writes.call.done_writing()
    assert {(await writes.reply()).call for _ in range(100)} == set(range(1, 101))
    assert await writes.reply_if_any() is None
    assert await writes.call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    "bad",
    [
        kv.KvPutRequest(),
        kv.KvPutRequest(key="k" * (KV_KEY_BYTES + 1)),
        kv.KvPutRequest(key="k", value=bytes(KV_VALUE_BYTES + 1)),
        kv.KvPutRequest(key="k", id=kv.KvWriteId(writer="w", number=1, answered=2)),
        kv.KvPutRequest(key="never", expect=9),
    ],
    ids=["no key", "long key", "large value", "answered", "stale"],
)
async def test_an_error_is_of_its_write_alone_and_that_of_a_call(
    writes: Writes, leader: Wire, bad: kv.KvPutRequest
) -> None:
    await writes.send(1, put=put())
    await writes.send(2, put=bad)
    await writes.send(3, put=put())
    replies = {reply.call: reply for reply in [await writes.reply() for _ in range(3)]}
    code, detail = await refusal_of(leader.kv.Put(bad))
    assert replies[2].error == common_pb2.CallError(code=code.value[0], detail=detail)
    assert replies[1].HasField("put")
    assert replies[3].HasField("put")


async def test_an_id_of_a_put_is_none_of_a_delete(writes: Writes) -> None:
    write = kv.KvWriteId(writer="two kinds", number=1)
    assert (await writes.ask(1, put=put(id=write))).HasField("put")
    refused = await writes.ask(2, delete=kv.KvDeleteRequest(key="streamed", id=write))
    assert refused.error.detail.reason == "ALREADY_EXISTS"


async def test_a_request_for_nothing_is_refused(writes: Writes) -> None:
    refused = (await writes.ask(1)).error
    assert (refused.code, refused.detail.reason) == (INVALID.value[0], "INVALID_REQUEST")
    assert (await writes.ask(2, put=put())).HasField("put")


async def test_a_follower_names_the_leader_for_each_write(leader: Wire, follower: Wire) -> None:
    writes = Writes(follower)
    for call in (1, 2):
        refused = (await writes.ask(call, put=put())).error
        assert refused.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
        assert (refused.detail.reason, refused.detail.leader_address) == ("NOT_LEADER", leader.address)
    writes.call.cancel()


async def test_what_cannot_be_read_is_refused_with_its_calls_alone(leader: Wire) -> None:
    call: Any = leader.channel.stream_stream("/coordinator.v1.KvService/Write")()
    bad_key, good = b"\x0a\x08\x08\x09\x12\x04\x12\x02\xc3\x28", b"\x0a\x02\x08\x08"
    await call.write(bad_key + good)
    refused = replies(await call.read())
    assert [(reply.call, reply.error.detail.reason) for reply in refused] == [
        (9, "INVALID_REQUEST"),
        (8, "INVALID_REQUEST"),
    ]
    await call.write(one_put(10))
    assert [reply.HasField("put") for reply in replies(await call.read())] == [True]
    call.cancel()


@pytest.mark.parametrize(
    "unreadable", [b"\xff\xff", b"\x0a\x06\x12\x04\x12\x02\xc3\x28"], ids=["noise", "no call"]
)
async def test_what_does_not_even_say_which_calls_it_is_about_ends_the_stream(
    leader: Wire, unreadable: bytes
) -> None:
    call: Any = leader.channel.stream_stream("/coordinator.v1.KvService/Write")()
    await call.write(one_put(1))
    await call.write(unreadable)
    assert [reply.HasField("put") for reply in replies(await call.read())] == [True]
    code, detail = await refusal_of(call.read())
    assert (code, detail.reason) == (INVALID, "INVALID_REQUEST")


def one_put(call: int) -> bytes:
    return kv.KvWrites(writes=[kv.KvWriteRequest(call=call, put=put())]).SerializeToString()


def replies(data: bytes) -> list[kv.KvWriteReply]:
    return list(kv.KvWriteReplies.FromString(data).replies)


async def test_a_request_that_is_too_large_for_grpc_fails_alone(client: AsyncClient) -> None:
    large = client.kv.put("too large", bytes(5 << 20))
    found = await asyncio.gather(
        *(client.kv.put(f"beside/{number}", b"v") for number in range(5)), large, return_exceptions=True
    )
    assert isinstance(found.pop(), errors.LimitExceeded)
    assert [item.key for item in found if not isinstance(item, BaseException)] == [
        f"beside/{number}" for number in range(5)
    ]
    assert await client.kv.delete("beside/0")


async def test_a_client_writes_on_in_the_midst_of_errors(client: AsyncClient) -> None:
    item = await client.kv.put("midst", b"v")
    writes = [client.kv.put("midst", b"w", expect=item.version) for _ in range(20)]
    found = await asyncio.gather(*writes, client.kv.delete("midst/none"), return_exceptions=True)
    assert found.pop() is False
    (won,) = [one for one in found if isinstance(one, KvItem)]
    lost = [one for one in found if isinstance(one, StaleVersion)]
    assert (len(lost), {one.current for one in lost}) == (19, {won.version})


async def test_a_put_that_is_cancelled_leaves_the_others_alone(client: AsyncClient) -> None:
    puts = [asyncio.create_task(client.kv.put(f"cancelled/{number}", b"v")) for number in range(20)]
    # Some are on their way, others not yet.
    await asyncio.sleep(0)
    for one in puts[::2]:
        one.cancel()
    found = await asyncio.gather(*puts, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in found[::2])
    assert [one.key for one in found[1::2] if not isinstance(one, BaseException)] == [
        f"cancelled/{number}" for number in range(1, 20, 2)
    ]
    assert (await client.kv.put("cancelled/after", b"v")).value == b"v"


async def test_a_node_that_stops_ends_its_streams_once_it_has_answered(start_cluster: StartCluster) -> None:
    own = start_cluster(nodes=1)
    wire = Wire(own.endpoints[0])
    busy, idle = Writes(wire), Writes(wire)
    assert (await idle.ask(1, put=put())).HasField("put")
    for call in range(1, 201):
        await busy.send(call, put=put(f"stop/{call}"))
    stopping = asyncio.create_task(asyncio.to_thread(own.stop_node, "n1"))
    answered = [reply.call async for reply in until_the_end(busy)]
    assert answered == list(range(1, len(answered) + 1))
    assert [reply async for reply in until_the_end(idle)] == []
    for stream in (busy, idle):
        assert await stream.call.code() is grpc.StatusCode.OK
    await stopping
    await wire.channel.close()


async def test_leadership_that_is_handed_over_costs_no_write_and_doubles_none(
    start_cluster: StartCluster,
) -> None:
    own = start_cluster(nodes=3)
    acknowledged: list[KvItem] = []
    enough = asyncio.Event()

    async def keep_writing(client: AsyncClient, name: str) -> None:
        number = 0
        while not enough.is_set():
            number += 1
            # Done twice, it would be stale.
            acknowledged.append(await client.kv.put(f"{name}/{number}", b"", expect=0))

    async with AsyncClient(own.endpoints) as one, AsyncClient(own.endpoints) as other:
        async with asyncio.TaskGroup() as writers:
            for number in range(20):
                writers.create_task(keep_writing((one, other)[number % 2], f"w{number}"))
            for _ in range(3):
                await other.members.transfer()
            enough.set()
        found = {item.key: item async for item in one.kv.range()}
    assert found == {item.key: item for item in acknowledged}


async def until_the_end(writes: Writes) -> AsyncIterator[kv.KvWriteReply]:
    while (reply := await writes.reply_if_any()) is not None:
        yield reply
