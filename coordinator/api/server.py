"""One node as a process: the gRPC server around it, from start to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Final, NamedTuple

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from coordinator.addresses import format_address, parse_address
from coordinator.api.agent_service import AgentService
from coordinator.api.client_service import ClientService
from coordinator.api.kv_service import KvService
from coordinator.api.methods import Methods
from coordinator.api.operator_service import OperatorService
from coordinator.api.watching import Watching
from coordinator.config import NodeConfig
from coordinator.errors import StartFailed
from coordinator.replica.node import Node
from quorumflow_proto.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    client_pb2,
    client_pb2_grpc,
    kv_pb2,
    kv_pb2_grpc,
    operator_pb2,
    operator_pb2_grpc,
)

_log = structlog.get_logger(__name__)

PERMITTED_PING_MS: Final = 250
"""A peer that pings more often than this is cut off; clients of the SDK do so half as often."""
_STOP_GRACE_S: Final = 1.0
"""How long calls in progress may take to end when the node stops."""


class Addresses(NamedTuple):
    """Where a node really listens, as "host:port": ports of 0 have become what was free."""

    grpc: str
    raft: str


def add_services(node: Node, methods: Methods) -> None:
    """Have `methods` answer everything that a node is asked."""
    watching, server = Watching(node), methods.server
    client_pb2_grpc.add_ClientServiceServicer_to_server(ClientService(node, watching), server)
    kv_pb2_grpc.add_KvServiceServicer_to_server(KvService(node, watching), server)
    agent_pb2_grpc.add_AgentServiceServicer_to_server(AgentService(node), server)
    operator_pb2_grpc.add_OperatorServiceServicer_to_server(OperatorService(node), server)


class Server:
    """A node and its gRPC server."""

    def __init__(self, config: NodeConfig) -> None:
        self.node = Node(config)
        self._config = config
        self._grpc = grpc.aio.server(options=_options(config))
        self._health = health.aio.HealthServicer()
        methods = Methods()
        add_services(self.node, methods)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, methods.server)
        names = [
            module.DESCRIPTOR.services_by_name[name].full_name
            for module, name in (
                (client_pb2, "ClientService"),
                (kv_pb2, "KvService"),
                (agent_pb2, "AgentService"),
                (operator_pb2, "OperatorService"),
                (health_pb2, "Health"),
            )
        ]
        self._grpc.add_generic_rpc_handlers((methods,))
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._grpc)

    async def start(self) -> Addresses:
        """Serve. Raises StartFailed if a port or the data folder cannot be had, StateCorrupt, LogCorrupt."""
        host, _ = parse_address(self._config.grpc_listen)
        try:
            port = self._grpc.add_insecure_port(self._config.grpc_listen)
        except RuntimeError as error:
            raise StartFailed(
                f"cannot listen for gRPC on {self._config.grpc_listen}: the port is taken, or the "
                "address is not this machine's; set grpc_port or listen_host",
                address=self._config.grpc_listen,
            ) from error
        raft = await self.node.start()
        await self._grpc.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        return Addresses(format_address(host, port), raft)

    async def stop(self) -> None:
        """Hand over what can be handed over, have everybody told, then close."""
        await self._health.enter_graceful_shutdown()
        await self.node.leave()
        await self._grpc.stop(_STOP_GRACE_S)
        self.node.close()


async def run_node(config: NodeConfig, *, on_ready: Callable[[Addresses], None] | None = None) -> None:
    """Run a node until SIGTERM or SIGINT.

    Raises:
        StartFailed, ConfigError, LogCorrupt, StateCorrupt: it could not start.
        Fatal: it had to stop, because going on could have broken a promise.
    """
    server = Server(config)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(server.node.defects.unhandled)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        addresses = await server.start()
        _log.info("serving", grpc=addresses.grpc, raft=addresses.raft)
        if on_ready is not None:
            on_ready(addresses)
        server.node.failed.add_done_callback(lambda _: stopping.set())
        await stopping.wait()
    finally:
        await server.stop()
    if server.node.failed.done():
        server.node.failed.result()


def _options(config: NodeConfig) -> list[tuple[str, int]]:
    limit = config.limits.max_message_bytes
    return [
        # Without this a second node on the same port would silently get half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        ("grpc.max_concurrent_streams", config.limits.max_concurrent_calls),
        ("grpc.keepalive_time_ms", config.agents.keepalive_ms),
        ("grpc.keepalive_timeout_ms", config.agents.keepalive_timeout_ms),
        # Without this gRPC 1.85 waits a minute for the answer to a ping, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", config.agents.keepalive_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", PERMITTED_PING_MS),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", PERMITTED_PING_MS),
    ]
