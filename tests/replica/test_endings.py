"""Waiting for the end of a DAG: told once, and never left waiting (G1)."""

from __future__ import annotations

import asyncio

from coordinator.replica.endings import NOT_KNOWN, Endings

WAIT_S = 60.0


async def waits(endings: Endings, *numbers: int) -> list[asyncio.Task[bool]]:
    """Calls that wait for DAGs of these numbers."""
    calls = [asyncio.create_task(endings.wait(number, WAIT_S)) for number in numbers]
    await asyncio.sleep(0)
    return calls


async def test_an_end_is_told_to_all_who_wait_for_it_and_to_nobody_else() -> None:
    endings = Endings()
    first, again, other = await waits(endings, 1, 1, 2)
    endings.ended([7, 1], 5)
    assert (await first, await again) == (True, True)
    assert not other.done()
    endings.ended([2], 6)
    assert await other


async def test_who_has_waited_long_enough_is_told_that_it_has_not_ended() -> None:
    endings = Endings()
    assert not await endings.wait(1, 0.001)
    endings.ended([1], 5)


async def test_all_are_sent_to_look_again_when_this_node_may_not_know() -> None:
    endings = Endings()
    calls = await waits(endings, 1, 2)
    endings.interrupt()
    endings.ended([1], 5)
    assert await asyncio.gather(*calls) == [False, False]


async def test_a_call_that_is_cancelled_leaves_the_others_waiting() -> None:
    endings = Endings()
    first, second = await waits(endings, 1, 1)
    first.cancel()
    await asyncio.wait({first})
    endings.ended([1], 5)
    assert await second


async def test_a_listener_is_told_once_and_at_which_revision() -> None:
    endings, told = Endings(), list[int]()
    leave = endings.listen(1, WAIT_S, told.append)
    endings.ended([1], 5)
    endings.ended([1], 6)
    endings.interrupt()
    leave()
    assert told == [5]


async def test_a_listener_that_has_left_is_not_told() -> None:
    endings, told, others = Endings(), list[int](), list[int]()
    leave = endings.listen(1, 0.001, told.append)
    endings.listen(1, 0.001, others.append)
    leave()
    assert not await endings.wait(1, 0.01)
    endings.ended([1], 5)
    assert (told, others) == ([], [NOT_KNOWN])
