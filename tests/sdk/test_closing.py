"""A client that is closed while another thread waits in it says so with an error of its own tree."""

from __future__ import annotations

import asyncio
import threading

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
