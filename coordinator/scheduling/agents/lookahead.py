"""How deep an agent's queue may be: bounded in expected seconds of work, so that tiny tasks queue deep, which
keeps agents busy between two messages, and long ones bind late, which leaves placement its choice."""

from __future__ import annotations

from typing import Any

import msgspec


class LookAhead(msgspec.Struct, frozen=True):
    """The bound on what an agent holds: `seconds` of expected work per slot, but of tasks of up to `brief_s`
    always `least` attempts beyond its slots, and never more than `most`. What lasts longer waits for a free
    slot: the time between two messages is little beside it, and the best agent is known best at the last
    moment."""

    seconds: float = 0.020
    least: int = 1
    most: int = 10_000
    brief_s: float = 0.25


def may_queue(held: Any, slots: Any, held_s: Any, task_s: float, bound: LookAhead) -> Any:
    """Whether an agent that holds `held` attempts of `held_s` expected seconds, all its slots taken, may have
    one more of `task_s` seconds in its queue. For one agent with numbers, for many with arrays."""
    queued = held - slots
    least = bound.least if task_s <= bound.brief_s else 0
    return (queued < least) | ((queued < bound.most) & (held_s + task_s <= bound.seconds * slots))
