"""Puts that are answered at once, with nothing behind them: what gRPC, the client and the machine take by
themselves. `python -m bench.hollow` is the process that answers, with the event loop and the engine of gRPC
that nodes have.
"""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import click

from coordinator.api.grpc_engine import use_polling_engine
from coordinator.cli.ports import free_ports
from coordinator.cli.processes import Process, end

_MODULE: Final = "bench.hollow"
_HOST: Final = "127.0.0.1"
_PATIENCE_S: Final = 30.0
_POLL_S: Final = 0.05
"""Between two attempts to connect: a process that starts tells nobody when it serves."""
_GRACE_S: Final = 5.0


class Hollow:
    """The process; a context manager that ends it."""

    def __init__(self, folder: Path) -> None:
        """Its log will be in `folder`."""
        self._log = folder / "hollow.log"
        (self._port,) = free_ports(_HOST, 1)
        self.address = f"{_HOST}:{self._port}"

    def __enter__(self) -> Self:
        self._process = Process.start(_MODULE, ["--port", str(self._port)], self._log)
        try:
            self._wait_until_it_serves()
        except BaseException:
            end([self._process], _GRACE_S)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end([self._process], _GRACE_S)

    def _wait_until_it_serves(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex((_HOST, self._port)) == 0:
                    return
            time.sleep(_POLL_S)
        raise TimeoutError(f"nothing serves {self.address} after {_PATIENCE_S} s: see {self._log}")


@click.command()
@click.option("--port", type=int, required=True)
def main(port: int) -> None:
    """Answer puts on this port of 127.0.0.1 until SIGTERM, and do nothing else."""
    use_polling_engine()
    import uvloop

    uvloop.run(_serve(port))


async def _serve(port: int) -> None:
    # Imported here, since it is then that gRPC chooses its engine.
    import grpc.aio

    from quorumflow_proto.v1 import kv_pb2 as pb

    versions = count(1)

    async def put(_request: pb.KvPutRequest, _context: object) -> pb.KvPutReply:
        return pb.KvPutReply(version=next(versions))

    async def write(messages: AsyncIterator[pb.KvWrites], _context: object) -> AsyncIterator[object]:
        async for message in messages:
            replies: Any = [{"call": one.call, "put": {"version": next(versions)}} for one in message.writes]
            yield pb.KvWriteReplies(replies=replies)

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Put": grpc.unary_unary_rpc_method_handler(
            put, pb.KvPutRequest.FromString, pb.KvPutReply.SerializeToString
        ),
        "Write": grpc.stream_stream_rpc_method_handler(
            write, pb.KvWrites.FromString, pb.KvWriteReplies.SerializeToString
        ),
    }
    server = grpc.aio.server()
    name = pb.DESCRIPTOR.services_by_name["KvService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
    server.add_insecure_port(f"{_HOST}:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    main()
