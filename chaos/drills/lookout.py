"""Looks at every node again and again, each by itself, whatever the others do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from agent_sdk import AsyncClient, NodeStatus, QuorumflowError
from chaos.faults.base import now_ms

_PAUSE_S: Final = 0.1
_TIMEOUT_S: Final = 1.0
_STOP_S: Final = 10.0


class Sighting(NamedTuple):
    """What a node said of itself when it was asked at this moment (Unix ms)."""

    at_ms: int
    node: NodeStatus


class Lookout:
    """Asks in a thread of its own from `start` until `stop` those that `endpoints` names at the time.
    `sightings` may be read meanwhile; it only grows."""

    def __init__(self, endpoints: Callable[[], Sequence[str]]) -> None:
        self.sightings: list[Sighting] = []
        self._endpoints = endpoints
        self._last: dict[str, Sighting] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._look()), name="lookout", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join(_STOP_S)

    def applied(self, node_id: str, since_ms: int) -> int:
        """How far the node had come when it was last seen, if that was after this moment; else -1."""
        last = self._last.get(node_id)
        return last.node.applied_index if last is not None and last.at_ms >= since_ms else -1

    def leaders(self) -> list[tuple[int, int, str]]:
        """Who was seen to lead by its own word, as (Unix ms, term, node id), at each change."""
        changes: list[tuple[int, int, str]] = []
        for at_ms, node in list(self.sightings):
            if node.role == "leader" and (not changes or changes[-1][1:] != (node.term, node.id)):
                changes.append((at_ms, node.term, node.id))
        return changes

    async def _look(self) -> None:
        known: set[str] = set()
        async with asyncio.TaskGroup() as looks:
            while not self._stopping.is_set():
                for endpoint in set(self._endpoints()) - known:
                    looks.create_task(self._look_at(endpoint))
                    known.add(endpoint)
                await asyncio.sleep(_PAUSE_S)

    async def _look_at(self, endpoint: str) -> None:
        async with AsyncClient([endpoint], timeout_s=_TIMEOUT_S) as client:
            while not self._stopping.is_set() and endpoint in self._endpoints():
                asked_ms = now_ms()
                try:
                    status = await client.node_status(endpoint)
                except QuorumflowError:
                    # It is down, frozen or starting, which is what drills are for.
                    pass
                else:
                    # Its many counters would fill the memory in a drill of hours.
                    seen = Sighting(asked_ms, replace(status, counters={}))
                    self.sightings.append(seen)
                    self._last[seen.node.id] = seen
                await asyncio.sleep(_PAUSE_S)
