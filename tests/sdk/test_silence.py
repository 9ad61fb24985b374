"""A peer that falls silent without closing its connection is noticed and left (F1: partition, one-way
loss)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent_sdk import Agent, AsyncClient
from agent_sdk._channels import AGENT_KEEPALIVE_MS, CLIENT_KEEPALIVE_MS
from coordinator.api.server import PERMITTED_PING_MS
from quorumflow_proto.v1 import client_pb2, common_pb2
from tests.sdk.conftest import Launch, NewNode
from tests.sdk.scripted import STAY, Node


class Wire:
    """A connection to a node that can be made to swallow everything, both ways, and take no new
    connection."""

    def __init__(self, node: Node) -> None:
        self._host, _, port = node.address.rpartition(":")
        self._port = int(port)
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._cut = False

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        self._cut = True

    async def close(self) -> None:
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._pipes.add(asyncio.create_task(self._pipe(source, sink)))

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            if not self._cut:
                sink.write(data)
                await sink.drain()


@pytest.fixture
async def silenced(new_node: NewNode) -> AsyncIterator[tuple[Node, Wire, Node]]:
    node, other = await new_node(), await new_node()
    wire = Wire(node)
    await wire.start()
    yield node, wire, other
    await wire.close()


async def test_agent_and_client_leave_a_silent_node(
    silenced: tuple[Node, Wire, Node], launch: Launch
) -> None:
    node, wire, other = silenced
    running = common_pb2.DagView(dag_id="d1", state=common_pb2.DAG_STATE_RUNNING)
    completed = common_pb2.DagView(dag_id="d1", state=common_pb2.DAG_STATE_COMPLETED)
    node.script.on("GetDag", client_pb2.GetDagReply(dag=running, revision=1))
    node.script.on("Watch", [STAY])
    other.script.on("GetDag", client_pb2.GetDagReply(dag=completed, revision=3))
    done = client_pb2.DagChange(dag_id="d1", state=common_pb2.DAG_STATE_COMPLETED)
    other.script.on("Watch", [client_pb2.WatchReply(events=[client_pb2.Event(revision=3, dag=done)])])
    agent = Agent([wire.address, other.address], "a1")
    agent.add_builtins()
    launch(agent)
    async with AsyncClient([wire.address, other.address]) as client:
        waiting = asyncio.create_task(client.wait("d1"))
        await (await node.session()).welcome(epoch=4)
        await node.script.called("Watch")
        wire.cut()
        assert (await (await other.session()).welcome(term=2)).last_epoch == 4
        assert (await waiting).state == "COMPLETED"


@pytest.fixture
async def mutes() -> AsyncIterator[list[str]]:
    """Addresses of two things that take connections and say nothing."""
    over = asyncio.Event()

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    servers = [await asyncio.start_server(take, "127.0.0.1", 0) for _ in range(2)]
    yield [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    over.set()
    for server in servers:
        server.close()


async def test_an_agent_waits_longer_to_be_connected_than_a_client(
    mutes: list[str], node: Node, launch: Launch
) -> None:
    """Agents are many, and who comes with all the others must not begin anew before it is its turn: a client
    has left two such nodes while an agent still tries one."""
    node.script.on("GetDag", client_pb2.GetDagReply(revision=1))
    async with AsyncClient([*mutes, node.address]) as client:
        got = asyncio.create_task(client.get("d1"))
        launch(Agent([mutes[0], node.address], "a1"))
        await (await node.session()).welcome()
        assert got.done()


@pytest.mark.parametrize("keepalive_ms", [CLIENT_KEEPALIVE_MS, AGENT_KEEPALIVE_MS])
def test_nodes_permit_the_pings_that_find_it_out(keepalive_ms: int) -> None:
    # Half as many as they permit: a ping may be sent early or be late, and is not punished for it.
    assert keepalive_ms >= 2 * PERMITTED_PING_MS
