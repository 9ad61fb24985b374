"""A list of many agents is made in many turns of the event loop, so that a leader goes on leading (J4)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import Mock

import grpc.aio

from coordinator.api.operator_service import OperatorService
from coordinator.core.commands import OpenSession
from coordinator.core.model import AgentSpec
from coordinator.core.outcome import SessionOpened
from coordinator.replica.node import Node
from quorumflow_proto.v1 import operator_pb2 as pb
from tests.replica.nodes import Nodes

AGENTS = 300
MOST_IN_A_TURN = 64


async def list_of(node: Node) -> tuple[pb.ListAgentsReply, int]:
    """All agents, and the turns of the loop in which they were listed."""
    turns, over = 0, asyncio.Event()

    def count() -> None:
        nonlocal turns
        turns += 1
        if not over.is_set():
            asyncio.get_running_loop().call_soon(count)

    # A read waits for proof of leadership first, which takes turns of its own.
    await node.read(allow_stale=False)
    node.read = Mock(side_effect=lambda **_: asyncio.sleep(0))  # type: ignore[method-assign]
    asyncio.get_running_loop().call_soon(count)
    reply = await OperatorService(node).ListAgents(
        pb.ListAgentsRequest(), Mock(spec=grpc.aio.ServicerContext)
    )
    over.set()
    return reply, turns


async def test_many_agents_are_listed_in_many_turns(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, 1)
    await nodes.start()
    try:
        node = nodes.nodes[await nodes.led()]
        names = [f"a{number:03}" for number in range(AGENTS)]
        for name in names:
            await node.propose(OpenSession(AgentSpec(name, "i", 1, 1), []), SessionOpened)

        reply, turns = await list_of(node)

        assert [agent.agent_id for agent in reply.agents] == names
        assert turns >= AGENTS // MOST_IN_A_TURN
    finally:
        await nodes.stop()
