"""gRPC serves a node's connections however long a turn of the node's event loop takes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import grpc.aio
import pytest

from coordinator.api.grpc_engine import EXPERIMENTS

PATIENCE_S = 30

OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]

STREAMS = 400
"""Each has an event for the event loop; the pair of sockets that gRPC asks for would take 278."""

SERVER = """
from coordinator.api.grpc_engine import use_polling_engine
use_polling_engine()
import asyncio, sys
import grpc.aio

async def read_all(requests, context):
    await context.send_initial_metadata(())
    async for _ in requests:
        pass

async def main():
    server = grpc.aio.server()
    method = grpc.stream_stream_rpc_method_handler(read_all)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"Read": method}),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.readline)
    print("standing", flush=True)
    sys.stdin.readline()
    print("going on", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""

CHOICE = """
import os, sys
from importlib.abc import MetaPathFinder
from coordinator.__main__ import main
from coordinator.api.grpc_engine import EXPERIMENTS

class Looking(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "grpc":
            print(os.environ[EXPERIMENTS])

sys.meta_path.insert(0, Looking())
sys.argv = ["coordinator", "config"]
try:
    main()
finally:
    print(repr(os.environ.get(EXPERIMENTS)))
"""
"""Runs a command of the program; says what gRPC is told as it is imported, and what processes that are
started later would be."""

TOO_LATE = """
import asyncio
import grpc.aio

async def begin():
    grpc.aio.init_grpc_aio()

asyncio.run(begin())
from coordinator.api.grpc_engine import use_polling_engine
use_polling_engine()
"""


def run(program: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )


class Server:
    """A server whose event loop stands between the first and the second line that it is sent."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin, self._stdout = stdin, stdout
        self.address = f"127.0.0.1:{int(stdout.readline())}"

    def next(self) -> str:
        """Have it do the next step; what it says of that."""
        self._stdin.write("\n")
        self._stdin.flush()
        return self._stdout.readline().strip()


@pytest.fixture
def server() -> Iterator[Server]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Server(process.stdin, process.stdout)
        process.kill()


async def test_a_connection_is_accepted_while_the_event_loop_stands_and_more_has_come_than_a_pair_takes(
    server: Server,
) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        streams: list[grpc.aio.StreamStreamCall[bytes, bytes]] = [
            channel.stream_stream("/test/Read")() for _ in range(STREAMS)
        ]
        await asyncio.gather(*(stream.initial_metadata() for stream in streams))
        assert server.next() == "standing"
        await asyncio.gather(*(stream.write(b"an event") for stream in streams))

        async with grpc.aio.insecure_channel(server.address, options=OWN_CONNECTION) as newcomer:
            await asyncio.wait_for(newcomer.channel_ready(), PATIENCE_S)

        assert server.next() == "going on"
        for stream in streams:
            await stream.done_writing()
        codes = await asyncio.wait_for(asyncio.gather(*(stream.code() for stream in streams)), PATIENCE_S)
        assert set(codes) == {grpc.StatusCode.OK}


@pytest.mark.parametrize(
    ("chosen", "used"),
    [
        (None, "-event_engine_client,-event_engine_listener"),
        ("", ""),
        ("event_engine_client", "event_engine_client"),
    ],
)
def test_who_has_chosen_an_engine_keeps_it(chosen: str | None, used: str) -> None:
    environment = {} if chosen is None else {EXPERIMENTS: chosen}
    done = run(CHOICE, environment)
    told, *settings, left = done.stdout.splitlines()
    assert (told, left, done.stderr) == (used, repr(chosen), "")
    assert settings


def test_it_says_so_if_grpc_does_not_ask_for_a_pair() -> None:
    assert "RuntimeWarning: gRPC did not ask for a pair of sockets" in run(TOO_LATE, {}).stderr
