"""How deep an agent's queue may be: bounded in expected seconds of work, so that tiny tasks queue deep, which
keeps agents busy between two messages, and long ones bind late, which leaves placement its choice."""

from __future__ import annotations

from typing import Any, Final

import msgspec

UNKNOWN_S: Final = 1.0
"""What a task is taken to last as long as nothing is known of its type: long enough not to be queued deep."""

TYPES_KEPT: Final = 10_000
"""Types remembered; beyond them the one first met is forgotten."""

_WEIGHT: Final = 0.2
"""Of the newest observation in the moving average."""


class LookAhead(msgspec.Struct, frozen=True):
    """The bound on what an agent holds: `seconds` of expected work per slot, but always `least` attempts
    beyond its slots and never more than `most`."""

    seconds: float = 0.020
    least: int = 1
    most: int = 10_000
    brief_s: float = 0.25


class Durations:
    """What attempts last, by task type: an exponentially weighted moving average in seconds."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def observe(self, task_type: str, seconds: float) -> None:
        """An attempt of this type has completed. What is no duration is passed over."""
        if not 0 <= seconds < float("inf"):
            return
        known = self._means.get(task_type)
        if known is None and len(self._means) >= TYPES_KEPT:
            del self._means[next(iter(self._means))]
        self._means[task_type] = seconds if known is None else known + _WEIGHT * (seconds - known)

    def expected_s(self, task_type: str, client_ms: int = 0) -> float:
        """The longer of what was observed of the type and what the client expects: too long costs a little
        throughput, too short ties a long task to a busy agent. `UNKNOWN_S` where there is neither."""
        observed = self._means.get(task_type)
        if client_ms <= 0:
            return UNKNOWN_S if observed is None else observed
        return max(client_ms / 1_000, observed or 0.0)


def may_queue(held: Any, slots: Any, held_s: Any, task_s: float, bound: LookAhead) -> Any:
    """Whether an agent that holds `held` attempts of `held_s` expected seconds, all its slots taken, may have
    one more of `task_s` seconds in its queue. For one agent with numbers, for many with arrays."""
    queued = held - slots
    return (queued < bound.least) | ((queued < bound.most) & (held_s + task_s <= bound.seconds * slots))
