"""Connections to nodes: one channel per address, made at first use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Final

import grpc.aio

from agent_sdk.errors import InvalidRequest
from quorumflow_proto.v1.agent_pb2_grpc import AgentServiceStub
from quorumflow_proto.v1.client_pb2_grpc import ClientServiceStub
from quorumflow_proto.v1.kv_pb2_grpc import KvServiceStub
from quorumflow_proto.v1.operator_pb2_grpc import OperatorServiceStub

if TYPE_CHECKING:
    from quorumflow_proto.v1.agent_pb2_grpc import AgentServiceAsyncStub
    from quorumflow_proto.v1.client_pb2_grpc import ClientServiceAsyncStub
    from quorumflow_proto.v1.kv_pb2_grpc import KvServiceAsyncStub
    from quorumflow_proto.v1.operator_pb2_grpc import OperatorServiceAsyncStub

MAX_MESSAGE_BYTES: Final = 64 << 20
"""What is taken from a node in one message; the node's own limit is lower."""

CLIENT_KEEPALIVE_MS: Final = 500
AGENT_KEEPALIVE_MS: Final = 1_000
"""A connection on which nothing came for so long is tried with a ping. Agents are many and mostly idle:
theirs are rarer, for the leader's sake."""
KEEPALIVE_TIMEOUT_MS: Final = 750
"""A ping that is not answered for so long ends the connection. gRPC's own threads answer, however busy the
peer's Python is: the silent have died, frozen or lost the network."""

CLIENT_CONNECT_TIMEOUT_MS: Final = 1_000
AGENT_CONNECT_TIMEOUT_MS: Final = 3_000
"""An attempt to connect that takes longer is given up. Agents may come by the thousand, and each that begins
anew puts itself behind all others again: they wait longer."""
RECONNECT_LIMIT_MS: Final = 500

_OPTIONS: Final = (
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    # Where a ping's own timeout, 60 s by default, is longer, the one above has no effect (grpcio 1.85).
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_LIMIT_MS),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    # Two clients in one process do not wait for each other's reconnects.
    ("grpc.use_local_subchannel_pool", 1),
)


OpenChannel = Callable[[str], grpc.aio.Channel]


def open_channel(address: str, keepalive_ms: int, connect_timeout_ms: int) -> grpc.aio.Channel:
    """A channel that connects to the node at `address` when it is first used."""
    options = (
        ("grpc.keepalive_time_ms", keepalive_ms),
        # Despite its name, this bounds one attempt to connect.
        ("grpc.min_reconnect_backoff_ms", connect_timeout_ms),
        *_OPTIONS,
    )
    return grpc.aio.insecure_channel(address, options=options)


class Node:
    """One node, by its address: a channel, and stubs on it that are made when they are first asked for, since
    there are dozens of methods and an agent calls one."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self._channel = channel

    @cached_property
    def client(self) -> ClientServiceAsyncStub:
        """ClientService."""
        return ClientServiceStub(self._channel)

    @cached_property
    def kv(self) -> KvServiceAsyncStub:
        """KvService."""
        return KvServiceStub(self._channel)

    @cached_property
    def operator(self) -> OperatorServiceAsyncStub:
        """OperatorService."""
        return OperatorServiceStub(self._channel)

    @cached_property
    def agent(self) -> AgentServiceAsyncStub:
        """AgentService."""
        return AgentServiceStub(self._channel)

    async def close(self) -> None:
        """Close the channel; calls under way fail."""
        await self._channel.close()


class Nodes:
    """The nodes met so far, which are as many as the cluster has ever named."""

    def __init__(self, open_channel: OpenChannel) -> None:
        self._open_channel = open_channel
        self._by_address: dict[str, Node] = {}

    def at(self, address: str) -> Node:
        """The node at `address`; connects when it is first called."""
        node = self._by_address.get(address)
        if node is None:
            node = self._by_address[address] = Node(address, self._open_channel(address))
        return node

    async def keep_only(self, kept: Node) -> None:
        """Close the channels to all other nodes."""
        others = [node for node in self._by_address.values() if node is not kept]
        self._by_address = {kept.address: kept}
        await asyncio.gather(*(node.close() for node in others))

    async def close(self) -> None:
        """Close every channel."""
        nodes, self._by_address = list(self._by_address.values()), {}
        await asyncio.gather(*(node.close() for node in nodes))


def parse_endpoints(endpoints: str | Iterable[str]) -> tuple[str, ...]:
    """Distinct "host:port" addresses in the order given, from a sequence or from one string with commas.
    Raises InvalidRequest for none, or for one without a port."""
    given = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    addresses = tuple(dict.fromkeys(one.strip() for one in given if one.strip()))
    if not addresses:
        raise InvalidRequest("no endpoints were given: name at least one node as host:port")
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise InvalidRequest(
                f"endpoint {address!r} is not host:port with a port from 1 to 65535",
                fields={"endpoint": address},
            )
    return addresses
