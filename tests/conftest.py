"""How Hypothesis runs in every area: from fixed seeds, so that a run can be repeated;
`HYPOTHESIS_PROFILE=soak` searches further. And what processes that run tests side by side must not share."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from coordinator.cli import ports

settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
settings.register_profile("soak", settings.get_profile("ci"), derandomize=False, max_examples=3_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session", autouse=True)
def _own_ports() -> None:
    """Each of several test processes finds free ports in a range of its own: one that was found could be
    taken before somebody listens there, or while a killed node is away."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    width = (ports._LAST - ports._FIRST) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports._FIRST += number * width
    ports._LAST = ports._FIRST + width
