"""Backups: the node's state as a file, streamed while the node goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from typing import Final

from coordinator.config import NodeConfig
from coordinator.errors import QueueFull, Unavailable
from coordinator.replica.applier import Applier
from coordinator.storage.backup import FORMAT, Header, encode
from coordinator.storage.snapshots import StateReader

_PRODUCT: Final = version("quorumflow")
_SLACK_S: Final = 0.002
"""Timers are late by about as much; the pace makes up for it."""


class Backups:
    """Streams of one node. Whoever reads slowly holds up nothing but its own stream, and that only until
    its life is over."""

    def __init__(self, applier: Applier, config: NodeConfig, wall_ms: Callable[[], int]) -> None:
        self._applier = applier
        self._config = config
        self._wall_ms = wall_ms
        self._running = 0

    async def stream(self, at_least: int) -> AsyncIterator[bytes]:
        """The pieces of a backup of the state as it is now, or once it has applied `at_least`.

        Raises:
            QueueFull: as many as may be are under way.
            Unavailable: the node lags too far behind, or the backup took too long.
        """
        limits = self._config.backup
        if self._running >= limits.max_streams:
            raise QueueFull(
                f"{self._running} backups are under way on {self._config.node_id} (setting "
                "backup.max_streams); retry later, or at another node",
                retry_after_ms=5_000,
                setting="backup.max_streams",
                limit=limits.max_streams,
            )
        self._running += 1
        try:
            await self._catch_up(at_least)
            async for piece in self._pieces():
                yield piece
        finally:
            self._running -= 1

    async def _catch_up(self, index: int) -> None:
        limit_s = self._config.backup.catch_up_s
        try:
            async with asyncio.timeout(limit_s):
                await self._applier.wait_applied(index)
        except TimeoutError:
            raise Unavailable(
                f"{self._config.node_id} has applied {self._applier.applied.index} of {index} entries after "
                f"{limit_s} s (setting backup.catch_up_s): ask another node",
                retry_after_ms=1_000,
                setting="backup.catch_up_s",
            ) from None

    async def _pieces(self) -> AsyncIterator[bytes]:
        limits, loop = self._config.backup, asyncio.get_running_loop()
        reader = StateReader(self._applier.store)
        pieces = encode(self._header(reader), reader.chunks())

        def let_go() -> None:
            pieces.close()
            reader.close()

        due = loop.time()
        ends = due + limits.life_s
        timer = loop.call_at(ends, let_go)
        try:
            for piece in pieces:
                yield piece
                due = max(due, loop.time() - _SLACK_S) + len(piece) / limits.bytes_per_s
                await asyncio.sleep(max(0.0, due - loop.time()))
        finally:
            timer.cancel()
            let_go()
        if loop.time() >= ends:
            raise Unavailable(
                f"the backup was not finished within {limits.life_s} s (setting backup.life_s); write it to "
                "a faster disk, or raise the setting",
                setting="backup.life_s",
            )

    def _header(self, reader: StateReader) -> Header:
        return Header(
            format=FORMAT,
            product=_PRODUCT,
            cluster=self._config.cluster_id,
            node=self._config.node_id,
            applied=reader.meta,
            time_ms=self._applier.state.machine.now_ms,
            taken_ms=self._wall_ms(),
        )
