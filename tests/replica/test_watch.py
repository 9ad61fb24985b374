"""Watchers are cursors on one bounded history: nothing is skipped, a slow one learns that it fell behind
(G3, B6)."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.core.model import DagState
from coordinator.core.outcome import DagEvent
from coordinator.errors import RevisionCompacted
from coordinator.replica.watch import EventHistory


def event(number: int) -> list[DagEvent]:
    return [DagEvent(f"dag-{number}", DagState.RUNNING)]


async def take(history: EventHistory, from_revision: int, until: int) -> list[int]:
    """The revisions that a follower sees, up to `until`."""
    seen: list[int] = []
    async for run, reached in history.follow(from_revision):
        seen += [one.revision for one in run]
        if reached >= until:
            return seen
    return seen


async def test_a_follower_sees_everything_once_and_in_order():
    history = EventHistory(100, applied=10)
    following = asyncio.create_task(take(history, 11, 30))
    for revision in range(11, 31):
        history.record(revision, 0, event(revision))
        if revision % 3 == 0:
            await asyncio.sleep(0)
    assert await following == list(range(11, 31))


async def test_it_resumes_from_any_revision_that_is_kept():
    history = EventHistory(100, applied=0)
    for revision in range(1, 21):
        history.record(revision, 0, event(revision) if revision % 2 else [])
    assert await take(history, 8, 20) == [9, 11, 13, 15, 17, 19]
    assert await take(history, 0, 20) == []


async def test_what_is_no_longer_kept_is_said_and_never_skipped():
    history = EventHistory(4, applied=0)
    for revision in range(1, 12):
        history.record(revision, 0, event(revision))
    with pytest.raises(RevisionCompacted, match="oldest"):
        await take(history, 1, 11)
    oldest = 11
    while True:
        try:
            seen = await take(history, oldest - 1, 11)
        except RevisionCompacted:
            break
        oldest -= 1
        assert seen == list(range(oldest, 12))
    assert 4 <= 12 - oldest <= 8


async def test_a_slow_follower_is_told_in_the_middle():
    history = EventHistory(2, applied=0)
    follower = history.follow(1)
    history.record(1, 0, event(1))
    run, _ = await anext(follower)
    assert [one.revision for one in run] == [1]
    for revision in range(2, 20):
        history.record(revision, 0, event(revision))
    with pytest.raises(RevisionCompacted):
        await anext(follower)


async def test_a_snapshot_starts_the_history_anew():
    history = EventHistory(100, applied=0)
    history.record(1, 0, event(1))
    history.restart(50)
    with pytest.raises(RevisionCompacted):
        await take(history, 2, 50)
    history.record(51, 0, event(51))
    assert await take(history, 51, 51) == [51]


async def test_an_interrupt_gives_followers_a_turn():
    history = EventHistory(100, applied=5)
    follower = history.follow(0)
    await anext(follower)
    turn = asyncio.create_task(anext(follower))
    await asyncio.sleep(0)
    history.interrupt()
    assert await turn == ([], 5)
