"""Which of its two I/O engines gRPC uses: the one in which the thread that waits for a socket also reads it.

gRPC reads this from the environment, once, while it is imported. The other engine, which it prefers from
version 1.80 on, passes each message on to a thread of a pool: a round trip on a stream takes twice the time
and the CPU (`docs/decisions/0027-one-thread-reads.md`).
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Final

VARIABLE: Final = "GRPC_EXPERIMENTS"
DIRECT: Final = "-event_engine_client,-event_engine_listener"
MEASURED: Final = range(80, 86)
"""Minor versions of gRPC 1 that have the choice, the last of which was measured. It is to go one day, and a
version that does not know of it would complain at every start."""


def choice(grpc_version: str) -> str:
    """What to have in the environment for this version of gRPC; "" for nothing."""
    major, minor, *_ = grpc_version.split(".")
    return DIRECT if major == "1" and minor.isdigit() and int(minor) in MEASURED else ""


def import_grpc() -> None:
    """Import gRPC with that choice, unless it is there already or the environment has a choice of its own.
    What is set is taken back: programs that this one starts are not concerned."""
    if "grpc" in sys.modules or VARIABLE in os.environ:
        return
    if chosen := choice(version("grpcio")):
        os.environ[VARIABLE] = chosen
        try:
            import_module("grpc")
        finally:
            del os.environ[VARIABLE]


import_grpc()
