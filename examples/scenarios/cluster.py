"""A real cluster for a scenario: nodes as processes, and crews, each a process of its own that can be
killed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent_sdk import Client
from coordinator.cli.local_cluster import LocalCluster

START_TIMEOUT_S: Final = 60.0
_ROOT: Final = Path(__file__).parents[2]
_POLL_S: Final = 0.05
_END_S: Final = 10.0

Plan = Sequence[Mapping[str, Any]]
"""Agents as `agent_sdk.Agent` takes them."""


class Crew:
    """The process of some agents."""

    def __init__(self, endpoints: Sequence[str], plan: Plan) -> None:
        arguments = ["-m", "examples.scenarios.crew", ",".join(endpoints), json.dumps(list(plan))]
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, *arguments], cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait(_END_S)


@contextlib.contextmanager
def running(
    crews: Sequence[Plan], *, nodes: int = 3, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[Client, list[Crew]]]:
    """A cluster with these crews, once all agents are there; it and its folder are gone afterwards. Raises
    TimeoutError where they do not come."""
    with (
        tempfile.TemporaryDirectory(prefix="quorumflow-") as folder,
        LocalCluster.start(Path(folder), nodes=nodes, settings=settings) as cluster,
        Client(cluster.endpoints) as client,
        contextlib.ExitStack() as ending,
    ):
        started = []
        for plan in crews:
            started.append(Crew(cluster.endpoints, plan))
            ending.callback(started[-1].kill)
        wait_for(lambda: len(list(client.agents())) == sum(map(len, crews)), "all agents")
        yield client, started


def wait_for(what: Callable[[], bool], named: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Until a condition holds. Raises TimeoutError."""
    until_s = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > until_s:
            raise TimeoutError(f"{named}: not within {timeout_s:g} s")
        time.sleep(_POLL_S)
