"""A client that is closed while another thread waits in it says so with an error of its own tree."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator

import pytest

from agent_sdk._loop_thread import LoopThread
from agent_sdk.errors import WrongState


def test_whoever_waits_when_it_is_closed_is_told() -> None:

    loop = LoopThread("closing")
    waiting = threading.Event()
    told: list[Exception] = []

    async def for_ever() -> None:
        waiting.set()
        await asyncio.get_running_loop().create_future()

    def wait() -> None:
        try:
            loop.run(for_ever())
        except WrongState as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(5)
    loop.stop()
    thread.join(5)
    assert len(told) == 1
    with pytest.raises(WrongState):
        loop.run(for_ever())


def test_what_comes_while_it_closes_is_refused() -> None:
    loop = LoopThread("closing")
    waiting, closing, go_on = threading.Event(), threading.Event(), threading.Event()

    async def slow_to_end() -> None:
        try:
            waiting.set()
            await asyncio.get_running_loop().create_future()
        finally:
            closing.set()
            go_on.wait(5)

    async def items() -> AsyncGenerator[int, None]:
        yield 1

    def wait() -> None:
        with pytest.raises(WrongState):
            loop.run(slow_to_end())

    threads = [threading.Thread(target=wait), threading.Thread(target=loop.stop)]
    threads[0].start()
    assert waiting.wait(5)
    threads[1].start()
    assert closing.wait(5)
    with pytest.raises(WrongState):
        loop.run(slow_to_end())
    with pytest.raises(WrongState):
        next(loop.iterate(items()))
    go_on.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
