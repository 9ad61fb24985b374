"""A cluster on the loopback interface, for the tests that need the real thing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from coordinator.consensus.settings import RaftSettings
from tests.consensus.loopback import Cluster

MakeCluster = Callable[[int, RaftSettings | None], Cluster]


@pytest.fixture
async def make_cluster(tmp_path: Path) -> AsyncIterator[MakeCluster]:
    """Makes clusters of a size and with settings, and stops them at the end."""
    made: list[Cluster] = []

    def make(size: int, settings: RaftSettings | None = None) -> Cluster:
        made.append(Cluster(tmp_path, size, settings))
        return made[-1]

    yield make
    for cluster in made:
        await cluster.stop()
