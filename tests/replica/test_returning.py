"""Whom a new leader gives up, and when (F2, F4): nobody while agents still come back one after the other, and
in the end everybody who is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.defects import Defects
from coordinator.replica.returning import Returning

BEGIN_S = 100.0
GRACE_S, LIMIT_S = 3.0, 30.0
OLD, NEW = 7, 8


class Clock(asyncio.AbstractEventLoop):
    """A loop whose time the test moves."""

    def __init__(self) -> None:
        self.now_s = BEGIN_S
        self._due: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, **_: Any
    ) -> asyncio.TimerHandle:
        self._due.append(asyncio.TimerHandle(when, callback, args, self))
        return self._due[-1]

    def move_to(self, at_s: float) -> None:
        """Let so many seconds have passed since the beginning; what becomes due is called at its time."""
        while due := [one for one in self._due if one.when() <= BEGIN_S + at_s]:
            first = min(due)
            self._due.remove(first)
            self.now_s = first.when()
            if not first.cancelled():
                first._run()
        self.now_s = BEGIN_S + at_s

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays until it is due."""


class Story:
    """A new leader that waits for agents a0, a1, ...; `lost` says when it has given up whom."""

    def __init__(self, agents: int, limit_s: float = LIMIT_S) -> None:
        self.clock = Clock()
        self.lost: dict[str, float] = {}
        self.returning = Returning(self._lose, Defects(), grace_s=GRACE_S, limit_s=limit_s, loop=self.clock)
        self.returning.begin({f"a{number}": OLD for number in range(agents)})

    def connected(self, number: int, at_s: float, epoch: int = NEW) -> None:
        self.clock.move_to(at_s)
        self.returning.connected(f"a{number}", epoch)

    def _lose(self, agent: str, epoch: int) -> None:
        assert epoch == OLD
        self.lost[agent] = round(self.clock.now_s - BEGIN_S, 1)


def test_who_does_not_come_back_is_lost_when_its_time_is_over() -> None:
    story = Story(3)
    story.connected(0, at_s=0.1)
    story.connected(1, at_s=0.2)
    story.clock.move_to(60)
    assert story.lost == {"a2": GRACE_S}


def test_nobody_is_lost_while_others_still_come_back() -> None:
    story = Story(12)
    for number in range(10):
        story.connected(number, at_s=0.9 * (number + 1))
    assert story.lost == {}
    story.clock.move_to(60)
    assert story.lost == {"a10": 10.5, "a11": 10.5}


def test_many_have_more_time_than_few() -> None:
    story = Story(2_000)
    story.clock.move_to(GRACE_S + 1.9)
    assert story.lost == {}
    story.clock.move_to(GRACE_S + 2.1)
    assert len(story.lost) == 2_000


def test_who_comes_back_late_is_not_lost() -> None:
    story = Story(8)
    for number in range(8):
        story.connected(number, at_s=0.9 * (number + 1))
    story.clock.move_to(60)
    assert story.lost == {}


def test_many_have_no_more_time_than_there_is() -> None:
    story = Story(9_000, limit_s=5.0)
    story.clock.move_to(60)
    assert set(story.lost.values()) == {5.0}


def test_there_is_an_end_to_it() -> None:
    story = Story(100, limit_s=5.0)
    for number in range(20):
        story.connected(number, at_s=0.5 * number)
    assert set(story.lost) == {f"a{number}" for number in range(10, 100)}
    assert set(story.lost.values()) == {5.0}


@pytest.mark.parametrize("limit_s", [0.001, GRACE_S])
def test_everybody_has_the_time_that_is_set(limit_s: float) -> None:
    story = Story(2, limit_s)
    story.connected(0, at_s=2.9)
    story.clock.move_to(60)
    assert story.lost == {"a1": GRACE_S}


def test_a_change_to_an_agent_that_has_no_new_session_is_no_return() -> None:
    """As when an operator drains it."""
    story = Story(2)
    story.connected(0, at_s=2.9, epoch=OLD)
    story.connected(0, at_s=2.95, epoch=OLD)
    story.clock.move_to(60)
    assert story.lost == {"a0": GRACE_S, "a1": GRACE_S}


def test_a_term_that_is_over_loses_nobody() -> None:
    story = Story(1)
    story.returning.stop()
    story.clock.move_to(60)
    assert story.lost == {}
