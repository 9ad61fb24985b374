"""Where workloads run: three nodes as shipped - synced logs, TLS between nodes, history on - and a crew."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import uvloop

from agent_sdk import Client
from bench.fleet import Crew, Fleet
from bench.usage import AGENTS, CLIENT, FOLLOWER, LEADER, Meter
from coordinator.cli.local_cluster import LocalCluster, Place

NODES: Final = 3

Result = TypeVar("Result")


class Stage:
    """A cluster and its agents, as processes of this machine; a context manager that ends them. What they
    wrote goes with them, but for their logs."""

    cluster: LocalCluster
    client: Client
    fleet: Fleet | None

    def __init__(self, folder: Path, crew: Crew | None, *, prefix: Sequence[str] = ()) -> None:
        """Without a `crew` it has no agents until some join. `prefix` is as `Process.start` takes it, for
        nodes and agents."""
        self.folder = folder
        """Where all of it is."""
        self._place = folder / "stage"
        self._crew = crew
        self._prefix = prefix

    def __enter__(self) -> Self:
        self.fleet = None
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.cluster = LocalCluster.start(
            self._place,
            nodes=NODES,
            tls=True,
            arrange=lambda nodes: dict.fromkeys(nodes, Place(prefix=self._prefix)),
        )
        self.client = Client(self.cluster.endpoints)
        if self._crew is not None:
            try:
                self.join(self._crew)
            except BaseException:
                self.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def join(self, crew: Crew, *, prefix: Sequence[str] = ()) -> None:
        """Let these agents come, with a `prefix` of their own; returns when they can be given work."""
        self.fleet = Fleet(self._place / "fleet", self.cluster.endpoints, crew, (*prefix, *self._prefix))

    def dismiss(self) -> None:
        """Let the agents go; returns when they are gone."""
        if self.fleet is not None:
            self.fleet.close()
            self.fleet = None

    def close(self) -> None:
        """End everything, whichever of it fails to end."""
        with ExitStack() as ends:
            ends.callback(self._runner.close)
            ends.callback(self.cluster.stop, keep_data=False)
            ends.callback(self.client.close)
            ends.callback(self.dismiss)

    def run(self, client: Coroutine[Any, Any, Result]) -> Result:
        """Have this done in an event loop, one for all of the stage's time: gRPC may still tell a loop
        something after what ran in it has ended."""
        return self._runner.run(client)

    def pids(self) -> dict[str, list[int]]:
        """The processes by kind; this one is the client."""
        leader = self.cluster.leader()
        found = {
            LEADER: [self.cluster.pid(leader)],
            FOLLOWER: [self.cluster.pid(node) for node in self.cluster.nodes if node != leader],
            AGENTS: [] if self.fleet is None else self.fleet.pids,
            CLIENT: [os.getpid()],
        }
        return {kind: pids for kind, pids in found.items() if pids}

    def meter(self) -> Meter:
        """Of what all of them use from now on."""
        return Meter(self.pids())
