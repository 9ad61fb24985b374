"""When an agent tells ends (F3): at once where nothing is behind them, together where more are."""

from __future__ import annotations

import asyncio

from agent_sdk._gathering import ENOUGH, Gathering
from agent_sdk._ledger import Ledger
from quorumflow_proto.v1 import agent_pb2


class Desk:
    """An agent's bookkeeping, with `queued` attempts that wait for a slot; `calls` counts how often it was
    asked to tell."""

    def __init__(self, queued: int = 1) -> None:
        self.queued = queued
        self.calls = 0
        self.called = asyncio.Event()
        self.ledger = Ledger(
            on_news=self._tell,
            on_begun=lambda: None,
            on_ack=self._answered,
            on_end=self._ended,
        )
        self.gathering = Gathering(self.ledger, lambda: self.queued, self._tell)

    def _tell(self) -> None:
        self.calls += 1
        self.called.set()

    def _answered(self) -> None:
        self.gathering.answered()

    def _ended(self) -> None:
        self.gathering.ended()

    def end(self, *keys: int) -> None:
        for key in keys:
            attempt = self.ledger.accept(agent_pb2.Assignment(fence=agent_pb2.Fence(key=key, attempt=1)))
            assert attempt is not None
            self.ledger.start(attempt)
            self.ledger.end(attempt, agent_pb2.Ended())

    def send(self) -> list[int]:
        message = self.ledger.take_reports()
        return [] if message is None else [one.fence.key for one in message.reports]

    def acknowledge(self, *keys: int) -> None:
        self.ledger.acknowledge([agent_pb2.Fence(key=key, attempt=1) for key in keys])


async def test_the_first_end_waits_a_moment_for_those_behind_it_and_they_for_the_answer() -> None:
    desk = Desk()
    desk.end(1)
    assert desk.calls == 0
    await asyncio.wait_for(desk.called.wait(), 10)
    assert (desk.calls, desk.send()) == (1, [1])
    desk.end(2, 3)
    assert desk.calls == 1
    desk.acknowledge(1)
    assert desk.calls == 2
    assert desk.send() == [2, 3]
    desk.acknowledge(2, 3)
    assert desk.calls == 2, "there is nothing to tell"


async def test_the_last_end_of_what_was_queued_takes_along_those_before_it() -> None:
    desk = Desk()
    desk.end(1, 2)
    assert desk.calls == 0
    desk.queued = 0
    desk.end(3)
    assert (desk.calls, desk.send()) == (1, [1, 2, 3])


async def test_who_has_nothing_queued_tells_at_once() -> None:
    desk = Desk(queued=0)
    desk.end(1)
    desk.send()
    desk.end(2)
    assert desk.calls == 2
    desk.queued = 1
    desk.end(3)
    assert desk.calls == 2
    desk.queued = 0
    desk.end(4)
    assert desk.calls == 3
    assert desk.send() == [2, 3, 4]


async def test_many_are_told_without_an_answer() -> None:
    desk = Desk()
    desk.end(0)
    desk.send()
    desk.end(*range(1, ENOUGH))
    assert desk.calls == 0
    desk.end(ENOUGH)
    assert desk.calls == 1


async def test_no_end_waits_for_long_though_no_answer_comes() -> None:
    desk = Desk()
    desk.end(1)
    desk.send()
    desk.called.clear()
    desk.end(2)
    await asyncio.wait_for(desk.called.wait(), 10)
    assert desk.send() == [2]


async def test_in_a_new_session_nothing_is_unanswered() -> None:
    desk = Desk()
    desk.end(1)
    desk.send()
    desk.ledger.tell_everything()
    assert desk.ledger.unanswered == 0
    assert desk.send() == [1]
    assert desk.ledger.unanswered == 1
