"""What ends have taught, by agent and kind of task: sums that fade, in integers alone.

Every node counts the same ends in the same order, so that a new leader knows what the one before did.
Durations count by the logarithm to base 2 of `duration x advertised speed / basis`, in fixed point; the
*basis* is what the client expects, or a second where it does not say. Beside them stand the logarithms of
what tasks read, where their clients say that instead.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

import msgspec

from coordinator.core.kinds import Pair
from coordinator.core.limits import HISTORY_GONE_ENDS, HISTORY_KEPT, HISTORY_WINDOW
from coordinator.core.logarithms import FRACTION_BITS, log2_fixed

FAILED_ONE: Final = 256
"""One failure, as it is counted: the count fades by less than one."""

LONGEST_US: Final = 10**15
"""No attempt lasts so long: what claims to is not learned from."""

_FARTHEST: Final = 7 << FRACTION_BITS
"""An end that lies farther from the mean of those before it counts as if it were there."""
_TELLING: Final = 3
"""So many ends make a mean that others are held against."""
_SPEED_BITS: Final = 20
_SPEED_ONE: Final = 1 << _SPEED_BITS
_SLOWEST: Final = 2.0**-_SPEED_BITS
_FASTEST: Final = 2.0**_SPEED_BITS
"""Speeds beyond these count as 1."""

SUMS: Final = "total", "squares", "read", "read_squares", "products"
"""Of `Ends`, what fades with their number."""


class Ends(msgspec.Struct, array_like=True, gc=False):
    """Of a pair: how many completed, the sum of their logarithms and of those squared, and how many failed by
    their agent's fault, in units of `FAILED_ONE`; `read`, `read_squares` and `products` are the sums of the
    logarithms of what was read, of those squared, and of those times the former. `used` orders pairs by their
    last end."""

    used: int = 0
    count: int = 0
    total: int = 0
    squares: int = 0
    failed: int = 0
    read: int = 0
    read_squares: int = 0
    products: int = 0

    def complete(self, log2: int, read_log2: int = 0) -> None:
        """One more has completed."""
        if self.failed:
            self._fade_failures()
        count = self.count
        if count >= _TELLING:
            mean = self.total // count
            if not -_FARTHEST <= log2 - mean <= _FARTHEST:
                log2 = mean + (_FARTHEST if log2 > mean else -_FARTHEST)
        if count >= HISTORY_WINDOW:
            self.total -= _part(self.total)
            self.squares -= _part(self.squares)
            if self.read or self.read_squares or self.products:
                self.read -= _part(self.read)
                self.read_squares -= _part(self.read_squares)
                self.products -= _part(self.products)
        else:
            self.count = count + 1
        self.total += log2
        self.squares += log2 * log2
        self.read += read_log2
        self.read_squares += read_log2 * read_log2
        self.products += read_log2 * log2

    def fail(self) -> None:
        """One more has failed."""
        self._fade_failures()
        self.failed += FAILED_ONE

    def absorb(self, other: Ends) -> None:
        """Those of an agent that is forgotten count here, and all together for no more than
        `HISTORY_GONE_ENDS`. Its failures are forgotten with it."""
        count = self.count + other.count
        self.count = min(count, HISTORY_GONE_ENDS)
        for name in SUMS:
            value = getattr(self, name) + getattr(other, name)
            setattr(self, name, value if count == self.count else value * HISTORY_GONE_ENDS // count)

    def _fade_failures(self) -> None:
        if self.failed and self.count * FAILED_ONE + self.failed >= HISTORY_WINDOW * FAILED_ONE:
            # Rounded up: it must come to nothing.
            self.failed -= -(-self.failed // HISTORY_WINDOW)


class History:
    """Of all pairs, the one longest without an end first."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: OrderedDict[Pair, Ends] = OrderedDict()

    def row(self, pair: Pair) -> Ends:
        """Of a pair that may be new."""
        row = self.rows.get(pair)
        if row is None:
            row = self.rows[pair] = Ends()
        return row

    def shrink(self) -> list[Pair]:
        """Let go of the pairs beyond `HISTORY_KEPT`; returns them."""
        return [self.rows.popitem(last=False)[0] for _ in range(len(self.rows) - HISTORY_KEPT)]

    def forget(self, agents: Collection[str]) -> dict[Pair, Ends | None]:
        """These agents are gone for good: what they taught of each kind stays, as of agents unknown. Returns
        the pairs that have changed, and what there is of them now."""
        changed: dict[Pair, Ends | None] = {}
        for pair in [one for one in self.rows if one[0] in agents]:
            ends = self.rows.pop(pair)
            changed[pair] = None
            if ends.count:
                unknown = "", pair[1]
                changed[unknown] = self.row(unknown)
                self.rows[unknown].absorb(ends)
        return changed


def work_log2(duration_us: int, speed: float, expected_ms: int) -> int:
    """What an end says of the work of its kind. Total: a speed may be anything."""
    # Also refuses NaN, which compares false.
    scaled = int(speed * _SPEED_ONE) if _SLOWEST <= speed <= _FASTEST else _SPEED_ONE
    basis = log2_fixed(1_000 * expected_ms) if expected_ms > 0 else _SECOND
    return log2_fixed((duration_us or 1) * scaled) - (_SPEED_BITS << FRACTION_BITS) - basis


_SECOND: Final = log2_fixed(1_000_000)


def _part(amount: int) -> int:
    """What fades of a sum when its window is full, rounded to the nearest."""
    return (2 * amount + HISTORY_WINDOW) // (2 * HISTORY_WINDOW)
