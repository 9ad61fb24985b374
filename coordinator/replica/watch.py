"""The events of the last entries, kept in memory, and those who follow them.

A watcher is a cursor on one bounded history, not a queue of its own: a slow one costs nothing, and learns
that it fell behind. A node keeps two histories: one of its work, numbered by log index, and one of the
key-value space, numbered by version, so that neither pushes out the other.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from coordinator.core.outcome import KvEvent
from coordinator.errors import RevisionCompacted

E = TypeVar("E")

KV_EVENT_OVERHEAD: Final = 200
"""Bytes that a change of a key takes in memory beside key and value."""


class Happening(msgspec.Struct, Generic[E], frozen=True, gc=False):
    """The events of one entry, made at `at_ms` by the leader's clock. `revision` is the log index of the
    entry, or for the key-value space the version of its last change."""

    revision: int
    at_ms: int
    events: tuple[E, ...]


class EventHistory(Generic[E]):
    """Events of the newest entries: at least those that together weigh `capacity`, and at most twice that.
    `applied` is the revision up to which all have been recorded."""

    def __init__(self, capacity: int, applied: int, *, weigh: Callable[[Sequence[E]], int] = len) -> None:
        self._capacity = capacity
        self._weigh = weigh
        self._happenings: list[Happening[E]] = []
        self._weight = 0
        self._first = applied + 1
        self.applied = applied
        self._changed: asyncio.Event | None = None

    def record(self, revision: int, at_ms: int, events: Sequence[E]) -> None:
        """Append what the entry at `revision` brought; revisions ascend."""
        self.applied = revision
        if events:
            self._happenings.append(Happening(revision, at_ms, tuple(events)))
            self._weight += self._weigh(events)
            if self._weight > 2 * self._capacity:
                self._trim()
        self._wake()

    def restart(self, applied: int) -> None:
        """A snapshot has replaced the state at `applied`: what led there is not known."""
        self._happenings.clear()
        self._weight = 0
        self._first = applied + 1
        self.applied = applied
        self._wake()

    def interrupt(self) -> None:
        """Let every follower take a turn, though nothing has happened."""
        self._wake()

    async def follow(self, from_revision: int) -> AsyncIterator[tuple[list[Happening[E]], int]]:
        """Happenings from a revision on (0: from now on), in runs that may be empty, each with the
        revision up to which nothing is missing.

        Raises:
            RevisionCompacted: the history no longer reaches back that far, at the start or because the
            follower was too slow.
        """
        cursor = from_revision or self.applied + 1
        while True:
            if cursor < self._first:
                raise RevisionCompacted(
                    f"events from revision {cursor} on were asked for, the oldest kept are of {self._first}",
                    asked=cursor,
                    oldest=self._first,
                )
            run, reached = self._happenings[self._position(cursor) :], self.applied
            yield run, reached
            cursor = max(cursor, reached + 1)
            if self.applied == reached:
                self._changed = self._changed or asyncio.Event()
                await self._changed.wait()

    def _position(self, revision: int) -> int:
        return bisect_left(self._happenings, revision, key=lambda one: one.revision)

    def _trim(self) -> None:
        drop = 0
        while self._weight > self._capacity:
            self._weight -= self._weigh(self._happenings[drop].events)
            self._first = self._happenings[drop].revision + 1
            drop += 1
        del self._happenings[:drop]

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def kv_weight(events: Sequence[KvEvent]) -> int:
    """Bytes that changes of keys take in memory."""
    return sum(KV_EVENT_OVERHEAD + len(one.key) + len(one.value or b"") for one in events)
