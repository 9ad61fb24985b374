"""Scripted nodes, and agents that end with their test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from agent_sdk import Agent
from tests.sdk.scripted import Node

NewNode = Callable[[], Awaitable[Node]]
Launch = Callable[[Agent], asyncio.Task[None]]


@pytest.fixture
async def new_node() -> AsyncIterator[NewNode]:
    """Starts scripted nodes."""
    nodes: list[Node] = []

    async def start() -> Node:
        node = Node()
        await node.start()
        nodes.append(node)
        return node

    yield start
    for node in nodes:
        await node.stop()


@pytest.fixture
async def node(new_node: NewNode) -> Node:
    """One scripted node."""
    return await new_node()


@pytest.fixture
async def launch() -> AsyncIterator[Launch]:
    """Runs agents in the background; what still runs at the end of the test is cancelled."""
    running: list[asyncio.Task[None]] = []

    def start(agent: Agent) -> asyncio.Task[None]:
        running.append(asyncio.create_task(agent.run_async()))
        return running[-1]

    yield start
    for run in running:
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await run


@pytest.fixture
def unused_address() -> Iterator[str]:
    """Where nobody listens: the port is taken by a socket that does not."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"
