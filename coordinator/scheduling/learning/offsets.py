"""By how much the tasks of a DAG differ from what was seen of their kinds elsewhere.

In logarithms, the work of a kind in a DAG is that of the kind elsewhere, plus an offset of the DAG that all
its kinds share, plus one of its own, plus noise. Both offsets are normal around 0, and what is known of them
follows from the ends that there are (a random effect within another: Gelman and Hill, Data Analysis Using
Regression and Multilevel/Hierarchical Models, 2007, chapter 12). A DAG of forty times as much data shows so
with its first ends, and what its other kinds take is expected to be as much more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from coordinator.core.kinds import Kind


class Prior(NamedTuple):
    """The variances of both offsets before there are ends."""

    shared: float
    own: float


UNSTATED: Final = Prior(1.0, 0.25)
"""Of kinds that are known from elsewhere alone: the size of the input makes the difference, mostly."""

STATED: Final = Prior(0.04, 0.02)
"""Of kinds whose clients say what to expect of each task."""


_PRIOR_KINDS: Final = 4.0
"""What is believed of the variance between kinds counts for so many of them."""


class Belief(NamedTuple):
    """Mean and variance of what a logarithm is in the mean."""

    mean: float
    variance: float


class _Ends:
    """Of one kind in one DAG: how many, the sum of their logarithms, and what was believed of the kind before
    the first of them. `weight` and `offset` are what it counts for in the sums of the DAG."""

    __slots__ = ("before", "count", "offset", "total", "weight")

    def __init__(self, before: Belief | None) -> None:
        self.before = before
        self.count = self.total = self.weight = self.offset = 0.0


class _Dag:
    """What the kinds of one DAG say of the offset that they share, as sums over those that say anything: of
    their weights, of offsets by weight, of offsets and of these squared."""

    __slots__ = ("count", "kinds", "pull", "squares", "total", "weight")

    def __init__(self) -> None:
        self.kinds: dict[Kind, _Ends] = {}
        self.count = 0
        self.weight = self.pull = self.total = self.squares = 0.0

    def take(self, ends: _Ends, weight: float, offset: float) -> None:
        """What a kind says now takes the place of what it said."""
        self.count += ends.weight == 0
        self.weight += weight - ends.weight
        self.pull += weight * offset - ends.weight * ends.offset
        self.total += offset - ends.offset
        self.squares += offset * offset - ends.offset * ends.offset
        ends.weight, ends.offset = weight, offset

    def own(self, prior: float) -> float:
        """The variance between the offsets of its kinds."""
        if self.count < 2:
            return prior
        around = max(self.squares - self.total * self.total / self.count, 0.0)
        return (_PRIOR_KINDS * prior + around) / (_PRIOR_KINDS + self.count - 1)


class Offsets:
    """Of all DAGs that have ends, by number."""

    def __init__(self) -> None:
        self._dags: dict[int, _Dag] = {}

    def __len__(self) -> int:
        return len(self._dags)

    def __contains__(self, dag: int) -> bool:
        """Whether it has any ends."""
        return dag in self._dags

    def observe(self, dag: int, kind: Kind, value: float, noise: float, before: Belief | None) -> None:
        """A task has ended; `noise` is the variance between ends of its kind, `before` what is believed of
        the kind without the DAG, None if nothing is known: only that of the first end counts."""
        of_dag = self._dags.get(dag)
        if of_dag is None:
            of_dag = self._dags[dag] = _Dag()
        ends = of_dag.kinds.get(kind)
        if ends is None:
            ends = of_dag.kinds[kind] = _Ends(before)
        ends.count += 1
        ends.total += value
        if ends.before is None:
            return
        spread = noise / ends.count + of_dag.own(prior_of(kind).own) + ends.before.variance
        of_dag.take(ends, 1 / spread, ends.total / ends.count - ends.before.mean)

    def believe(self, dag: int, kind: Kind, noise: float, now: Belief) -> Belief:
        """What the work of a kind is in this DAG, given what is believed of the kind by `now`."""
        shared, own = prior_of(kind)
        of_dag = self._dags.get(dag)
        if of_dag is None:
            return Belief(now.mean, now.variance + shared + own)
        own = of_dag.own(own)
        ends = of_dag.kinds.get(kind)
        if ends is None:
            weight = of_dag.weight + 1 / shared
            return Belief(now.mean + of_dag.pull / weight, now.variance + own + 1 / weight)
        before = ends.before or now
        # Its own ends count once: what the others say of the offset is the prior.
        weight = of_dag.weight - ends.weight + 1 / shared
        expected = before.mean + (of_dag.pull - ends.weight * ends.offset) / weight
        trust = 1 / (before.variance + own + 1 / weight)
        found = trust + ends.count / noise
        return Belief((trust * expected + ends.total / noise) / found, 1 / found)

    def ends(self, dag: int, kind: Kind) -> tuple[float, float, bool]:
        """How many tasks of a kind have ended in this DAG, the sum of their logarithms, and whether anything
        was known of the kind before."""
        of_dag = self._dags.get(dag)
        ends = of_dag.kinds.get(kind) if of_dag is not None else None
        return (ends.count, ends.total, ends.before is not None) if ends is not None else (0.0, 0.0, True)

    def forget(self, dag: int) -> None:
        """The DAG has ended."""
        self._dags.pop(dag, None)


def prior_of(kind: Kind) -> Prior:
    """Of the offsets of a kind."""
    return STATED if kind.stated else UNSTATED
