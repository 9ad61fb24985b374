"""The events of the last entries, kept in memory, and those who follow them.

A watcher is a cursor on the one bounded history, not a queue of its own: a slow one costs nothing, and
learns that it fell behind.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator
from typing import NamedTuple

from coordinator.core.outcome import Event
from coordinator.errors import RevisionCompacted


class Happening(NamedTuple):
    """The events of the entry at log index `revision`, made at `at_ms` by the leader's clock."""

    revision: int
    at_ms: int
    events: list[Event]


class EventHistory:
    """At most `max_events` events, of the newest entries. `applied` is the log index up to which all have
    been recorded."""

    def __init__(self, max_events: int, applied: int) -> None:
        self._max_events = max_events
        self._happenings: list[Happening] = []
        self._events = 0
        self._first = applied + 1
        self.applied = applied
        self._changed = asyncio.Event()

    def record(self, revision: int, at_ms: int, events: list[Event]) -> None:
        """Append what the entry at `revision` brought; revisions ascend."""
        self.applied = revision
        if events:
            self._happenings.append(Happening(revision, at_ms, events))
            self._events += len(events)
            if self._events > 2 * self._max_events:
                self._trim()
        self._wake()

    def restart(self, applied: int) -> None:
        """A snapshot has replaced the state at `applied`: what led there is not known."""
        self._happenings.clear()
        self._events = 0
        self._first = applied + 1
        self.applied = applied
        self._wake()

    def interrupt(self) -> None:
        """Let every follower take a turn, though nothing has happened."""
        self._wake()

    async def follow(self, from_revision: int) -> AsyncIterator[tuple[list[Happening], int]]:
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
                await self._changed.wait()

    def _position(self, revision: int) -> int:
        return bisect_left(self._happenings, revision, key=lambda one: one.revision)

    def _trim(self) -> None:
        drop = 0
        while self._events > self._max_events:
            self._events -= len(self._happenings[drop].events)
            self._first = self._happenings[drop].revision + 1
            drop += 1
        del self._happenings[:drop]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
