"""The workloads against spaces that keep their promises, that do not, and that do not answer: what clients
note is judged for what it was (A1, A2)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from agent_sdk import KvItem
from agent_sdk.errors import DeadlineExceeded, StaleVersion
from chaos.checking import promises
from chaos.checking.history import Event, History, Operation, Outcome, operations
from chaos.checking.models import QueueModel, RegisterModel
from chaos.checking.workloads import QueueWorkload, RegisterWorkload

CLIENTS, STEPS = 5, 60


class Space:
    """A key-value space in memory. Between the call, its effect and the answer, others have their turn."""

    def __init__(self, seed: int, silence: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.silence = silence
        """Share of calls that are not answered."""
        self.items: dict[str, KvItem] = {}
        self.version = 0

    async def put(self, key: str, value: bytes, *, expect: int | None = None) -> KvItem:
        return await self._call(lambda: self.do_put(key, value, expect))

    async def get(self, key: str) -> KvItem | None:
        return await self._call(lambda: self.do_get(key))

    async def delete(self, key: str, *, expect: int | None = None) -> bool:
        return await self._call(lambda: self.do_delete(key, expect))

    def do_put(self, key: str, value: bytes, expect: int | None) -> KvItem:
        self.demand(key, expect)
        self.version += 1
        self.items[key] = KvItem(key, value, self.version, self.version)
        return self.items[key]

    def do_get(self, key: str) -> KvItem | None:
        return self.items.get(key)

    def do_delete(self, key: str, expect: int | None) -> bool:
        self.demand(key, expect)
        return self.items.pop(key, None) is not None

    def demand(self, key: str, expect: int | None) -> None:
        current = self.items[key].version if key in self.items else 0
        if expect not in (None, current):
            raise StaleVersion("stale", fields={"current": str(current)})

    async def _call(self, effect: Callable[[], Any]) -> Any:
        await self._turns()
        if self.rng.random() < self.silence / 2:
            raise DeadlineExceeded("lost on the way there")
        answer = effect()
        await self._turns()
        if self.rng.random() < self.silence / 2:
            raise DeadlineExceeded("lost on the way back")
        return answer

    async def _turns(self) -> None:
        for _ in range(self.rng.randrange(4)):
            await asyncio.sleep(0)


class LosesWrites(Space):
    """Acknowledges a write now and then that it does not keep."""

    def do_put(self, key: str, value: bytes, expect: int | None) -> KvItem:
        before = self.items.get(key)
        item = super().do_put(key, value, expect)
        if before is not None and self.rng.random() < 0.05:
            self.items[key] = before
        return item


class ReadsOld(Space):
    """Answers a read now and then with what was there before the last write."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.old: dict[str, KvItem] = {}

    def do_put(self, key: str, value: bytes, expect: int | None) -> KvItem:
        before = self.items.get(key)
        item = super().do_put(key, value, expect)
        if before is not None:
            self.old[key] = before
        return item

    def do_get(self, key: str) -> KvItem | None:
        now = super().do_get(key)
        return self.old.get(key, now) if self.rng.random() < 0.1 else now


class ForgetsToCompare(Space):
    """Overlooks now and then that another version was expected."""

    def demand(self, key: str, expect: int | None) -> None:
        if self.rng.random() > 0.2:
            super().demand(key, expect)


class AppliesTwice(Space):
    """Carries a write out again later, as a retry does whose request id was forgotten."""

    def do_put(self, key: str, value: bytes, expect: int | None) -> KvItem:
        item = super().do_put(key, value, expect)
        if self.rng.random() < 0.05:
            asyncio.get_running_loop().call_soon(lambda: Space.do_put(self, key, value, None))
        return item


def history_of(space: Space, workload: type[RegisterWorkload] | type[QueueWorkload]) -> list[Operation]:
    """What several clients at once noted."""
    events: list[Event] = []
    ticks = count()
    history = History(lambda: float(next(ticks)), events.append)

    async def client(number: int) -> None:
        work = workload(space, history, f"c{number}", random.Random(f"{space.rng.random()}/{number}"))
        for _ in range(STEPS):
            await work.step()
        await work.finish()

    async def all_clients() -> None:
        await asyncio.gather(*(client(number) for number in range(CLIENTS)))

    asyncio.run(all_clients())
    return operations(events)


@pytest.mark.parametrize("seed", range(10))
def test_a_space_that_keeps_its_promises_passes(seed: int) -> None:
    space = Space(seed, silence=0.1)
    registers = history_of(space, RegisterWorkload)
    assert promises.linearizable("registers", registers, RegisterModel()).held
    assert promises.versions_grow(registers).held
    queue = history_of(space, QueueWorkload)
    assert promises.linearizable("queues", queue, QueueModel()).held


def test_all_that_can_come_of_an_operation_comes() -> None:
    for workload in (RegisterWorkload, QueueWorkload):
        outcomes = {operation.outcome for operation in history_of(Space(1, silence=0.2), workload)}
        assert outcomes == set(Outcome)


@pytest.mark.parametrize("broken", [LosesWrites, ReadsOld, ForgetsToCompare, AppliesTwice])
def test_a_space_that_breaks_one_is_found(broken: type[Space]) -> None:
    check = promises.linearizable("registers", history_of(broken(1), RegisterWorkload), RegisterModel())
    assert not check.held
    assert "cannot be placed" in check.found


@pytest.mark.parametrize("broken", [LosesWrites, ForgetsToCompare, AppliesTwice])
def test_a_queue_on_it_is_found_too(broken: type[Space]) -> None:
    check = promises.linearizable("queues", history_of(broken(2), QueueWorkload), QueueModel())
    assert not check.held


def test_a_history_without_any_success_is_no_pass() -> None:
    history = history_of(Space(1, silence=2.0), RegisterWorkload)
    check = promises.linearizable("registers", history, RegisterModel())
    assert not check.held
    assert "0 ok" in check.found


def test_versions_that_are_given_twice_or_go_back_over_keys_are_found() -> None:
    def put(key: str, version: int, invoked: float, completed: float) -> Operation:
        return Operation("c", "put", key, ("v", None), invoked, completed, Outcome.OK, version)

    twice = promises.versions_grow([put("a", 5, 0, 2), put("b", 5, 1, 3)])
    assert (twice.held, twice.found) == (False, "versions: 5 given 2 times")
    back = promises.versions_grow([put("a", 5, 0, 1), put("b", 4, 2, 3)])
    assert not back.held
    assert "4 given after 5" in back.found
    assert promises.versions_grow([put("a", 5, 0, 2), put("b", 4, 1, 3)]).held
