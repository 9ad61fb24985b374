"""Streams of events to watchers: how many there are, and what each is sent when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeVar

from google.protobuf.message import Message

from coordinator import errors
from coordinator.replica.node import Node
from coordinator.replica.watch import Happening

_EVENTS_PER_REPLY: Final = 500

_REPLY_BYTES: Final = 1 << 20
"""Size from which a reply is closed; its last event may exceed it."""

_PROGRESS_NOTICE_S: Final = 1.0
"""A watcher that nothing concerns learns this often up to where it has seen everything."""

E = TypeVar("E")
Wire = TypeVar("Wire", bound=Message)
Feed = AsyncIterator[tuple[list[Happening[E]], int]]


class Watching:
    """All watch streams of one node, whatever they watch."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._limit = node.config.limits.max_watchers
        self._open = 0

    async def replies(
        self,
        feed: Callable[[], Feed[E]],
        to_proto: Callable[[Happening[E]], Iterator[tuple[int, Wire]]],
        *,
        allow_stale: bool,
    ) -> AsyncIterator[tuple[list[Wire], int]]:
        """What `to_proto` makes of each happening, as (revision, event) in order, in parts that fit into a
        message; each part with the revision up to which everything has been sent.

        Raises:
            NotLeader: the node does not lead, or not any more; never with `allow_stale`.
            QueueFull: too many watches are open. RevisionCompacted: as `EventHistory.follow`.
        """
        if not allow_stale:
            await self._node.leadership.serving()
        if self._open >= self._limit:
            raise errors.QueueFull(
                f"{self._open} watches are open, no more are served",
                retry_after_ms=1_000,
                setting="limits.max_watchers",
                limit=self._limit,
            )
        self._open += 1
        try:
            async for reply in self._follow(feed(), to_proto, allow_stale):
                yield reply
        finally:
            self._open -= 1

    async def _follow(
        self,
        feed: Feed[E],
        to_proto: Callable[[Happening[E]], Iterator[tuple[int, Wire]]],
        allow_stale: bool,
    ) -> AsyncIterator[tuple[list[Wire], int]]:
        loop = asyncio.get_running_loop()
        silent_since = loop.time()
        async for happenings, revision in feed:
            events = [event for one in happenings for event in to_proto(one)]
            for part in _parts(events, revision):
                yield part
            if events:
                silent_since = loop.time()
            elif loop.time() - silent_since > _PROGRESS_NOTICE_S:
                silent_since = loop.time()
                yield [], revision
            if not allow_stale and self._node.leadership.leader is None:
                raise self._node.leadership.not_leader()


def _parts(events: list[tuple[int, Wire]], reached: int) -> Iterator[tuple[list[Wire], int]]:
    """Events of one revision may be split over two parts: only the later one vouches for all of them."""
    part: list[Wire] = []
    size = 0
    for revision, event in events:
        if len(part) == _EVENTS_PER_REPLY or size >= _REPLY_BYTES:
            yield part, revision - 1
            part, size = [], 0
        part.append(event)
        size += event.ByteSize()
    if part:
        yield part, reached
