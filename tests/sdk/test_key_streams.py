"""The stream that a client writes on, against scripted nodes: what a broken one, another leader, a lost
answer, a cancelled write and the end of the client do to the writes that wait. Answers A5, A6, G1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from agent_sdk import AsyncClient, errors
from quorumflow_proto.v1 import kv_pb2 as kv
from tests.sdk.conftest import NewNode
from tests.sdk.scripted import (
    END,
    PATIENCE_S,
    STAY,
    UNAVAILABLE,
    Node,
    Refused,
    not_leader,
    refusal,
)

STORED = kv.KvPutReply(version=7, created=3)


@pytest.fixture
async def client(node: Node) -> AsyncIterator[AsyncClient]:
    """A client of the scripted node."""
    async with AsyncClient(node.address, timeout_s=10) as connected:
        yield connected


def numbers(*nodes: Node) -> list[int]:
    """Of each try of a put, at one node after the other."""
    return [one.id.number for node in nodes for one in node.script.calls["Put"]]


async def ended(node: Node, stream: int = 0) -> None:
    """Wait until the node sees a stream of writes end."""
    async with asyncio.timeout(PATIENCE_S):
        await node.script.write_streams[stream].wait()


async def test_all_writes_share_one_stream(node: Node, client: AsyncClient) -> None:
    node.script.on("Put", STORED)
    node.script.on("Delete", kv.KvDeleteReply(version=9))
    await asyncio.gather(*(client.kv.put(f"k{number}", b"") for number in range(50)), client.kv.delete("k"))
    await client.kv.put("k", b"")
    assert len(node.script.write_streams) == 1


@pytest.mark.parametrize("breaks", [UNAVAILABLE, END, Refused(grpc.StatusCode.INTERNAL)])
async def test_a_stream_that_breaks_costs_no_write_that_waits(new_node: NewNode, breaks: object) -> None:
    old, new = await new_node(), await new_node()
    old.script.on("Put", STAY, STAY, breaks)
    new.script.on("Put", STORED)
    async with AsyncClient([old.address, new.address], timeout_s=10) as client:
        found = await asyncio.gather(*(client.kv.put("k", b"v") for _ in range(3)))
    assert [item.version for item in found] == [7, 7, 7]
    assert numbers(old) == [1, 2, 3]
    assert sorted(numbers(new)) == [1, 2, 3]


async def test_an_error_leaves_the_stream_to_the_others(node: Node, client: AsyncClient) -> None:
    node.script.on("Put", STAY, refusal(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"), STORED)
    first = asyncio.create_task(client.kv.put("first", b""))
    await node.script.called("Put")
    with pytest.raises(errors.InvalidRequest):
        await client.kv.put("", b"")
    await client.kv.put("k", b"")
    assert not first.done()
    assert len(node.script.write_streams) == 1
    first.cancel()


async def test_an_unknown_reason_is_an_error_of_its_code(node: Node, client: AsyncClient) -> None:
    node.script.on("Put", refusal(grpc.StatusCode.NOT_FOUND, "REASON_OF_TOMORROW"))
    with pytest.raises(errors.NotFound) as raised:
        await client.kv.put("k", b"")
    assert raised.value.reason == "REASON_OF_TOMORROW"


async def test_what_is_too_large_for_grpc_is_asked_for_by_itself(node: Node, client: AsyncClient) -> None:
    node.script.on("Put", STAY, Refused(grpc.StatusCode.RESOURCE_EXHAUSTED), STORED)
    found = await asyncio.gather(client.kv.put("a", b""), client.kv.put("b", b""))
    assert [item.version for item in found] == [7, 7]
    assert (sorted(numbers(node)), len(node.script.write_streams)) == ([1, 1, 2, 2], 1)


async def test_a_former_leader_is_left_when_it_owes_no_more_answers(new_node: NewNode) -> None:
    old, new = await new_node(), await new_node()
    old.script.on("Put", STAY, not_leader(new.address))
    new.script.on("Put", STORED)
    async with AsyncClient(old.address, timeout_s=10) as client:
        first = asyncio.create_task(client.kv.put("first", b""))
        await old.script.called("Put")
        assert (await client.kv.put("second", b"")).version == 7
        assert not old.script.write_streams[0].is_set()
        first.cancel()
        await ended(old)
        assert not new.script.write_streams[0].is_set()


async def test_a_write_that_has_no_answer_in_its_time_says_so(node: Node) -> None:
    node.script.on("Put", STAY, STORED)
    async with AsyncClient(node.address, timeout_s=0.2) as client:
        with pytest.raises(errors.DeadlineExceeded):
            await client.kv.put("k", b"")
        await client.kv.put("k", b"")
    assert [(one.id.number, one.id.answered) for one in node.script.calls["Put"]] == [(1, 1), (2, 2)]
    assert len(node.script.write_streams) == 1


async def test_a_cancelled_write_is_not_waited_for(node: Node, client: AsyncClient) -> None:
    node.script.on("Put", STAY, STORED)
    sent = asyncio.create_task(client.kv.put("k", b""))
    await node.script.called("Put")
    unsent = asyncio.create_task(client.kv.put("never", b""))
    await asyncio.sleep(0)
    for write in (sent, unsent):
        write.cancel()
    await asyncio.wait({sent, unsent})
    await client.kv.put("k", b"")
    tries = [(one.key, one.id.number, one.id.answered) for one in node.script.calls["Put"]]
    assert tries == [("k", 1, 1), ("k", 3, 3)]


async def test_closing_the_client_tells_who_waits_and_ends_the_stream(node: Node) -> None:
    node.script.on("Put", STAY)
    client = AsyncClient(node.address)
    waits = [asyncio.create_task(client.kv.put("k", b"")) for _ in range(3)]
    await node.script.called("Put")
    await client.close()
    for write in waits:
        with pytest.raises(errors.WrongState):
            await write
    with pytest.raises(errors.WrongState):
        await client.kv.put("k", b"")
    await ended(node)


async def test_a_client_that_never_wrote_is_closed_without_a_stream(node: Node) -> None:
    async with AsyncClient(node.address):
        pass
    assert node.script.write_streams == []


def put() -> kv.KvWriteRequest:
    return kv.KvWriteRequest(put=kv.KvPutRequest(id=kv.KvWriteId(writer="w", number=1), key="k"))


async def test_each_request_on_a_stream_has_a_time_of_its_own(node: Node) -> None:
    node.script.on("Put", STAY)
    async with AsyncClient(node.address) as client:
        streams, at = client.kv._streams, client._calls.nodes.at(node.address)
        patient = asyncio.create_task(streams.ask(at, put(), 60.0))
        await node.script.called("Put")
        for _ in range(2):
            with pytest.raises(errors.DeadlineExceeded):
                await streams.ask(at, put(), 0.01)
        assert not patient.done()
    with pytest.raises(errors.WrongState):
        await patient
