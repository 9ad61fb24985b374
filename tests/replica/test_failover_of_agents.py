"""A new leader waits for the agents of the one before (F2, F4): it hears of those that come back, and gives
up those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.core.commands import OpenSession
from coordinator.core.model import AgentSpec, AgentState
from coordinator.core.outcome import SessionOpened
from coordinator.replica.node import Node
from coordinator.replica.returning import Returning
from tests.replica.nodes import Nodes


async def open_session(node: Node, name: str) -> int:
    return (await node.propose(OpenSession(AgentSpec(name, "i", 1, 1), []), SessionOpened)).epoch


async def test_who_is_gone_with_the_leader_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, int]] = []
    connected = Returning.connected

    def hear(returning: Returning, agent: str, epoch: int) -> None:
        heard.append((agent, epoch))
        connected(returning, agent, epoch)

    monkeypatch.setattr(Returning, "connected", hear)
    nodes = Nodes(tmp_path, 3, **{"agents.failover_grace_ms": 500})
    await nodes.start()
    try:
        first = await nodes.led()
        for name in ("back", "gone"):
            await open_session(nodes.nodes[first], name)
        await nodes.nodes[first].leave()
        node = nodes.nodes[await nodes.led(first)]
        heard.clear()
        epoch = await open_session(node, "back")

        agents = node.applier.state.agents
        await nodes.until(lambda: agents["gone"].record.state is AgentState.LOST, "it is given up")
        assert agents["back"].record.state is AgentState.CONNECTED
        assert ("back", epoch) in heard
    finally:
        await nodes.stop()
