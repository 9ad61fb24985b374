"""Reads that wait for proof that this node still leads (ReadIndex: Ongaro's thesis, 6.4)."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.errors import NotLeader, QueueFull

ReadDone = Callable[[int | Exception], None]
"""Takes the index up to which the state must be applied before it is read, or why there is none."""


class ReadQueue:
    """Reads in batches: while one round of messages is under way, those that arrive wait for the next."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: list[ReadDone] = []
        self._asked: list[ReadDone] = []
        self._seq = 0

    def add(self, done: ReadDone) -> None:
        """A read arrives. Raises QueueFull."""
        if len(self._waiting) >= self._limit:
            raise QueueFull(
                f"{self._limit} reads wait for the leader's majority already (setting max_waiting_reads); "
                "retry later",
                retry_after_ms=50,
                setting="max_waiting_reads",
                limit=self._limit,
            )
        self._waiting.append(done)

    @property
    def asked(self) -> bool:
        """Whether a round of messages is under way for reads."""
        return bool(self._asked)

    def wants_round(self) -> bool:
        """Whether a round of messages should go out now."""
        return bool(self._waiting) and not self._asked

    def round_begins(self, seq: int) -> None:
        """Messages of round `seq` are going out to everybody; answers to it prove what the waiting reads
        need."""
        if not self._asked:
            self._asked, self._waiting = self._waiting, []
            self._seq = seq

    def confirm(self, seq: int, index: int) -> None:
        """A majority has answered round `seq` or a later one; everything up to `index` is committed."""
        if self._asked and seq >= self._seq:
            answered, self._asked = self._asked, []
            for done in answered:
                done(index)

    def fail(self, error: NotLeader) -> None:
        """This node does not lead any more."""
        failed = self._asked + self._waiting
        self._asked, self._waiting = [], []
        for done in failed:
            done(error)
