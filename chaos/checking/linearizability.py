"""Is there an order in which the operations of a history, one at a time, give what their clients saw?

The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the memory of
Lowe ("Testing for linearizability", 2017): operations are placed one after another, each between its two
times; where none fits, the search goes back; a configuration (what has been placed, and the state it led
to) is never entered twice. Histories are divided by key first: linearizability is local (Herlihy and
Wing, 1990, theorem 1; Horn and Kroening, "Faster linearizability checking via P-compositionality", 2015).

What keeps the work small:

* the search goes on where it has come furthest;
* unknown operations, which may take effect at any later time or never, are placed last, and few rather
  than many. A configuration is not entered if one with the same known operations, the same state and
  fewer unknown ones was: whatever can follow the one can follow the other;
* an object that numbers its changes tells in which order they took effect (`Model.rank`).

Pure: histories in, verdicts out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from enum import StrEnum
from heapq import heappop, heappush
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from chaos.checking.history import Operation, Outcome

State = TypeVar("State", bound=Hashable)

STEPS: Final = 2_000_000
"""Steps of a model that the search of one key may take; some seconds."""

_SHOWN: Final = 8
"""Operations of the prefix that an explanation shows."""


class Model(Protocol[State]):
    """What an object does when it is used by one client alone. States are immutable."""

    def initial(self) -> State:
        """The state before any operation."""

    def step(self, state: State, operation: Operation) -> State | None:
        """The state after the operation, if it can give there what its client saw; else None. An unknown
        operation is asked about its taking effect."""

    def rank(self, operation: Operation) -> int | None:
        """A number that never falls from one operation to the next in any order that fits; None for one that
        may stand anywhere."""

    def relevant(self, unknown: Sequence[Operation], known: Sequence[Operation]) -> Sequence[Operation]:
        """The unknown operations without the ones whose effect no known one can have met: if there is an
        order with these, there is one without."""


class Verdict(StrEnum):
    """UNDECIDED: the search was given up. It is no pass."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNDECIDED = "undecided"


class Explanation(NamedTuple):
    """Why a history cannot be ordered. All that was heard of before `stuck` was can be ordered, with
    `prefix` as an order that comes furthest and `state` at its end; `stuck` fits in nowhere."""

    prefix: tuple[Operation, ...]
    state: object
    stuck: Operation

    def __str__(self) -> str:
        hidden = len(self.prefix) - _SHOWN
        lines = [f"  ({hidden} operations before)"] if hidden > 0 else []
        lines += [f"  {operation}" for operation in self.prefix[-_SHOWN:]]
        return "\n".join([*lines, f"  state: {self.state}", f"  cannot be placed: {self.stuck}"])


class Judgement(NamedTuple):
    """What was found about the operations on one key; `explanation` unless they are linearizable."""

    key: str
    verdict: Verdict
    explanation: Explanation | None = None

    def __str__(self) -> str:
        why = f":\n{self.explanation}" if self.explanation else ""
        return f"{self.key} is {self.verdict}{why}"


def judge(history: Iterable[Operation], model: Model[State], *, steps: int = STEPS) -> list[Judgement]:
    """One judgement for each key, in order; `steps` bounds the work on each."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    return [_Search(by_key[key], model, steps).judgement(key) for key in sorted(by_key)]


class _Configuration(NamedTuple, Generic[State]):
    """Known operations are numbered by when they were heard of: those below `heard` have been placed, and of
    the others those whose bit (number - `heard`) is in `ahead`. `used` has a bit for each unknown operation
    that was placed, `path` the way here, last operation first."""

    heard: int
    ahead: int
    used: int
    state: State
    path: _Path | None


class _Path(NamedTuple):
    operation: Operation
    before: _Path | None


class _GivenUp(Exception):
    """The bound on the work is reached."""


class _Search(Generic[State]):
    """The search for an order of operations on one key."""

    def __init__(self, history: Sequence[Operation], model: Model[State], steps: int) -> None:
        self._model = model
        self._steps = steps
        self._known = sorted(
            (operation for operation in history if operation.outcome is Outcome.OK),
            key=lambda operation: operation.completed,
        )
        self._ranks = [model.rank(operation) for operation in self._known]
        self._concurrent = _concurrent(self._known)
        unknown = [operation for operation in history if operation.outcome is Outcome.UNKNOWN]
        self._unknown = sorted(model.relevant(unknown, self._known), key=lambda operation: operation.invoked)
        self._furthest = _Configuration(0, 0, 0, model.initial(), None)
        self._entered: dict[tuple[int, int, State], list[int]] = {}
        self._waiting: list[tuple[int, int, int, int, bool, _Configuration[State]]] = []
        """A heap. First what has come furthest, then what has placed the fewest unknown operations, then the
        newest. The flag says which operations are to be placed next: known ones, or unknown ones."""
        self._numbered = 0

    def judgement(self, key: str) -> Judgement:
        """The verdict, explained."""
        try:
            found = self._run()
        except _GivenUp:
            return Judgement(key, Verdict.UNDECIDED, self._explanation())
        if found:
            return Judgement(key, Verdict.LINEARIZABLE)
        return Judgement(key, Verdict.NOT_LINEARIZABLE, self._explanation())

    def _run(self) -> bool:
        self._enter(self._furthest)
        while self._waiting and self._furthest.heard < len(self._known):
            *_, unknown, configuration = heappop(self._waiting)
            following = self._with_unknown if unknown else self._with_known
            for after in following(configuration):
                self._enter(after)
            if not unknown:
                self._wait(configuration, unknown=True)
        return self._furthest.heard == len(self._known)

    def _enter(self, configuration: _Configuration[State]) -> None:
        """Go on from this configuration, if it promises more than those that were entered before."""
        place = (configuration.heard, configuration.ahead, configuration.state)
        used = configuration.used
        before = self._entered.get(place, [])
        if any(other & used == other for other in before):
            return
        self._entered[place] = [*(other for other in before if other & used != used), used]
        if _progress(configuration) > _progress(self._furthest):
            self._furthest = configuration
        self._wait(configuration, unknown=False)

    def _wait(self, configuration: _Configuration[State], *, unknown: bool) -> None:
        heard, ahead = _progress(configuration)
        cost = configuration.used.bit_count() + unknown
        self._numbered += 1
        heappush(self._waiting, (-heard, cost, -ahead, -self._numbered, unknown, configuration))

    def _with_known(self, configuration: _Configuration[State]) -> Iterator[_Configuration[State]]:
        """A known operation comes next: one that was sent before the next answer was heard, and whose rank is
        the lowest of those. One that fits and changes nothing need not wait for any other."""
        heard, ahead, used, state, path = configuration
        candidates = [number for number in self._concurrent[heard] if not ahead >> (number - heard) & 1]
        ranks = [rank for number in candidates if (rank := self._ranks[number]) is not None]
        lowest = min(ranks, default=None)
        for number in candidates:
            if self._ranks[number] not in (None, lowest):
                continue
            operation = self._known[number]
            if (after := self._step(state, operation)) is not None:
                yield _placed(heard, ahead | 1 << (number - heard), used, after, _Path(operation, path))
                if after == state:
                    return

    def _with_unknown(self, configuration: _Configuration[State]) -> Iterator[_Configuration[State]]:
        """An unknown operation comes next: one that was sent before the next answer was heard."""
        heard, ahead, used, state, path = configuration
        answered = self._known[heard].completed
        sent = bisect_right(self._unknown, answered, key=lambda operation: operation.invoked)
        tried = set()
        for number, operation in enumerate(self._unknown[:sent]):
            kind = (operation.name, operation.arguments, operation.result)
            if used >> number & 1 or kind in tried:
                continue
            tried.add(kind)
            if (after := self._step(state, operation)) is not None:
                yield _Configuration(heard, ahead, used | 1 << number, after, _Path(operation, path))

    def _step(self, state: State, operation: Operation) -> State | None:
        self._steps -= 1
        if self._steps < 0:
            raise _GivenUp
        return self._model.step(state, operation)

    def _explanation(self) -> Explanation:
        order: list[Operation] = []
        path = self._furthest.path
        while path is not None:
            order.append(path.operation)
            path = path.before
        return Explanation(tuple(reversed(order)), self._furthest.state, self._known[self._furthest.heard])


def _concurrent(known: Sequence[Operation]) -> list[list[int]]:
    """For each operation, in the order in which they were heard of, it and those heard of later that were
    sent before it was heard of: the ones that sent first come first."""
    by_sending = sorted(range(len(known)), key=lambda number: known[number].invoked)
    open_ones: list[int] = []
    found, sent = [], 0
    for number, operation in enumerate(known):
        while sent < len(known) and known[by_sending[sent]].invoked <= operation.completed:
            open_ones.append(by_sending[sent])
            sent += 1
        found.append([other for other in open_ones if other >= number])
        open_ones = [other for other in open_ones if other > number]
    return found


def _placed(heard: int, ahead: int, used: int, state: State, path: _Path) -> _Configuration[State]:
    while ahead & 1:
        heard, ahead = heard + 1, ahead >> 1
    return _Configuration(heard, ahead, used, state, path)


def _progress(configuration: _Configuration[State]) -> tuple[int, int]:
    return configuration.heard, configuration.ahead.bit_count()
