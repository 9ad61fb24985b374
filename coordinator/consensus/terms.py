"""Which entry belongs to which term, held as runs: terms never fall along a log, and there are few of
them."""

from __future__ import annotations

from bisect import bisect_right


class TermRuns:
    """The terms of the log from a base entry on. Each run is a first index and a term; a run ends where
    the next begins."""

    def __init__(self, index: int, term: int) -> None:
        self._firsts = [index]
        self._terms = [term]

    @property
    def last(self) -> int:
        """The highest term."""
        return self._terms[-1]

    def extend(self, index: int, term: int) -> None:
        """The entry after all others is `index`, of `term`."""
        if term < self._terms[-1]:
            raise ValueError(f"entry {index} has term {term} after an entry of term {self._terms[-1]}")
        if term > self._terms[-1]:
            self._firsts.append(index)
            self._terms.append(term)

    def at(self, index: int) -> int:
        """The term of an entry that the log holds."""
        return self._terms[self._run(index)]

    def runs(self, first: int, last: int, limit: int) -> list[tuple[int, int]]:
        """The newest runs, at most `limit`, that have entries from `first` to `last`: the first index, not
        below `first`, and the term of each."""
        if last < first:
            return []
        found = range(self._run(first), self._run(last) + 1)[-limit:]
        return [(max(first, self._firsts[run]), self._terms[run]) for run in found]

    def last_up_to(self, term: int, index: int) -> int:
        """The highest index, not above `index`, whose term is not above `term`; the base's own if there
        is no other."""
        run = bisect_right(self._terms, term)
        return index if run == len(self._terms) else max(self._firsts[0], min(index, self._firsts[run] - 1))

    def truncate_from(self, index: int) -> None:
        """Entries from `index` on are gone."""
        while self._firsts[-1] >= index:
            self._firsts.pop()
            self._terms.pop()

    def compact_to(self, index: int) -> None:
        """The base is now `index`."""
        run = self._run(index)
        self._firsts = [index, *self._firsts[run + 1 :]]
        self._terms = self._terms[run:]

    def _run(self, index: int) -> int:
        return bisect_right(self._firsts, index) - 1
