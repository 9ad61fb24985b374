"""The node's side of a stream of writes: its bound, the guards that a call's write has to pass too, and what
is left of it when its client or its node goes. Answers A5, A6, G1 and principle 6."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.api.kv_service import KvService
from coordinator.api.watching import Watching
from coordinator.core.commands import KvPut, WriteId
from coordinator.core.limits import KV_KEY_BYTES
from coordinator.core.outcome import KvStored
from coordinator.replica.node import Node
from quorumflow_proto.v1 import kv_pb2 as kv
from tests.replica.nodes import Nodes

BOUND = 4


class Context:
    """The node's end of a stream, whose client says what it asks for and when it takes answers."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[object] = asyncio.Queue()
        self.takes_answers = asyncio.Event()
        self.takes_answers.set()
        self.replies: list[kv.KvWriteReply] = []
        self.sizes: list[int] = []
        """Replies in each message."""

    def ask(self, *writes: kv.KvWriteRequest) -> None:
        """Send writes in one message."""
        self.messages.put_nowait(kv.KvWrites(writes=writes))

    async def read(self) -> object:
        return await self.messages.get()

    async def write(self, message: kv.KvWriteReplies) -> None:
        await self.takes_answers.wait()
        self.sizes.append(len(message.replies))
        self.replies.extend(message.replies)


def put(call: int, key: str = "") -> kv.KvWriteRequest:
    return kv.KvWriteRequest(call=call, put=kv.KvPutRequest(key=key or f"k{call}"))


def stale(call: int, key: str) -> kv.KvWriteRequest:
    return kv.KvWriteRequest(call=call, put=kv.KvPutRequest(key=key, expect=1))


def delete(call: int, key: str) -> kv.KvWriteRequest:
    return kv.KvWriteRequest(call=call, delete=kv.KvDeleteRequest(key=key))


def reasons(context: Context) -> dict[int, str]:
    """Of the refusals, by call; empty for what was done."""
    return {reply.call: reply.error.detail.reason for reply in context.replies}


def answered(context: Context, count: int) -> Callable[[], bool]:
    return lambda: len(context.replies) == count


@asynccontextmanager
async def served(node: Node) -> AsyncIterator[tuple[Context, asyncio.Task[Any]]]:
    """A stream that the node serves."""
    context = Context()
    service: Any = KvService(node, Watching(node))
    serving = asyncio.create_task(service.Write(None, context))
    yield context, serving
    serving.cancel()
    await asyncio.wait({serving})


@asynccontextmanager
async def one_node(folder: Path, **settings: object) -> AsyncIterator[tuple[Nodes, Node]]:
    """A node that leads."""
    nodes = Nodes(folder, 1, **settings)
    await nodes.start()
    try:
        yield nodes, nodes.nodes[await nodes.led()]
    finally:
        await nodes.stop()


@pytest.mark.parametrize("in_one_message", [False, True], ids=["messages", "one message"])
async def test_beyond_its_bound_nothing_is_taken_until_something_is_answered(
    tmp_path: Path, in_one_message: bool
) -> None:
    settings = {"limits.max_stream_writes": BOUND}
    async with one_node(tmp_path, **settings) as (nodes, node), served(node) as (context, _):
        context.takes_answers.clear()
        writes = [put(call) for call in range(1, 4 * BOUND)]
        if in_one_message:
            context.ask(*writes)
        else:
            for write in writes:
                context.ask(write)
        keys = node.applier.state.kv.entries
        await nodes.until(lambda: len(keys) == BOUND, "as many as may wait are applied")
        # Whatever else had been taken would be in the log before this one.
        await node.propose(KvPut(WriteId(), "by a call", b""), KvStored)
        assert set(keys) == {*(f"k{call}" for call in range(1, BOUND + 1)), "by a call"}
        context.takes_answers.set()
        await nodes.until(answered(context, len(writes)), "all are answered")
        assert [reply.call for reply in context.replies] == [write.call for write in writes]
        assert set(reasons(context).values()) == {""}


async def test_what_is_applied_together_is_answered_in_one_message(tmp_path: Path) -> None:
    async with one_node(tmp_path) as (nodes, node), served(node) as (context, _):
        context.ask(*(put(call) for call in range(1, 101)))
        await nodes.until(answered(context, 100), "all are answered")
        assert context.sizes == [100]


async def test_a_message_of_refusals_is_not_larger_than_grpc_takes(tmp_path: Path) -> None:
    async with one_node(tmp_path) as (nodes, node), served(node) as (context, _):
        longest = "ü" * (KV_KEY_BYTES // 2)
        context.ask(*(stale(call, longest) for call in range(1, 901)))
        await nodes.until(answered(context, 900), "all are answered")
        assert set(reasons(context).values()) == {"STALE_VERSION"}
        average = sum(reply.ByteSize() for reply in context.replies) / 900
        assert max(context.sizes) * average < node.config.limits.max_message_bytes / 4


async def test_a_full_queue_refuses_what_it_has_no_room_for(tmp_path: Path) -> None:
    settings = {"limits.max_queued_commands": 2}
    async with one_node(tmp_path, **settings) as (nodes, node), served(node) as (context, _):
        context.ask(put(1), put(2), put(3))
        await nodes.until(answered(context, 3), "all are answered")
        assert reasons(context) == {1: "", 2: "", 3: "QUEUE_FULL"}
        assert context.replies[2].error.detail.retry_after_ms


async def test_a_full_disk_refuses_puts_and_not_deletes(tmp_path: Path) -> None:
    async with one_node(tmp_path) as (nodes, node), served(node) as (context, _):
        context.ask(put(1, "k"))
        await nodes.until(answered(context, 1), "the put is answered")
        nodes.free["n1"] = 0
        await nodes.until(lambda: node.space.refuses, "new work is refused")
        context.ask(put(2), delete(3, "k"))
        await nodes.until(answered(context, 3), "all are answered")
        assert reasons(context) == {1: "", 2: "OUT_OF_SPACE", 3: ""}
        assert context.replies[2].delete.version


async def test_who_leads_no_more_says_so_for_each_write_and_goes_on(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 3)
    await nodes.start()
    try:
        old = await nodes.led()
        async with served(nodes.nodes[old]) as (context, _):
            context.ask(*(put(call) for call in range(1, 11)))
            await nodes.until(answered(context, 10), "all are answered")
            transfer = asyncio.create_task(nodes.nodes[old].consensus.transfer_leadership())
            call = 10
            while "NOT_LEADER" not in reasons(context).values():
                context.ask(*(put(call + more) for more in range(1, 11)))
                call += 10
                await nodes.until(answered(context, call), "all are answered")
            new = await transfer
            found = reasons(context)
            # A leader that hands over takes nothing more for that long.
            assert set(found.values()) <= {"", "QUEUE_FULL", "NOT_LEADER", "OUTCOME_UNKNOWN"}
            context.ask(put(call + 1))
            await nodes.until(answered(context, call + 1), "the last one is answered")
            assert context.replies[-1].error.detail.leader_id == new
            keys = nodes.nodes[new].applier.state.kv.entries
            assert {f"k{call}" for call, reason in found.items() if not reason} <= set(keys)
            refused = ("QUEUE_FULL", "NOT_LEADER")
            assert not {f"k{call}" for call, reason in found.items() if reason in refused} & set(keys)
    finally:
        await nodes.stop()


async def test_a_node_that_leaves_ends_the_stream(tmp_path: Path) -> None:
    async with one_node(tmp_path) as (nodes, node), served(node) as (context, serving):
        context.ask(put(1))
        await nodes.until(answered(context, 1), "the put is answered")
        await node.leave()
        await serving
        assert reasons(context) == {1: ""}


async def test_a_stream_begun_at_a_node_that_has_left_ends(tmp_path: Path) -> None:
    async with one_node(tmp_path) as (_, node):
        await node.leave()
        async with served(node) as (_, serving):
            await serving


async def test_a_client_that_is_gone_leaves_nothing_behind(tmp_path: Path) -> None:
    async with one_node(tmp_path) as (nodes, node):
        before = asyncio.all_tasks()
        async with served(node) as (context, serving):
            context.takes_answers.clear()
            context.ask(put(1), put(2))
            context.messages.put_nowait(grpc.aio.EOF)
            await nodes.until(lambda: len(node.applier.state.kv.entries) == 2, "both are applied")
            serving.cancel()
            await asyncio.wait({serving})
            assert asyncio.all_tasks() <= before
