"""The tasks of a round of many, by column: many classes of few tasks cost little more than few of many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.core.commands import Choice
from coordinator.core.model import INDEX_BITS
from coordinator.scheduling.agents.rows import BoolRow, FloatRow, IntRow
from coordinator.scheduling.plans.turns import Line
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import TaskClass, WaitingTable, column

_LEVELS: Final = 8
_STRETCHES: Final = 8
"""Told apart by priority, and by whether tasks are brief; the rest goes together."""


class Crowd(NamedTuple):
    """Tasks, class after class: `rows` are by class its row in `WaitingTable.columns`, `of` is by task the
    position of its class, ascending, and every class has some. `work` is in seconds at speed 1; `brief` are
    those that may queue (`Snapshot.is_brief`)."""

    waiting: WaitingTable
    rows: NDArray[np.intp]
    of: NDArray[np.intp]
    keys: IntRow
    attempts: IntRow
    work: FloatRow
    brief: BoolRow

    def __len__(self) -> int:
        return len(self.keys)

    def members(self, at: int) -> TaskClass:
        """The class at this position."""
        return self.waiting.by_row[self.rows.item(at)]

    def classes(self) -> list[TaskClass]:
        """All of them: of very many it takes longer to visit them than to ask for a `column`."""
        by_row = self.waiting.by_row
        return [by_row[row] for row in self.rows.tolist()]

    def column(self, name: str) -> IntRow:
        """Of each class what the table of what waits has in this column."""
        return self.waiting.columns[name][self.rows]

    def counts(self) -> NDArray[np.intp]:
        """Tasks of each class."""
        return np.bincount(self.of, minlength=len(self.rows))

    def only(self, which: BoolRow) -> Crowd:
        """Those of the tasks, and their classes."""
        if which.all():
            return self
        of = self.of[which]
        first = _begins(of)
        return Crowd(
            self.waiting,
            self.rows[of[first]],
            np.cumsum(first) - 1,
            self.keys[which],
            self.attempts[which],
            self.work[which],
            self.brief[which],
        )

    def blocks(self, classes: int) -> Iterator[Crowd]:
        """Its tasks by so many classes."""
        return self._parts([*range(0, len(self.rows), classes), len(self.rows)])

    def by(self, number: IntRow) -> Iterator[Crowd]:
        """Its tasks by the numbers of their classes, in the order of the first of each."""
        order = number.argsort(kind="stable")
        begins = _begins(number[order]).nonzero()[0]
        first = np.empty_like(order)
        first[order] = np.repeat(order[begins], np.diff(begins, append=len(order)))
        classes, tasks = first.argsort(kind="stable"), first[self.of].argsort(kind="stable")
        place = np.empty_like(classes)
        place[classes] = np.arange(len(classes))
        sorted_by = Crowd(
            self.waiting,
            self.rows[classes],
            place[self.of[tasks]],
            self.keys[tasks],
            self.attempts[tasks],
            self.work[tasks],
            self.brief[tasks],
        )
        return sorted_by._parts([*_begins(first[classes]).nonzero()[0].tolist(), len(classes)])

    def _parts(self, bounds: Sequence[int]) -> Iterator[Crowd]:
        """Its tasks by classes: those from each of the bounds to the next."""
        ends = np.searchsorted(self.of, bounds).tolist()
        for (first, last), (begin, end) in zip(pairwise(bounds), pairwise(ends), strict=True):
            some = slice(begin, end)
            yield Crowd(
                self.waiting,
                self.rows[first:last],
                self.of[some] - first,
                self.keys[some],
                self.attempts[some],
                self.work[some],
                self.brief[some],
            )

    def levels(self) -> Iterator[Crowd]:
        """Its tasks by priority, in their order."""
        ends = _changes(self.column("level"))[:_LEVELS]
        yield from self._parts([0, *ends.tolist(), len(self.rows)])

    def stretches(self) -> Iterator[Crowd]:
        """Its tasks in their order, as long as they are all brief or all last. What comes behind the first
        few of these stretches is one: very many tasks that alternate would take too long."""
        ends = _changes(self.brief)[:_STRETCHES]
        for begin, end in pairwise([0, *ends.tolist(), len(self)]):
            which = np.zeros(len(self), np.bool_)
            which[begin:end] = True
            yield self.only(which)

    def choices(self, snapshot: Snapshot, rows: NDArray[np.intp]) -> list[Choice]:
        """The first of the tasks go to these agents."""
        ids, count = snapshot.agents.ids, len(rows)
        agents = [ids[row] for row in rows.tolist()]
        epochs: list[int] = snapshot.agents.epochs[rows].tolist()
        return list(map(Choice, self.keys[:count].tolist(), self.attempts[:count].tolist(), agents, epochs))


def _changes(values: IntRow | BoolRow) -> NDArray[np.intp]:
    """Where they are not equal to the one before."""
    places: NDArray[np.intp] = (values[1:] != values[:-1]).nonzero()[0]
    return places + 1


def _begins(values: IntRow | NDArray[np.intp]) -> BoolRow:
    """Which of them are not equal to the one before."""
    begins = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


def crowd_of(snapshot: Snapshot, line: Line) -> Crowd:
    """The first tasks of these classes."""
    waiting = snapshot.waiting
    columns, (rows, counts) = waiting.columns, line
    of = np.repeat(np.arange(len(rows)), counts)
    firsts = rows[of]
    keys, attempts, hints = (columns[name][firsts] for name in ("key", "attempt", "hint"))
    several = counts > 1
    if several.any():
        some = zip(rows[several].tolist(), counts[several].tolist(), strict=True)
        tasks = list(chain.from_iterable([waiting.by_row[row].tasks[:count] for row, count in some]))
        theirs = several[of]
        for name, values in (("key", keys), ("attempt", attempts), ("hint", hints)):
            values[theirs] = column(tasks, name)
    work, brief = _work(snapshot, firsts, keys, hints)
    return Crowd(waiting, rows, of, keys, attempts, work, brief)


def _work(
    snapshot: Snapshot, rows: NDArray[np.intp], keys: IntRow, hints: IntRow
) -> tuple[FloatRow, BoolRow]:
    """Of each task, whose class is in this row, the seconds at speed 1, and whether it is brief. Those of one
    kind and DAG are looked up once."""
    waiting, estimates = snapshot.waiting, snapshot.estimates
    dags, says = keys >> INDEX_BITS, np.sign(hints)
    kinds = 3 * waiting.columns["kind"][rows] + says
    order = np.lexsort((kinds, dags))
    other = _begins(kinds[order]) | _begins(dags[order])
    which = np.empty_like(order)
    which[order] = np.cumsum(other) - 1
    firsts = order[other]
    asked = zip(rows[firsts].tolist(), says[firsts].tolist(), strict=True)
    their_kinds = [waiting.by_row[row].traits.kinds[said] for row, said in asked]
    found = estimates.basics(their_kinds, dags[firsts].tolist())
    second = np.array([one.seconds for one in found])[which]
    work = np.where(says > 0, second * hints * 1e-3, second)
    sized = says < 0
    if sized.any():
        scales = map(
            estimates.scale, [their_kinds[at] for at in which[sized].tolist()], hints[sized].tolist()
        )
        work[sized] *= np.fromiter(scales, np.float64)
    brief_s = snapshot.look_ahead.brief_s
    limit_s = np.array([brief_s if one.known else -1.0 for one in found])[which]
    return work, work <= limit_s


def apart(snapshot: Snapshot, crowd: Crowd) -> BoolRow:
    """Which of the tasks cannot go by class: those that have data to wait for, or an agent to go back to."""
    retried, moved = snapshot.waiting.retried, snapshot.graphs.moved
    found: BoolRow = np.zeros(len(crowd), np.bool_)
    if retried:
        found |= np.array([key in retried for key in crowd.keys.tolist()])
    if moved:
        found |= np.array([dag in moved for dag in (crowd.keys >> INDEX_BITS).tolist()])
    return found
