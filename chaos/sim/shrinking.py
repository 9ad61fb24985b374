"""From a schedule that breaks something to a small part of it that still does.

Delta debugging: `ddmin` of Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002,
section 3. Pure: what is tried is up to the caller's predicate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

Part = TypeVar("Part")


def shrink(parts: Sequence[Part], fails: Callable[[Sequence[Part]], bool], *, tries: int) -> tuple[Part, ...]:
    """A part of `parts`, in their order, that fails still; `parts` are known to. Without any one of its
    own it does not, unless `tries` calls of `fails` did not suffice."""
    left = tuple(parts)
    pieces = 2
    while left and tries > 0:
        for smaller, next_pieces in _smaller(left, min(pieces, len(left))):
            if tries == 0:
                return left
            tries -= 1
            if fails(smaller):
                left, pieces = smaller, next_pieces
                break
        else:
            if pieces >= len(left):
                break
            pieces *= 2
    return left


def _smaller(left: tuple[Part, ...], pieces: int) -> Iterator[tuple[tuple[Part, ...], int]]:
    """Each piece alone, then all but each piece; with the number of pieces to go on with if it fails."""
    cuts = [len(left) * number // pieces for number in range(pieces + 1)]
    spans = list(pairwise(cuts))
    if pieces > 1:
        yield from ((left[start:end], 2) for start, end in spans)
    if pieces != 2:
        yield from ((left[:start] + left[end:], max(pieces - 1, 2)) for start, end in spans)
