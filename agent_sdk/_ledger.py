"""What an agent holds, and what it has yet to tell of it. Pure bookkeeping: no I/O, no clock.

An attempt is held from its assignment until the coordinator has acknowledged its end. What is to be told is
kept with the attempt, not as a queue of messages: a new session simply tells everything again, and what
changed often is told once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Final

from quorumflow_proto.v1 import agent_pb2

REPORTS_BYTES: Final = 1 << 20
"""A message of reports is closed when it has reached this size."""

Key = tuple[int, int]
"""A fence: the coordinator's number of the task, and the attempt's."""


def key_of(fence: agent_pb2.Fence) -> Key:
    """The fence as something to look up by."""
    return fence.key, fence.attempt


class Phase(Enum):
    """Where an attempt is."""

    QUEUED = auto()
    RUNNING = auto()
    ENDED = auto()


class News:
    """What may be told of an attempt, in the order in which it is told: bits of an integer, plain because two
    or three of them are set for every attempt."""

    STARTED: Final = 1
    PROGRESS: Final = 2
    CHECKPOINT: Final = 4
    ENDED: Final = 8


class Attempt:
    """One attempt that this agent holds. `stopped` is set when it should end early, for `stop_reason`."""

    __slots__ = (
        "assignment",
        "checkpoint",
        "ended",
        "key",
        "phase",
        "progress",
        "progress_is_due",
        "stop_reason",
        "stopped",
        "untold",
    )

    def __init__(self, assignment: agent_pb2.Assignment) -> None:
        self.assignment = assignment
        self.key = key_of(assignment.fence)
        self.phase = Phase.QUEUED
        self.untold = 0
        self.progress: agent_pb2.Progress | None = None
        self.progress_is_due = False
        self.checkpoint: bytes | None = None
        self.ended: agent_pb2.Ended | None = None
        self.stopped = asyncio.Event()
        self.stop_reason = ""

    def known(self) -> int:
        """All that there is to tell of it so far."""
        news = 0
        if self.phase is Phase.ENDED:
            news |= News.ENDED
        elif self.phase is Phase.RUNNING:
            news |= News.STARTED
            if self.progress is not None:
                news |= News.PROGRESS
        if self.checkpoint is not None:
            news |= News.CHECKPOINT
        return news

    def reports(self) -> Iterable[agent_pb2.TaskReport]:
        """What is untold, as reports; it counts as told from then on."""
        news, self.untold = self.untold, 0
        fence = self.assignment.fence
        if news & News.STARTED:
            yield agent_pb2.TaskReport(fence=fence, started=agent_pb2.Started())
        if news & News.PROGRESS:
            self.progress_is_due = False
            yield agent_pb2.TaskReport(fence=fence, progress=self.progress)
        if news & News.CHECKPOINT:
            checkpoint = agent_pb2.Checkpoint(state=self.checkpoint or b"")
            yield agent_pb2.TaskReport(fence=fence, checkpoint=checkpoint)
        if news & News.ENDED:
            yield agent_pb2.TaskReport(fence=fence, ended=self.ended)


class Ledger:
    """All attempts that this agent holds, in the order of their assignment. `on_news` is called when
    something is to be told, `on_end` when it is an end, `on_begun` when `tell_begun` should be called in a
    while, `on_ack` when the coordinator has acknowledged ends."""

    def __init__(
        self,
        on_news: Callable[[], None],
        on_begun: Callable[[], None],
        on_ack: Callable[[], None],
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._on_news = on_news
        self._on_end = on_end or on_news
        self._on_begun = on_begun
        self._on_ack = on_ack
        self._held: dict[Key, Attempt] = {}
        self._with_news: dict[Key, Attempt] = {}
        self._begun: dict[Key, Attempt] = {}
        """Those that have begun since `tell_begun`,"""
        self._running: dict[Key, Attempt] = {}
        """and those that had begun then: neither is told yet."""
        self._unanswered: set[Key] = set()
        """Those whose end has been told in this session, and is not acknowledged."""
        self._asked = False
        """Whether `on_begun` was called, and `tell_begun` not since."""

    def accept(self, assignment: agent_pb2.Assignment) -> Attempt | None:
        """Hold a new attempt; None if it is held already."""
        attempt = Attempt(assignment)
        if attempt.key in self._held:
            return None
        self._held[attempt.key] = attempt
        return attempt

    def find(self, fence: agent_pb2.Fence) -> Attempt | None:
        """The attempt of this fence, if it is held."""
        return self._held.get(key_of(fence))

    def fences(self) -> list[agent_pb2.Fence]:
        """Of all that is held."""
        return [attempt.assignment.fence for attempt in self._held.values()]

    @property
    def untold(self) -> int:
        """Attempts of which there is something to tell."""
        return len(self._with_news)

    @property
    def unanswered(self) -> int:
        """Ends that have been told in this session and are not acknowledged."""
        return len(self._unanswered)

    @property
    def settled(self) -> bool:
        """Whether every end has been acknowledged."""
        return all(attempt.phase is not Phase.ENDED for attempt in self._held.values())

    def start(self, attempt: Attempt) -> None:
        """The attempt runs. Of one that ends before this is told, the end says it too."""
        attempt.phase = Phase.RUNNING
        attempt.untold |= News.STARTED
        self._begun[attempt.key] = attempt
        if not self._asked:
            self._asked = True
            self._on_begun()

    def tell_begun(self) -> None:
        """Have it reported of all that had begun at the call before this one, and still runs."""
        running, self._running, self._begun = self._running, self._begun, {}
        for attempt in running.values():
            if attempt.untold & News.STARTED:
                self.tell(attempt, News.STARTED)
        self._asked = bool(self._running)
        if self._asked:
            self._on_begun()

    def end(self, attempt: Attempt, ended: agent_pb2.Ended) -> None:
        """The attempt has come to its end."""
        attempt.phase = Phase.ENDED
        attempt.ended = ended
        if self._begun.pop(attempt.key, None) or self._running.pop(attempt.key, None):
            attempt.untold &= ~News.STARTED
        attempt.untold |= News.ENDED
        self._with_news[attempt.key] = attempt
        self._on_end()

    def never_came(self, fence: agent_pb2.Fence, ended: agent_pb2.Ended) -> None:
        """An attempt is to stop that is not here: it was taken away before it was sent. The coordinator keeps
        its place on this agent until its end is told."""
        attempt = self.accept(agent_pb2.Assignment(fence=fence))
        if attempt is not None:
            self.end(attempt, ended)

    def tell(self, attempt: Attempt, news: int) -> None:
        """Have the news reported. After its end nothing else is worth telling of an attempt."""
        if attempt.phase is Phase.ENDED:
            return
        attempt.untold |= news
        self._with_news[attempt.key] = attempt
        self._on_news()

    def tell_everything(self) -> None:
        """A new session has begun: what the one before it carried may not have been recorded."""
        self._begun.clear()
        self._running.clear()
        self._unanswered.clear()
        for attempt in self._held.values():
            attempt.untold = attempt.known()
            if attempt.untold:
                self._with_news[attempt.key] = attempt
        self._on_news()

    def take_reports(self) -> agent_pb2.Reports | None:
        """The next message of reports; None when there is nothing to tell."""
        if not self._with_news:
            return None
        reports: list[agent_pb2.TaskReport] = []
        size = 0
        while self._with_news and size < REPORTS_BYTES:
            attempt = self._with_news.pop(next(iter(self._with_news)))
            if attempt.phase is Phase.ENDED:
                self._unanswered.add(attempt.key)
            for report in attempt.reports():
                reports.append(report)
                size += report.ByteSize()
        return agent_pb2.Reports(reports=reports)

    def acknowledge(self, fences: Iterable[agent_pb2.Fence]) -> None:
        """The ends of these attempts are recorded, or refused as stale: forget them."""
        for fence in fences:
            attempt = self.find(fence)
            if attempt is not None and attempt.phase is Phase.ENDED:
                del self._held[attempt.key]
                self._with_news.pop(attempt.key, None)
                self._unanswered.discard(attempt.key)
        self._on_ack()
