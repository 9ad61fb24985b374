"""What was decided of late, for those who want to know why: rounds, changes of parameters, second attempts
and what had to make room; and how single choices came about."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

import msgspec

from coordinator.scheduling.plans.assignments import Assignment


class RoundMade(msgspec.Struct, frozen=True, gc=False):
    """A round: `waiting` tasks were looked at, `placed` have got an agent, `kept` wait for a better one than
    is free, `unplaced` could not be placed, by reason. It took `duration_us`, and could have made `batch`
    choices."""

    waiting: int
    placed: int
    kept: int
    unplaced: dict[str, int]
    duration_us: int
    batch: int
    policy: str


class Adapted(msgspec.Struct, frozen=True, gc=False):
    """A parameter has another value; `because` is what was measured."""

    parameter: str
    before: float
    after: float
    because: str


class Moved(msgspec.Struct, frozen=True, gc=False):
    """Something other than an attempt of a waiting task: `what` is "rival", a second attempt, "preempt", one
    that has to go, or "recall", one that another agent gets, which has not begun."""

    what: str
    dag_id: str
    task_id: str
    attempt: int
    agent: str
    because: str


What = RoundMade | Adapted | Moved


class Logged(msgspec.Struct, frozen=True, gc=False):
    """An entry. `number` counts from 1."""

    number: int
    at_ms: int
    what: What


class DecisionLog:
    """The last `kept` entries."""

    def __init__(self, kept: int) -> None:
        self._entries: deque[Logged] = deque(maxlen=kept)
        self.last = 0
        """The number of the newest entry; 0 before the first."""

    def add(self, at_ms: int, what: What) -> None:
        """Something was decided."""
        self.last += 1
        self._entries.append(Logged(self.last, at_ms, what))

    def after(self, number: int, most: int) -> list[Logged]:
        """The first entries that are kept of those with a higher number, in order."""
        begin = max(number - (self.last - len(self._entries)), 0)
        return list(islice(self._entries, begin, begin + most))


AGENTS_COMPARED: Final = 1_000
"""For one choice, in the rate at which they are taken down."""


class Sampling:
    """How many choices may be taken down: `per_s` a second in the mean, as many at once after a pause."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._at_s = 0.0

    def left(self, now_s: float) -> int:
        """At this time. Clocks that jump give no more than a second's worth, those that go back nothing."""
        self._left = min(self._left + max(now_s - self._at_s, 0.0) * self._per_s, self._per_s)
        self._at_s = now_s
        return int(self._left)

    def use(self, taken: Sequence[Assignment]) -> None:
        """These were. What compares more agents than `AGENTS_COMPARED` counts for more in proportion."""
        self._left -= sum(max(1.0, one.considered / AGENTS_COMPARED) for one in taken)


class Assignments:
    """How the last `kept` choices came about that were taken down."""

    def __init__(self, kept: int) -> None:
        self._most = kept
        self._kept: OrderedDict[tuple[int, int], Assignment] = OrderedDict()

    def add(self, taken: Sequence[Assignment]) -> None:
        """These were."""
        for one in taken:
            self._kept[one.key, one.attempt] = one
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def rename(self, key: int, attempt: int, known_as: int) -> None:
        """The task of this attempt has another key now."""
        one = self._kept.pop((key, attempt), None)
        if one is not None:
            self.add([msgspec.structs.replace(one, key=known_as)])

    def get(self, key: int, attempt: int) -> Assignment | None:
        """Of this attempt, if it is known."""
        return self._kept.get((key, attempt))
