"""What is let through in a turn of the event loop."""

from __future__ import annotations

import asyncio

from coordinator.api.turnstile import Turnstile

MOST = 3


async def turns_of(names: list[str], turnstile: Turnstile) -> dict[str, int]:
    """In which turn each of these tasks, which all ask in the first one, is let through."""
    turn, passed, over = 0, dict[str, int](), asyncio.Event()

    def count() -> None:
        nonlocal turn
        turn += 1
        if not over.is_set():
            asyncio.get_running_loop().call_soon(count)

    async def one(name: str) -> None:
        await turnstile.enter()
        passed[name] = turn

    tasks = [asyncio.create_task(one(name)) for name in names]
    count()
    await asyncio.gather(*tasks)
    over.set()
    return passed


async def test_few_pass_at_once() -> None:
    assert set((await turns_of(["a", "b", "c"], Turnstile(MOST))).values()) == {1}


async def test_many_pass_in_the_order_in_which_they_came_and_few_in_a_turn() -> None:
    names = [f"{number:02}" for number in range(4 * MOST + 1)]

    passed = await turns_of(names, Turnstile(MOST))

    assert list(passed) == names
    turns = list(passed.values())
    assert turns == sorted(turns)
    assert max(turns.count(turn) for turn in turns) == MOST


async def test_whoever_comes_while_others_wait_comes_after_them() -> None:
    turnstile, passed = Turnstile(1), list[str]()

    async def one(name: str) -> None:
        await turnstile.enter()
        passed.append(name)
        if name == "a":
            await asyncio.sleep(0)
            await one("late")

    await asyncio.gather(*(one(name) for name in "abc"))
    assert passed == ["a", "b", "c", "late"]


async def test_those_who_give_up_take_no_room() -> None:
    turnstile = Turnstile(1)
    first, *gives_up, last = [asyncio.create_task(turnstile.enter()) for _ in range(4)]
    await first
    for one in gives_up:
        one.cancel()
    await asyncio.wait_for(last, timeout=5)
    assert all(one.cancelled() for one in gives_up)


async def test_a_turn_in_which_nobody_came_leaves_room_for_the_next() -> None:
    turnstile = Turnstile(1)
    for _ in range(3):
        await turnstile.enter()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert set((await turns_of(["a"], turnstile)).values()) == {1}
