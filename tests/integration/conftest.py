"""Clusters of real processes for the integration tests.

`cluster` is shared by all tests that do it no harm; tests that kill, freeze or fill start their own with
`start_cluster`. Every wait is for an event, or a bounded poll (`eventually`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import pytest

from agent_sdk import Agent, AsyncClient
from coordinator.cli.agent_spec import alike
from coordinator.cli.local_cluster import LocalCluster
from quorumflow_proto.v1 import common_pb2
from quorumflow_proto.v1.agent_pb2_grpc import AgentServiceStub
from quorumflow_proto.v1.client_pb2_grpc import ClientServiceStub
from quorumflow_proto.v1.kv_pb2_grpc import KvServiceStub
from quorumflow_proto.v1.operator_pb2_grpc import OperatorServiceStub

WAIT_S = 30.0
_POLL_S = 0.02

Found = TypeVar("Found")
RunAgent = Callable[[Agent], Awaitable["asyncio.Task[None]"]]


class StartCluster(Protocol):
    """Starts a cluster of a test's own; arguments as those of `LocalCluster.start`."""

    def __call__(self, **options: Any) -> LocalCluster: ...


class Wire:
    """The bare stubs to one node: no retries, no redirects, no checks of what is sent."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1)])
        self.client = ClientServiceStub(self.channel)
        self.kv = KvServiceStub(self.channel)
        self.operator = OperatorServiceStub(self.channel)
        self.agent = AgentServiceStub(self.channel)


async def eventually(look: Callable[[], Awaitable[Found | None]], what: str) -> Found:
    """What `look` finds, as soon as it finds something that is true."""
    deadline = time.monotonic() + WAIT_S
    while not (found := await look()):
        assert time.monotonic() < deadline, f"waited {WAIT_S} s in vain until {what}"
        await asyncio.sleep(_POLL_S)
    return found


def eventually_sync(look: Callable[[], Found | None], what: str) -> Found:
    """As `eventually`, for tests without an event loop."""
    deadline = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {WAIT_S} s in vain until {what}"
        time.sleep(_POLL_S)
    return found


def serve(data_dir: Path, **settings: object) -> tuple[int, dict[str, Any]]:
    """Run a node that cannot start; returns its exit code and the last line of its log."""
    given = {"data_dir": data_dir, "grpc_port": 0, "raft_port": 0, **settings}
    flags = [part for key, value in given.items() for part in ("--set", f"{key}={value}")]
    ended = subprocess.run(
        [sys.executable, "-m", "coordinator", "serve", *flags],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode, json.loads(ended.stderr.splitlines()[-1])


async def refusal_of(call: Awaitable[Any]) -> tuple[grpc.StatusCode, common_pb2.ErrorDetail]:
    """The code and the machine-readable detail with which a call is refused; without a detail, its message
    is gRPC's own."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    metadata = dict(refused.value.trailing_metadata() or ())
    if "coordinator-error-bin" not in metadata:
        return refused.value.code(), common_pb2.ErrorDetail(message=refused.value.details() or "")
    return refused.value.code(), common_pb2.ErrorDetail.FromString(metadata["coordinator-error-bin"])


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three nodes and two agents with the built-in handlers."""
    folder = tmp_path_factory.mktemp("shared")
    with LocalCluster.start(folder, nodes=3, agents=alike(2, 4), effects=True) as running:
        yield running


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[StartCluster]:
    """Starts clusters that end with the test."""
    with contextlib.ExitStack() as running:

        def start(**options: Any) -> LocalCluster:
            return running.enter_context(LocalCluster.start(tmp_path / "cluster", **options))

        yield start


@pytest.fixture
async def client(cluster: LocalCluster) -> AsyncIterator[AsyncClient]:
    """A client of the shared cluster."""
    async with AsyncClient(cluster.endpoints) as connected:
        yield connected


@pytest.fixture
async def run_agent(client: AsyncClient) -> AsyncIterator[RunAgent]:
    """Runs an agent in the test's own event loop, on the shared cluster; returns once it is registered. The
    task may be cancelled, which is as sudden as a crash."""
    running: list[asyncio.Task[None]] = []

    async def run(agent: Agent) -> asyncio.Task[None]:
        task = asyncio.create_task(agent.run_async())
        running.append(task)

        async def registered() -> bool:
            return agent.agent_id in [one.agent_id async for one in client.agents() if one.state == "IDLE"]

        await eventually(registered, f"{agent.agent_id} is registered")
        return task

    yield run
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


@pytest.fixture
async def wire(cluster: LocalCluster) -> AsyncIterator[Callable[[str], Wire]]:
    """Bare stubs to a node of the shared cluster, by its id."""
    open_wires: list[Wire] = []

    def connect(node_id: str) -> Wire:
        open_wires.append(Wire(cluster.nodes[node_id].grpc))
        return open_wires[-1]

    yield connect
    for one in open_wires:
        await one.channel.close()


@pytest.fixture
async def leader(client: AsyncClient, wire: Callable[[str], Wire]) -> Wire:
    """Bare stubs to the leader of the shared cluster."""
    return wire((await client.cluster_status()).leader)


@pytest.fixture
async def follower(client: AsyncClient, wire: Callable[[str], Wire]) -> Wire:
    """Bare stubs to a node of the shared cluster that does not lead."""
    status = await client.cluster_status()
    return wire(next(node.id for node in status.nodes if node.id != status.leader))
