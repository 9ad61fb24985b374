"""How long a node has been at each stage of its work: where to begin when it should be faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

STAGES: Final = (
    "parse",
    "validate",
    "propose",
    "replicate",
    "sync",
    "apply",
    "encode",
    "place",
    "push",
)
"""In the order in which a submission meets them: messages are taken apart; DAGs checked and laid out;
commands made an entry; entries sent to followers; synced; applied; what they change written to the store;
agents chosen; agents told."""


class Stage:
    """One stage: how often, and how many seconds in all. It is entered again only after it was left, and
    never across an `await`: else it would count what others do meanwhile."""

    __slots__ = ("_began_s", "_timer", "seconds", "times")

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._began_s = 0.0
        self.seconds = 0.0
        self.times = 0

    def __enter__(self) -> None:
        self._began_s = self._timer()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.took(self._timer() - self._began_s)

    def took(self, seconds: float) -> None:
        """Once more, for so long."""
        self.seconds += seconds
        self.times += 1


class Stages:
    """All stages of a node, by name. `timer` gives monotonic seconds."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self.timer = timer
        self._stages = {name: Stage(timer) for name in STAGES}

    def __getitem__(self, name: str) -> Stage:
        return self._stages[name]

    def counters(self) -> dict[str, float]:
        """Of each stage the times and the microseconds, as `NodeStatus.counters` has them."""
        return {
            f"stage_{name}_{what}": value
            for name, stage in self._stages.items()
            for what, value in (("times", float(stage.times)), ("us", round(stage.seconds * 1e6, 1)))
        }
