"""The few faults of a schedule that it takes to break a promise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from chaos.sim.plan import Plan
from chaos.sim.run import Result, run
from chaos.sim.shrinking import shrink

_TRIES: Final = 500


class Reduced(NamedTuple):
    """`numbers` are the places of the faults that are left in the plan's whole schedule; `result` is what
    comes of them."""

    numbers: tuple[int, ...]
    result: Result


def only(plan: Plan, numbers: Sequence[int]) -> Plan:
    """The same world with these faults alone."""
    return msgspec.structs.replace(plan, faults=tuple(plan.faults[number] for number in numbers))


def reduce(failed: Result, seconds: float) -> Reduced:
    """Cut the schedule of a plan that failed down, for so many seconds of real time at the most. Whatever
    promise a part of it breaks counts."""
    over_s = time.monotonic() + seconds
    best = Reduced(tuple(range(len(failed.plan.faults))), failed)

    def fails(numbers: Sequence[int]) -> bool:
        nonlocal best
        if time.monotonic() > over_s:
            return False
        result = run(only(failed.plan, numbers))
        if result.violations:
            best = Reduced(tuple(numbers), result)
        return bool(result.violations)

    shrink(best.numbers, fails, tries=_TRIES)
    return best
