"""The leader's time and what it does when a time has come (B4, F2): never back, never twice, tolerant of a
clock that is set."""

from __future__ import annotations

import asyncio

import uvloop

from coordinator.core.commands import Command, ExpireAttempts, LoseAgents, WakeTasks
from coordinator.replica import timers as timers_module
from coordinator.replica.clock import TermClock
from coordinator.replica.timers import Timers


class Hands:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.at_ms = 1_000

    def now_ms(self) -> int:
        return self.at_ms


async def test_a_term_goes_on_from_the_replicated_time_when_the_wall_clock_is_behind():
    clock = TermClock(lambda: 5_000)
    assert 5_000 <= clock.now_ms() < 6_000
    clock.anchor(at_least_ms=90_000)
    assert 90_000 <= clock.now_ms() < 91_000
    clock.anchor(at_least_ms=1)
    assert 5_000 <= clock.now_ms() < 6_000


async def test_a_step_of_the_wall_clock_within_a_term_changes_nothing():
    wall = [10_000]
    clock = TermClock(lambda: wall[0])
    wall[0] = 5
    assert clock.now_ms() >= 10_000


def running(key: int, attempt: int) -> bool:
    """No attempt has ended."""
    return True


class Fired(list[Command]):
    """What fired; `count` waits for so many."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def append(self, command: Command) -> None:
        super().append(command)
        self._changed.set()

    async def count(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self) < count:
                self._changed.clear()
                await self._changed.wait()


async def test_what_is_due_fires_once_in_one_command_of_its_kind():
    fired = Fired()
    clock = Hands()
    timers = Timers(clock, fired.append, running)
    timers.wake_at(900, 7)
    timers.wake_at(1_000, 8)
    timers.wake_at(10**9, 9)
    timers.expire_at(500, 3, 2)
    timers.lose_at(999, "r1", 4)
    await fired.count(3)
    assert fired == [
        WakeTasks([7, 8]),
        ExpireAttempts([(3, 2)]),
        LoseAgents([("r1", 4)], "its agent was lost"),
    ]
    timers.stop()


async def test_an_earlier_time_overtakes_a_later_one():
    fired = Fired()
    timers = Timers(Hands(), fired.append, running)
    timers.wake_at(1_000 + 600_000, 1)
    timers.wake_at(1_001, 2)
    timers._clock.at_ms = 1_002
    await fired.count(1)
    assert fired == [WakeTasks([2])]
    timers.stop()


async def test_nothing_fires_after_the_term_is_over():
    fired = Fired()
    timers = Timers(Hands(), fired.append, running)
    timers.wake_at(0, 1)
    timers.stop()
    timers.wake_at(0, 2)
    await asyncio.sleep(0.01)
    assert fired == []


async def test_attempts_that_have_ended_are_forgotten(monkeypatch):
    """Long before their timeout would have come, so that what is kept goes by what runs (F2)."""
    monkeypatch.setattr(timers_module, "_FEW", 4)
    fired, clock, live = Fired(), Hands(), {(1, 1), (2, 1)}
    timers = Timers(clock, fired.append, lambda key, attempt: (key, attempt) in live)
    for key in range(1, 1_000):
        timers.expire_at(600_000 - key, key, 1)
    assert len(timers._expiries) <= 4
    live.remove((2, 1))
    timers.expire_at(500, 2, 1)
    timers.expire_at(501, 1, 1)
    await fired.count(1)
    assert fired == [ExpireAttempts([(1, 1)])]
    timers.stop()


async def test_many_that_are_due_at_once_make_several_bounded_commands():
    fired = Fired()
    timers = Timers(Hands(), fired.append, running)
    for key in range(2_500):
        timers.wake_at(0, key)
    await fired.count(3)
    assert [len(command.keys) for command in fired] == [1_000, 1_000, 500]
    timers.stop()


def test_times_that_have_come_already_fire_on_the_loop_that_nodes_run_on():
    async def two_at_once() -> list[Command]:
        fired = Fired()
        timers = Timers(Hands(), fired.append, running)
        timers.wake_at(500, key=1)
        timers.wake_at(400, key=2)
        await fired.count(1)
        return fired

    assert uvloop.run(two_at_once()) == [WakeTasks([2, 1])]
