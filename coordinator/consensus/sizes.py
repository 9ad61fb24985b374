"""How many bytes of payload a log holds, and where its last so many bytes begin; in runs of entries, so that
it takes little memory and is right to within a run."""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import Final

RUN_BYTES: Final = 1 << 20
"""A run ends with the entry that makes it this large."""


class _Run:
    """Consecutive entries up to `last`, and their bytes."""

    def __init__(self, last: int, size: int) -> None:
        self.last = last
        self.size = size


class SizeRuns:
    """The sizes of the log's entries, oldest first. What is cut off within a run is still counted."""

    def __init__(self) -> None:
        self.total = 0
        self._runs: deque[_Run] = deque()

    def extend(self, index: int, size: int) -> None:
        """The entry after all others is `index`, of `size` bytes."""
        self.total += size
        if not self._runs or self._runs[-1].size >= RUN_BYTES:
            self._runs.append(_Run(index, size))
        else:
            self._runs[-1].last = index
            self._runs[-1].size += size

    def truncate_from(self, index: int) -> None:
        """Entries from `index` on are gone."""
        while len(self._runs) > 1 and self._runs[-2].last >= index:
            self.total -= self._runs.pop().size
        if self._runs:
            self._runs[-1].last = min(self._runs[-1].last, index - 1)

    def compact_to(self, index: int) -> None:
        """Entries up to and with `index` are gone."""
        while self._runs and self._runs[0].last <= index:
            self.total -= self._runs.popleft().size

    def index_before(self, size: int) -> int:
        """The lowest index behind which no more than `size` bytes lie, or a run's more; 0 if that is all."""
        kept = 0

        def fits(run: _Run) -> bool:
            nonlocal kept
            kept += run.size
            return kept <= size

        within = sum(1 for _ in takewhile(fits, reversed(self._runs)))
        return 0 if within == len(self._runs) else self._runs[-within - 1].last
