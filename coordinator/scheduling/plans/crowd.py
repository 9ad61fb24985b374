"""The tasks of a round of many, by column: many classes of few tasks cost little more than few of many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, compress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coordinator.core.commands import Choice
from coordinator.core.model import INDEX_BITS
from coordinator.scheduling.agents.rows import BoolRow, FloatRow, IntRow
from coordinator.scheduling.plans.turns import Some
from coordinator.scheduling.snapshot import Snapshot
from coordinator.scheduling.tasks.waiting import TaskClass, column


class Crowd(NamedTuple):
    """Tasks, class after class: `of` is by task the position of its class, ascending, and every class has
    some. `demands` are by class (`Demand.packed`), `work` is in seconds at speed 1."""

    classes: list[TaskClass]
    demands: IntRow
    of: NDArray[np.intp]
    keys: IntRow
    attempts: IntRow
    work: FloatRow

    def __len__(self) -> int:
        return len(self.keys)

    def counts(self) -> NDArray[np.intp]:
        """Tasks of each class."""
        return np.bincount(self.of, minlength=len(self.classes))

    def only(self, which: BoolRow) -> Crowd:
        """Those of the tasks, and their classes."""
        if which.all():
            return self
        of = self.of[which]
        there = np.bincount(of, minlength=len(self.classes)) > 0
        classes = list(compress(self.classes, there.tolist()))
        of = (np.cumsum(there) - 1)[of]
        return Crowd(
            classes, self.demands[there], of, self.keys[which], self.attempts[which], self.work[which]
        )

    def each(self) -> Iterator[Crowd]:
        """By class."""
        end = 0
        for at, count in enumerate(self.counts().tolist()):
            begin, end = end, end + count
            keys, attempts, work = self.keys[begin:end], self.attempts[begin:end], self.work[begin:end]
            of = np.zeros(count, np.intp)
            yield Crowd(self.classes[at : at + 1], self.demands[at : at + 1], of, keys, attempts, work)

    def choices(self, snapshot: Snapshot, rows: NDArray[np.intp]) -> list[Choice]:
        """The first of the tasks go to these agents."""
        ids, count = snapshot.agents.ids, len(rows)
        agents = [ids[row] for row in rows.tolist()]
        epochs: list[int] = snapshot.agents.epochs[rows].tolist()
        return list(map(Choice, self.keys[:count].tolist(), self.attempts[:count].tolist(), agents, epochs))


def split(snapshot: Snapshot, some: Sequence[Some]) -> tuple[Crowd, Crowd]:
    """Tasks that wait for a free slot, and brief ones, which may queue (`Snapshot.is_brief`)."""
    classes, queues = zip(*some, strict=True)
    tasks = list(chain.from_iterable(queues))
    of = np.repeat(np.arange(len(some)), list(map(len, queues)))
    keys, attempts, hints = (column(tasks, name) for name in ("key", "attempt", "hint"))
    work, brief = _work(snapshot, classes, of, keys, hints)
    demands = np.frombuffer(b"".join([one.demand.packed for one in classes]), np.int64)
    demands = demands.reshape(len(classes), -1)
    crowd = Crowd(list(classes), demands, of, keys, attempts, work)
    return crowd.only(~brief), crowd.only(brief)


def _work(
    snapshot: Snapshot, classes: Sequence[TaskClass], of: NDArray[np.intp], keys: IntRow, hints: IntRow
) -> tuple[FloatRow, BoolRow]:
    """Of each task, the seconds at speed 1, and whether it is brief. Those that follow each other in a class,
    of one DAG, are looked up once."""
    brief_s = snapshot.look_ahead.brief_s
    dags, says = keys >> INDEX_BITS, np.sign(hints)
    other = np.ones(len(keys), np.bool_)
    other[1:] = (of[1:] != of[:-1]) | (dags[1:] != dags[:-1]) | (says[1:] != says[:-1])
    firsts = other.nonzero()[0]
    said = says[firsts].tolist()
    kinds = [classes[at].kinds[one] for at, one in zip(of[firsts].tolist(), said, strict=True)]
    found = snapshot.estimates.basics(kinds, dags[firsts].tolist())
    run = np.cumsum(other) - 1
    second = np.array([one.seconds for one in found])[run]
    work = np.where(says > 0, second * hints * 1e-3, second)
    sized = says < 0
    if sized.any():
        scales = map(
            snapshot.estimates.scale, (kinds[at] for at in run[sized].tolist()), hints[sized].tolist()
        )
        work[sized] *= np.fromiter(scales, np.float64)
    limit_s = np.array([brief_s if one.known else -1.0 for one in found])[run]
    return work, work <= limit_s
