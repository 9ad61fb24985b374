"""Snapshots for the tests of placement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.core.model import AgentSpec
from coordinator.scheduling.snapshot import Snapshot


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., AgentSpec]:
    """`spec_of("a", slots=2)`: an agent without skills, with one slot and ample credit unless said
    otherwise."""

    def make(agent_id: str, **fields: Any) -> AgentSpec:
        return AgentSpec(agent_id, "i", fields.pop("slots", 1), fields.pop("credit", 1_000), **fields)

    return make


@pytest.fixture
def crew(spec_of: Callable[..., AgentSpec]) -> Callable[..., Snapshot]:
    """`crew(a={"slots": 2}, b={})`: a snapshot of these agents, each in session 1."""

    def make(**agents: dict[str, Any]) -> Snapshot:
        snapshot = Snapshot()
        for agent_id, fields in agents.items():
            snapshot.agents.put(spec_of(agent_id, **fields), epoch=1)
        return snapshot

    return make
